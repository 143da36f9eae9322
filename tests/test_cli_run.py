"""`crh-train run` in processes of its own: what it does not do twice, sweeps, signals, the environment, the data."""

import shlex
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml
from command_line import COMMANDS, TINY, crh, document, only_run, refused
from conftest import Made

from crh_train.compose import choices, packaged_conf
from crh_train.exports.contents import contents_of
from crh_train.run_store import RunFolder, RunStore

# --- run -----------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_not_done_twice(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.path.rglob("*")}
    for words in (["run", *TINY], ["resume", store.name]):
        said = crh(*words, env=env, cwd=tmp_path)
        assert (said.returncode, said.stderr) == (0, "")
        assert said.stdout.startswith(f"run {store.name} is finished already; this is its result\n")
        assert f"next: crh-train replay {store.name}\n" in said.stdout
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*")} == before


def test_the_next_command_names_the_store_where_it_is_not_the_default(
    store: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    elsewhere = store.path.parent.rename(tmp_path / "elsewhere")
    for words in (["run", *TINY], ["show", store.name], ["verify", store.name], ["list"]):
        said = crh(*words, "--runs", elsewhere, env=env, cwd=tmp_path)
        hint = said.stdout.splitlines()[-1].removeprefix("next: crh-train ").split()
        assert hint[1:] == [store.name, "--runs", str(elsewhere)]
        assert hint[0] in COMMANDS


def test_a_folder_of_any_letters_is_given_recorded_and_given_again(env: dict[str, str], tmp_path: Path) -> None:
    words = [*TINY, "engine.epochs=1", "runtime.cache=t/Prüfung (2)"]
    made = document(crh("run", *words, "--json", env=env, cwd=tmp_path))
    assert made["overrides"] == words[1:]
    assert (tmp_path / "t" / "Prüfung (2)").is_dir()
    (folder,) = RunStore(tmp_path / "runs").list()
    command = contents_of(folder).identity["command"]
    quoted = [*words[:-1], 'runtime.cache="t/Prüfung (2)"']
    for again in (shlex.split(command)[2:], quoted[:]):
        found = document(crh("run", *again, "--json", env=env, cwd=tmp_path))
        assert (found["run_hash"], found["already_finished"]) == (made["run_hash"], True)
    swept = document(crh("run", "-m", *quoted, "engine.seed=0", "--json", env=env, cwd=tmp_path))
    assert [each["already_finished"] for each in swept["runs"]] == [True]
    assert crh("replay", folder.name, words[-1], env=env, cwd=tmp_path).returncode == 0


def test_a_conf_folder_of_one_s_own_comes_first(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    own = tmp_path / "conf"
    own.mkdir()
    for name in ("base.yaml", "mri_step.yaml"):
        shutil.copy(packaged_conf() / name, own / f"{'mine.yaml' if name == 'mri_step.yaml' else name}")
    said = crh("run", "conf=mine", *TINY[1:], "--json", env=env, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert document(said)["run"] == store.name  # the packaged groups, and the same choices: the same run
    assert document(said)["already_finished"] is True
    shadow = yaml.safe_load((own / "mine.yaml").read_text())
    shadow["engine"]["epochs"] = 0
    (own / "mri_step.yaml").write_text(yaml.safe_dump(shadow))
    assert "engine.epochs must be at least 1, got 0" in refused(crh("run", "conf=mri_step", env=env, cwd=tmp_path), 2)
    listed = refused(crh("run", "conf=mini", env=env, cwd=tmp_path), 2)
    assert "did you mean 'mine'?" in listed
    assert set(choices([own, packaged_conf()])) == {*choices([packaged_conf()]), "mine"}


def test_a_sweep_runs_the_product_and_outlives_a_failure(swept: Made, finished: RunFolder) -> None:
    said = swept.said["sweep"]
    assert said.returncode == 2
    found = document(said)
    product = [("0", "1"), ("0", "3"), ("1", "1"), ("1", "3")]
    said_of = [line.split(" ", 1)[1] for line in said.stderr.splitlines() if line.startswith("[")]
    combinations = [f"{' '.join(TINY)} engine.seed={s} engine.micro_batches={m}" for s, m in product]
    assert said_of == [f"{combinations[0]}: done already", *combinations[1:]]
    assert [("error" in run, run.get("already_finished")) for run in found["runs"]] == [
        (False, True),
        (True, None),
        (False, False),
        (True, None),
    ]
    errors = [line for line in said.stderr.splitlines() if line.startswith("error: [")]
    assert len(errors) == 2
    for run in found["runs"][1::2]:
        assert run["exit_code"] == 2
        assert run["message"].startswith("engine.batch_size=4 must be a multiple of engine.micro_batches")
        assert any(line.endswith(f": {run['message']}") for line in errors)
    assert found["runs"][0]["run"] == finished.name
    (summary,) = found["summary"]
    assert summary["seeds"] == [0, 1]
    losses = [run["validation"]["loss"] for run in found["runs"][::2]]
    assert summary["metrics"]["loss"]["mean"] == pytest.approx(np.mean(losses), rel=1e-12)
    assert summary["metrics"]["loss"]["sd"] == pytest.approx(np.std(losses, ddof=1), rel=1e-9)


def test_a_signal_before_the_training_is_exit_code_130(env: dict[str, str], tmp_path: Path) -> None:
    for name in ("SIGTERM", "SIGINT"):
        code = f"""
import signal
from crh_train import compose
def stop(*arguments): signal.raise_signal(signal.{name})
compose.compose = stop
from crh_train.cli import main
main()
"""
        for words in (["run", "conf=mri_step"], ["run", "conf=mri_step", "--json"]):
            said = crh(*words, env=env, cwd=tmp_path, program=("-c", code))
            assert said.returncode == 130
            message = document(said)["message"] if "--json" in words else said.stderr
            assert "stopped by a signal" in message
    assert not (tmp_path / "runs").exists()


# --- the environment -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("XLA_FLAGS", "--xla_gpu_deterministic_ops=false"),
        ("XLA_FLAGS", "--xla_cpu_enable_fast_math=true"),
        ("XLA_FLAGS", "--xla_gpu_autotune_level=4"),
        ("XLA_FLAGS", "--xla_force_host_platform_device_count=2"),
        ("JAX_ENABLE_X64", "1"),
        ("JAX_DEFAULT_MATMUL_PRECISION", "bfloat16"),
    ],
)
def test_what_breaks_the_promise_is_refused_by_name(name: str, value: str, env: dict[str, str], tmp_path: Path) -> None:
    said = refused(crh("run", *TINY, env={**env, name: value}, cwd=tmp_path), 2)
    assert value in said
    assert name in said
    assert not (tmp_path / "runs").exists()


def test_other_flags_are_kept_and_recorded(env: dict[str, str], tmp_path: Path) -> None:
    flag = "--xla_cpu_prefer_vector_width=128"
    plain = document(crh("doctor", "--json", env=env, cwd=tmp_path))
    found = document(crh("doctor", "--json", env={**env, "XLA_FLAGS": flag}, cwd=tmp_path))
    assert found["fingerprint"]["xla_flags"] == [flag, *plain["fingerprint"]["xla_flags"]]
    assert "--xla_gpu_deterministic_ops=true" in found["fingerprint"]["xla_flags"]
    assert found["digest"] != plain["digest"]
    said = crh("doctor", env={**env, "XLA_FLAGS": flag}, cwd=tmp_path).stdout
    assert flag in said
    assert "\nverified     yes: this machine gives the bits of every machine\n" in said
    assert plain["portable"]["verified"] is True


# --- data ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Three small volumes of a user's own."""
    folder = tmp_path / "volumes"
    folder.mkdir()
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in (16, 16, 8)), indexing="ij"))
    for number, name in enumerate(("a", "b", "c")):
        image = np.exp(-np.sum((grid - 0.1 * number) ** 2, axis=0) * (2 + number)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / f"{name}.nii.gz")
    return folder


