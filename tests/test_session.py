"""Sessions in processes of their own: what makes one refuse, what it says on the way, what it never leaves behind."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import STEPS_PER_EPOCH, STOPPED, TINY, contents, copied, crh, document, only_run
from conftest import Made

from crh_train import checkpoint
from crh_train.chronicle_writer import ChronicleWriter
from crh_train.run_store import RunFolder

# --- the guard against non-finite numbers --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> Made:
    """One step an epoch with a learning rate past all sense: the first step can still be done."""
    folder = tmp_path_factory.mktemp("diverged")
    said = crh("run", *TINY, "engine.batch_size=24", "engine.learning_rate=1e30", env=env, cwd=folder)
    return Made(folder, {"run": said})


def test_a_step_that_is_not_finite_stops_the_run_with_step_and_leaf(diverged: Made) -> None:
    said = diverged.said["run"]
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.count("\n") == 1
    assert said.stderr.startswith("error: step 2 (epoch 1, batch 0): loss is ")
    assert "non-finite gradient in leaf 'layer.0" in said.stderr
    assert "nothing of this step was saved" in said.stderr


def test_what_was_good_before_is_kept_and_verifies(diverged: Made, env: dict[str, str]) -> None:
    run = only_run(diverged.folder / "runs")
    (saved,) = run.checkpoints()
    assert saved.name.step == 1
    assert [record.step for record in run.chronicle()] == [1]
    for array in checkpoint.read(saved.path).model_state.values():
        assert np.all(np.isfinite(array))
    assert crh("verify", saved.path, env=env, cwd=diverged.folder).returncode == 0
    verified = crh("verify", run.name, "--json", env=env, cwd=diverged.folder)
    assert verified.returncode == 0
    assert document(verified)["newest_good_hash"] == saved.name.hash
    shown = crh("show", run.name, env=env, cwd=diverged.folder).stdout
    assert f"run             {run.name}  (unfinished)\n" in shown


# --- resume --------------------------------------------------------------------------------------------------------


def test_an_unfinished_run_is_not_begun_again(interrupted: Made, env: dict[str, str]) -> None:
    stopped = interrupted.run("term-stopped")
    before = contents(stopped.path)
    said = crh("run", *TINY, env=env, cwd=interrupted.folder / "term-stopped")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == (
        f"error: run {stopped.name} exists already and is unfinished; go on: crh-train resume {stopped.name}\n"
    )
    assert contents(stopped.path) == before


def test_two_writers_are_one_too_many(interrupted: Made, env: dict[str, str], tmp_path: Path) -> None:
    stopped = copied(interrupted.run("term-stopped"), tmp_path / "runs")
    with stopped.lock():
        said = crh("resume", stopped.name, env=env, cwd=tmp_path)
        holder = (stopped.path / ".lock").read_text().strip()
    assert said.returncode == 2
    assert said.stderr == (
        f"error: run {stopped.name}: process {holder} is writing to it; wait for its end or stop it\n"
    )


def test_a_resume_on_other_threads_gives_the_same_bits_and_is_recorded(
    interrupted: Made, finished: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    stopped = copied(interrupted.run("term-stopped"), tmp_path / "runs")
    threads = stopped.sessions()[0]["fingerprint"]["threads"]
    said = crh("resume", stopped.name, f"runtime.threads={threads + 1}", "--json", env=env, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert document(said)["notes"] == []
    assert [each["fingerprint"]["threads"] for each in stopped.sessions()] == [threads, threads + 1]
    last, mine = (checkpoint.read(run.checkpoints()[-1].path) for run in (finished, stopped))
    assert {name: array.tobytes() for name, array in mine.model_state.items()} == {
        name: array.tobytes() for name, array in last.model_state.items()
    }


def test_under_native_determinism_another_fingerprint_is_noted_and_does_not_stop_a_resume(
    env: dict[str, str], tmp_path: Path
) -> None:
    words = ("run", *TINY, "determinism=native", "engine.epochs=2")
    assert crh("SIGTERM", "8", *words, env=env, cwd=tmp_path, program=(str(STOPPED),)).returncode == 130
    stopped = only_run(tmp_path / "runs")
    threads = stopped.sessions()[0]["fingerprint"]["threads"]
    said = crh("resume", stopped.name, f"runtime.threads={threads + 1}", "--json", env=env, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    note = document(said)["notes"][0]
    assert note.startswith(f"another machine fingerprint (threads: {threads} in the run, {threads + 1} here)")


def test_a_step_that_comes_out_otherwise_than_it_was_logged_is_told(
    interrupted: Made, finished: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    stopped = copied(interrupted.run("kill-stopped"), tmp_path / "runs")
    newest = checkpoint.read(stopped.checkpoints()[-1].path)
    true = finished.chronicle()[STEPS_PER_EPOCH]
    other = np.nextafter(true.grad_norm, np.float32(np.inf))
    with ChronicleWriter(stopped.path, newest.chronicle_offset) as writer:
        writer.append(true._replace(grad_norm=other), true.timestamp)
    said = crh("resume", stopped.name, env=env, cwd=tmp_path)
    assert said.returncode == 1
    where = f"step {STEPS_PER_EPOCH + 1}: grad_norm is {true.grad_norm!s}, recorded {other!s} (1 ulp apart)"
    assert where in said.stderr
    assert stopped.status == "finished"
    assert stopped.checkpoints()[-1].name == finished.checkpoints()[-1].name


# --- the order of things -------------------------------------------------------------------------------------------


def test_a_mistake_leaves_no_run_behind(swept: Made) -> None:
    names = [run["run"] for run in json.loads(swept.said["sweep"].stdout)["runs"] if "error" not in run]
    assert sorted(path.name for path in (swept.folder / "runs").iterdir()) == sorted([*names, "sweeps"])
