"""`crh-train` in processes of its own, for the tests of what crosses processes, and small runs to try it on."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import crh_train
from crh_train.chronicle import CHAIN_NAME, CHAIN_RECORD, LINES_NAME
from crh_train.run_store import RunFolder, RunStore

SMALL = (
    "data.downsample=4",
    "data.shape=[48,48]",
    "engine.batch_size=4",
    "runtime.progress=false",
)
"""What makes a run of any configuration one of seconds."""

TINY = ("conf=mri_step", *SMALL, "engine.epochs=3", "model.channels=4", "model.layers=2")
"""The run that most tests share: six steps an epoch."""
EPOCHS, STEPS_PER_EPOCH = 3, 6

COMMANDS = (
    "run",
    "replay",
    "verify",
    "sign",
    "resume",
    "list",
    "show",
    "diff",
    "compare",
    "diagnose",
    "watch",
    "predict",
    "export",
    "report",
    "data",
    "gc",
    "doctor",
)

NOT_OPTIMISED = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
"""For what is not about bits: code that is compiled sooner. That optimised code gives the same under portable
arithmetic is for `test_bit_matrix.py` to show.
"""

LIMIT = 300  # seconds after which a process hangs

STOPPED = Path(__file__).with_name("stopped.py")


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """Nothing of the environment that the tests run in but where programs are; caches and scratch go to `folder`."""
    for name in ("home", "cache", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(crh_train.__file__).parents[1]),
        "PYTHONWARNINGS": "error",
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "TMPDIR": str(folder / "tmp"),
        **changes,
    }


def crh(
    *arguments: str | Path, env: Mapping[str, str], cwd: Path, program: tuple[str, ...] = ("-m", "crh_train")
) -> subprocess.CompletedProcess[str]:
    """One command in a fresh interpreter, to its end."""
    words = [sys.executable, *program, *map(str, arguments)]
    return subprocess.run(
        words, env=dict(env), cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=LIMIT, check=False
    )


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document on standard output."""
    assert done.stdout.count("\n") == 1, (done.stdout, done.stderr)
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def refused(said: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line that an error prints, without its beginning."""
    assert (said.returncode, said.stdout) == (code, ""), said.stderr
    assert said.stderr.count("\n") == 1, said.stderr
    assert said.stderr.startswith("error: ")
    return said.stderr.removeprefix("error: ").removesuffix("\n")


def only_run(runs: Path) -> RunFolder:
    (folder,) = RunStore(runs).list()
    return folder


def trains_and_replays(words: Sequence[str], env: Mapping[str, str], cwd: Path) -> RunFolder:
    """The run of one epoch that `crh-train run` with `words` makes in `cwd`; its replay gives the same bits. Neither
    optimises its code."""
    env = {**env, **NOT_OPTIMISED}
    said = crh("run", *words, "--json", env=env, cwd=cwd)
    assert said.returncode == 0, said.stderr
    trained = document(said)
    assert (trained["status"], trained["epochs"]) == ("finished", 1)
    replayed = document(crh("replay", trained["run"], "--json", env=env, cwd=cwd))
    assert replayed["identical"] is True
    assert replayed["final_state"] == trained["checkpoint_hash"]
    return only_run(cwd / "runs")


def copied(folder: RunFolder, runs: Path) -> RunFolder:
    """The run in another store, to do damage to."""
    shutil.copytree(folder.path, runs / folder.name)
    return RunFolder(runs / folder.name)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def chronicle_text(folder: RunFolder) -> list[str]:
    """The chronicle's lines with their timestamps blanked; all else as it is on disk."""
    lines = (folder.path / LINES_NAME).read_text().splitlines()
    return [line[: (end := line.index(',"step"')) - 16] + "#" * 16 + line[end:] for line in lines]


def ahead(folder: RunFolder) -> tuple[bytes, bytes]:
    """Lines and chain of two steps and a half after the first epoch: what a process killed later than in
    `stopped.py` may have handed to the disk after its last checkpoint."""
    lines = (folder.path / LINES_NAME).read_bytes().splitlines(keepends=True)[STEPS_PER_EPOCH:]
    size = CHAIN_RECORD.size
    chain = (folder.path / CHAIN_NAME).read_bytes()[STEPS_PER_EPOCH * size :]
    return b"".join(lines[:2]) + lines[2][:50], chain[: 2 * size + 10]


def append(folder: RunFolder, lines: bytes, chain: bytes) -> None:
    for name, data in ((LINES_NAME, lines), (CHAIN_NAME, chain)):
        with (folder.path / name).open("ab") as stream:
            stream.write(data)


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, filled by `make` once for all the processes in which pytest-xdist runs the tests."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            working = folder.with_name(f"{folder.name}.making")
            shutil.rmtree(working, ignore_errors=True)
            working.mkdir()
            make(working)
            working.rename(folder)
    return folder
