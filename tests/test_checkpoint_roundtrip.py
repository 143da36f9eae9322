"""The spec's checkpoint round trip: save, load, go on, and no bit drifts, however the run was stopped."""

from pathlib import Path

import numpy as np
import pytest
from command_line import STEPS_PER_EPOCH, STOPPED, TINY, ahead, chronicle_text, contents, crh, only_run
from conftest import Made

from crh_train import checkpoint, state, training
from crh_train.chronicle_audit import read_tail
from crh_train.run_store import RunFolder
from crh_train.stored import stored_config

STOPPED_AT = 9


def test_sigterm_finishes_the_step_saves_it_and_names_the_command_that_goes_on(interrupted: Made) -> None:
    said, stopped = interrupted.said["term-stopped"], interrupted.run("term-stopped")
    assert said.returncode == 130
    assert said.stdout == ""
    assert said.stderr == (
        f"error: stopped after step {STOPPED_AT} of 18, which is saved; go on: crh-train resume {stopped.name}\n"
    )
    assert [saved.name.step for saved in stopped.checkpoints()] == [STEPS_PER_EPOCH, STOPPED_AT]
    assert len(stopped.chronicle()) == STOPPED_AT
    assert stopped.status == "unfinished"


def test_sigkill_loses_nothing_that_was_acknowledged(interrupted: Made) -> None:
    stopped = interrupted.run("kill-stopped")
    assert interrupted.said["kill-stopped"].returncode == -9
    assert [saved.name.step for saved in stopped.checkpoints()] == [STEPS_PER_EPOCH]
    assert len(stopped.chronicle()) >= STEPS_PER_EPOCH
    assert stopped.status == "unfinished"


@pytest.mark.parametrize("name", ["term", "kill"])
def test_a_resumed_run_ends_with_the_same_bits(interrupted: Made, finished: RunFolder, name: str) -> None:
    said, resumed = interrupted.said[name], interrupted.run(name)
    assert said.returncode == 0, said.stderr
    assert resumed.status == "finished"
    assert [session["first_step"] for session in resumed.sessions()] == [0, 9 if name == "term" else 6]
    ends = {saved.name for saved in resumed.checkpoints() if saved.name.step % STEPS_PER_EPOCH == 0}
    assert ends == {saved.name for saved in finished.checkpoints()}
    assert chronicle_text(resumed) == chronicle_text(finished)


def test_what_was_logged_after_the_last_checkpoint_is_set_aside_and_made_again(
    interrupted: Made, finished: RunFolder
) -> None:
    resumed = interrupted.run("kill")
    assert "note: set aside: " in interrupted.said["kill"].stdout
    assert [record.step for record in read_tail(resumed.path)] == [7, 8]
    assert (resumed.path / "chronicle.tail").read_bytes().startswith(ahead(finished)[0])


def test_after_sigkill_every_file_is_that_of_the_undisturbed_run(interrupted: Made, finished: RunFolder) -> None:
    expected, found = contents(finished.path), contents(interrupted.run("kill").path)
    differing = {name for name in expected if found[name] != expected[name]}
    assert found.keys() - expected.keys() == {"chronicle.tail"}
    assert differing <= {
        "chronicle.jsonl",
        "chronicle.sums",
        "environment.json",
        ".lock",
    }  # clock, sessions, process id


def test_after_sigterm_the_states_and_reports_are_those_of_the_undisturbed_run(
    interrupted: Made, finished: RunFolder
) -> None:
    expected, found = contents(finished.path / "reports"), contents(interrupted.run("term").path / "reports")
    assert found == expected
    last, mine = (checkpoint.read(run.checkpoints()[-1].path) for run in (finished, interrupted.run("term")))
    assert mine.chronicle_offset == last.chronicle_offset
    for section in ("model_state", "optimizer_state"):
        ours, theirs = getattr(mine, section), getattr(last, section)
        assert ours.keys() == theirs.keys()
        assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_during_the_validation_names_the_command_that_goes_on(
    finished: RunFolder, env: dict[str, str], tmp_path: Path, name: str
) -> None:
    stopped = crh(name, "0", "run", *TINY, env=env, cwd=tmp_path, program=(str(STOPPED),))
    run = only_run(tmp_path / "runs")
    assert (stopped.returncode, stopped.stdout) == (130, "")
    assert stopped.stderr.endswith(f"what was saved is kept, go on: crh-train resume {run.name}\n")
    assert crh("resume", run.name, env=env, cwd=tmp_path).returncode == 0
    assert contents(run.path / "reports") == contents(finished.path / "reports")
    assert contents(run.path / "checkpoints") == contents(finished.path / "checkpoints")


def test_save_load_save_gives_the_same_bytes(finished: RunFolder, tmp_path: Path) -> None:
    for saved in finished.checkpoints():
        again = checkpoint.write(tmp_path, checkpoint.read(saved.path))
        assert again.name == saved.path.name
        assert again.read_bytes() == saved.path.read_bytes()


def test_a_state_goes_through_the_device_and_back_without_drift(finished: RunFolder, tmp_path: Path) -> None:
    config = stored_config(finished, [f"runtime.cache={tmp_path}"])
    _, program = training.build(training.open_recorded(finished, config), finished.program())
    like = program.init(program.root)
    for saved in finished.checkpoints():
        host = training.host_state(checkpoint.read(saved.path))
        back = state.to_host(state.from_host(host, like))
        assert back.step == host.step
        assert back.rng_state.tobytes() == host.rng_state.tobytes()
        for mine, theirs in ((back.model_state, host.model_state), (back.optimizer_state, host.optimizer_state)):
            assert mine.keys() == theirs.keys()
            for name in mine:
                assert (mine[name].dtype, mine[name].shape) == (theirs[name].dtype, theirs[name].shape)
                assert np.asarray(mine[name]).tobytes() == theirs[name].tobytes()
