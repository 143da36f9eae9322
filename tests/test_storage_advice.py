"""What the disk refuses is told with what to do now: that is another thing for each command."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from command_line import LIMIT, TINY, contents, copied, crh, refused
from conftest import Made
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from crh_train.run_store import RunFolder

FULL = "File too large; nothing unfinished has been given a name; "
NOWHERE = Path("/proc/nothing")  # which nobody can make
EXPORTS = ("tensorboard", "safetensors", "mlflow")


def limited(kibibytes: int, *words: str | Path, env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command on a disk that takes no file larger than so much."""
    line = f'ulimit -f {kibibytes}; "$@"'
    command = ["bash", "-c", line, "bash", sys.executable, "-m", "crh_train", *map(str, words)]
    # Compiled modules would be cut off in the midst, and damaged ones are left.
    environ = {**env, "JAX_ENABLE_COMPILATION_CACHE": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, env=environ, cwd=cwd, capture_output=True, text=True, timeout=LIMIT, check=False)


def test_a_run_that_was_not_begun_is_given_again(env: dict[str, str], tmp_path: Path) -> None:
    said = refused(crh("run", *TINY, "--runs", NOWHERE, env=env, cwd=tmp_path), 3)
    assert said.startswith(f"Could not make {NOWHERE}: ")
    assert said.endswith("; see to the disk, or choose another --runs, then give the command again")


def test_a_sweep_is_given_again(env: dict[str, str], tmp_path: Path) -> None:
    said = refused(crh("run", "-m", *TINY, "--runs", NOWHERE, env=env, cwd=tmp_path), 3)
    assert "; see to the disk, then give the same words again: crh-train run -m conf=mri_step " in said


@pytest.mark.parametrize(("kibibytes", "inside"), [(0, ".lock"), (4, "reports/")])
def test_a_run_that_was_begun_is_resumed(
    kibibytes: int, inside: str, interrupted: Made, env: dict[str, str], tmp_path: Path
) -> None:
    """At its beginning, or at its end."""
    run = copied(interrupted.run("term-stopped"), tmp_path / "a b")
    words = ("resume", run.name, "--runs", "a b", "runtime.threads=1")
    said = refused(limited(kibibytes, *words, env=env, cwd=tmp_path), 3)
    assert said.startswith(f"Could not write a b/{run.name}/{inside}")
    assert said.endswith(f"{FULL}see to the disk, then go on: crh-train resume {run.name} --runs 'a b'")


def test_a_replay_needs_room_for_its_scratch(finished: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "runs")
    before = contents(tmp_path)
    for words in ([], ["--jobs", "2"]):
        said = refused(limited(4, "replay", run.name, *words, env=env, cwd=tmp_path), 3)
        assert said.startswith(f"Could not write {env['TMPDIR']}/crh-train-replay-")
        assert said.endswith(f"{FULL}the run was not touched: set TMPDIR to a folder with room, and replay it again")
    assert contents(tmp_path) == before


def test_what_is_written_elsewhere_can_go_elsewhere(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    said = refused(limited(4, "report", store.name, env=env, cwd=tmp_path), 3)
    assert said.endswith(f"{FULL}see to the disk, or put the page elsewhere with -o FILE")
    for target in EXPORTS[:2]:
        said = refused(limited(0, "export", store.name, "--to", target, "-o", "out", env=env, cwd=tmp_path), 3)
        assert said.endswith(f"{FULL}see to the disk, or give another -o")


def test_what_was_stopped_half_way_says_so(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    said = refused(limited(0, "gc", "--keep", "2", env=env, cwd=tmp_path), 3)
    assert said.endswith(f"{FULL}what is gone is written down; see to the disk, then give the command again")
    (tmp_path / "key").write_bytes(
        Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    said = refused(limited(0, "sign", store.name, "--key", "key", env=env, cwd=tmp_path), 3)
    assert said.endswith(f"{FULL}nothing was signed: see to the disk, then sign again")


@pytest.mark.parametrize("words", [["run", *TINY], ["run", "-m", *TINY], ["data", "check", TINY[0]]])
def test_a_temporary_folder_without_room_is_named(words: list[str], env: dict[str, str], tmp_path: Path) -> None:
    """Where a byte can be written, Python takes it for usable; a configuration is more."""
    own = tmp_path / "scratch"
    own.mkdir()
    said = refused(limited(1, *words, env={**env, "TMPDIR": str(own)}, cwd=tmp_path), 3)
    assert said == (
        f"the temporary folder cannot be used: {own}: File too large; make room there, or set TMPDIR to a folder that "
        "has some"
    )
    assert list(own.iterdir()) == []


# --- exports -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", EXPORTS)
def test_a_file_in_the_way_of_an_export_is_a_mistake(
    target: str, finished: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    for output in (taken, taken / "deeper" / "x.safetensors"):
        if (target, output) == ("mlflow", taken):
            continue  # a file is what it wants, though not this one
        words = ("export", finished.name, "--to", target, "-o", output)
        said = refused(crh(*words, env=env, cwd=finished.path.parents[1]), 2)
        assert (
            said == f"--to {target}: {taken} is a file, and a folder goes there; give another -o. Nothing was written"
        )
    assert contents(tmp_path) == {"taken": b"mine"}


def test_a_folder_in_the_way_of_weights_is_a_mistake(finished: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    taken = tmp_path / "weights.safetensors"
    taken.mkdir()
    words = ("export", finished.name, "--to", "safetensors", "-o", taken)
    said = refused(crh(*words, env=env, cwd=finished.path.parents[1]), 2)
    assert said == f"--to safetensors: {taken} is a folder, and a file goes there; give another -o. Nothing was written"


# --- stores that are not there -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["list", "gc", "compare"])
def test_a_store_that_is_not_there_has_to_be_named_right(command: str, env: dict[str, str], tmp_path: Path) -> None:
    said = refused(crh(command, "--runs", "TYPO", env=env, cwd=tmp_path), 2)
    assert said == "--runs TYPO: there is no such folder; give the one that has the runs"
    (tmp_path / "TYPO").mkdir()
    for words in ([command, "--runs", "TYPO"], [command]):  # the default one is there once there is a run
        assert crh(*words, env=env, cwd=tmp_path).returncode == 0


# --- what to type next ---------------------------------------------------------------------------------------------


def test_what_comes_next_can_be_pasted(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    """It is given to a shell, in which each command is crh-train's and ends well."""
    shutil.move(tmp_path / "runs", tmp_path / "my runs; $(false)")
    where = ("--runs", "my runs; $(false)")
    for words in (["list"], ["show", store.name], ["gc", "--dry-run", "--keep", "2"], ["gc"], ["diagnose", store.name]):
        said = crh(*words, *where, env=env, cwd=tmp_path).stdout
        following = said.splitlines()[-1].removeprefix("next: ")
        assert following.startswith("crh-train ")
        assert following.endswith(" --runs 'my runs; $(false)'")
        if following.startswith("crh-train replay"):
            continue
        line = f'crh-train() {{ {sys.executable} -m crh_train "$@"; }}; {following}'
        subprocess.run(["bash", "-ec", line], env=env, cwd=tmp_path, check=True, capture_output=True)
    said = refused(crh("show", "abc", *where, env=env, cwd=tmp_path), 2)
    assert "`crh-train list --runs 'my runs; $(false)'`" in said


# --- no home -------------------------------------------------------------------------------------------------------


def test_without_a_home_pictures_are_drawn_without_a_word(
    store: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    bare = {**env, "HOME": str(NOWHERE), "PYTHONWARNINGS": "error"}
    said = crh("report", store.name, env=bare, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