def test_data_that_moved_are_the_same_and_data_that_changed_are_named(
    volumes: Path, env: dict[str, str], tmp_path: Path
) -> None:
    words = ["data=nifti", f"runtime.data_root={volumes}", "data.shape=[16,16]", "engine.epochs=1"]
    small = ["engine.batch_size=4", "model.channels=4", "model.layers=2"]
    said = crh("run", "conf=mri_step", *words, *small, env=env, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    run = only_run(tmp_path / "runs")

    moved = volumes.rename(tmp_path / "moved")
    missing = refused(crh("replay", run.name, env=env, cwd=tmp_path), 3)
    assert f"runtime.data_root must be a folder of NIfTI volumes; {volumes} is none" in missing
    replayed = crh("replay", run.name, f"runtime.data_root={moved}", "--json", env=env, cwd=tmp_path)
    assert replayed.returncode == 0, replayed.stderr
    assert document(replayed)["identical"] is True

    image = nibabel.load(moved / "b.nii.gz")
    nibabel.save(nibabel.Nifti1Image(image.get_fdata(dtype=np.float32) * 1.01, image.affine), moved / "b.nii.gz")
    (moved / "c.nii.gz").rename(moved / "d.nii.gz")
    changed = refused(crh("replay", run.name, f"runtime.data_root={moved}", env=env, cwd=tmp_path), 3)
    assert changed.startswith(f"the data of run {run.name} changed: b.nii.gz changed: SHA-256 was ")
    assert "; c.nii.gz is missing; d.nii.gz is new; put the recorded files back" in changed
    assert "a.nii.gz" not in changed
