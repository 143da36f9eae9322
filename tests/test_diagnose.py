"""`crh-train diagnose`, and runs that act on their diagnoses: one that stops, and one that lowers its learning rate."""

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from command_line import (
    SMALL,
    STEPS_PER_EPOCH,
    STOPPED,
    chronicle_text,
    contents,
    copied,
    crh,
    document,
    made_once,
    only_run,
)

from crh_train import checkpoint
from crh_train.diagnostics.continuity import CONTINUITY_NAME
from crh_train.diagnostics.measures import LONG
from crh_train.learning_rate_factor import LEAF
from crh_train.run_store import RunFolder

ACTS = ("conf=mri_step", *SMALL, "determinism=native", "model=mlp", "optimizer=sgd", "diagnostics.act=true")
STOPS = (
    *(*ACTS, "model.layers=1", "optimizer.momentum=0", "scheduler=linear_decay", "scheduler.warmup_epochs=20"),
    *("engine.epochs=20", "engine.learning_rate=3", "diagnostics.patience=1"),
)
"""Its learning rate is warmed up to more than it can bear."""
LOWERS = (*ACTS, "engine.learning_rate=1", "engine.epochs=8", "diagnostics.patience=1")
LOWERED_AT = 36
OF_THE_SESSION = (".lock", "environment.json", "chronicle.jsonl", "chronicle.sums", "chronicle.tail")


def made(words: tuple[str, ...], env: dict[str, str]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        said = crh("run", *words, env=env, cwd=folder)
        assert said.returncode == 0, said.stderr
        (folder / "said").write_text(said.stdout)

    return make


@pytest.fixture(scope="module")
def stops(shared: Path, env: dict[str, str]) -> RunFolder:
    return only_run(made_once(shared / "stops", made(STOPS, env)) / "runs")


@pytest.fixture(scope="module")
def lowers(shared: Path, env: dict[str, str]) -> RunFolder:
    return only_run(made_once(shared / "lowers", made(LOWERS, env)) / "runs")


def same(run: RunFolder, other: RunFolder) -> bool:
    """Whether two finished runs are, byte for byte, but for clocks and sessions."""
    one, two = (
        {name: data for name, data in contents(folder.path).items() if name not in OF_THE_SESSION}
        for folder in (run, other)
    )
    return one == two and chronicle_text(run) == chronicle_text(other)


def test_a_run_that_diverges_stops_and_is_finished(stops: RunFolder, env: dict[str, str]) -> None:
    steps = len(stops.chronicle())
    assert LONG < steps < 20 * STEPS_PER_EPOCH
    assert steps % STEPS_PER_EPOCH == 0
    assert stops.finished
    assert stops.checkpoints()[-1].name.step == steps
    last = json.loads((stops.path / CONTINUITY_NAME).read_bytes().splitlines()[-1])
    assert (last["step"], last["class"], last["change"]) == (steps, 3, "stop")
    epoch = steps // STEPS_PER_EPOCH
    cwd = stops.path.parents[1]
    assert f"{steps} steps, epoch {epoch} of 20, stopped by its diagnosis\n" in (cwd / "said").read_text()
    summary = (stops.path / "reports" / "session_summary.md").read_text()
    assert f"Its diagnosis stopped the run after epoch {epoch} of 20: it diverged." in summary
    assert document(crh("verify", stops.name, "--json", env=env, cwd=cwd))["findings"] == []


def test_a_run_that_stopped_is_replayed_to_its_stop(stops: RunFolder, env: dict[str, str]) -> None:
    said = crh("replay", stops.name, "--json", env=env, cwd=stops.path.parents[1])
    report = document(said)
    assert report["identical"]
    assert report["steps_compared"] == len(stops.chronicle())


EAGER = """
import sys
from unittest import mock
from crh_train.cli import main
from crh_train.diagnostics import continuity, policy

def decide(course, diagnosis, _):
    return course._replace(stopped=True)

sys.argv[0] = "crh-train"
with mock.patch.object(continuity, "decide", decide):
    main()
"""


def test_a_run_that_went_on_after_its_stop_is_different(stops: RunFolder, env: dict[str, str]) -> None:
    """By the diagnoses of this replay, it was to stop after step 36."""
    said = crh("replay", stops.name, "--json", env=env, cwd=stops.path.parents[1], program=("-c", EAGER))
    report = document(said)
    shutil.rmtree(report["scratch"])
    assert (said.returncode, report["identical"], report["steps_compared"]) == (1, False, 36)
    assert report["difference"]["step"] == 37
    assert report["difference"]["replayed"] == "none: the diagnosis stops the run after step 36"


def test_a_killed_run_whose_diagnosis_had_stopped_it_trains_no_further(
    stops: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    """As it is when the process is killed before there are reports."""
    run = copied(stops, tmp_path / "runs")
    for report in (run.path / "reports").iterdir():
        report.unlink()
    said = crh("resume", run.name, env=env, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert same(run, stops)


def test_the_learning_rate_is_lowered_and_reported_and_saved(lowers: RunFolder) -> None:
    records = lowers.chronicle()
    rates = [record.lr for record in records]
    before = rates[LOWERED_AT - 1]  # no milestone of the schedule lies after it
    assert rates[LOWERED_AT - STEPS_PER_EPOCH :] == [before] * STEPS_PER_EPOCH + [before * np.float32(0.5)] * 12
    factors = {each.name.step: checkpoint.read(each.path).optimizer_state[LEAF] for each in lowers.checkpoints()}
    # A checkpoint holds the factor of the step before it: what the step after it has, the chronicle gives.
    assert {step: float(factor) for step, factor in factors.items()} == {
        step: 1.0 if step <= LOWERED_AT else 0.5 for step in range(6, 49, 6)
    }


@pytest.mark.slow
def test_a_killed_run_goes_on_at_the_learning_rate_that_it_had(
    lowers: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    """It is killed after the change, and goes on with the checkpoint from before it."""
    killed = crh("SIGKILL", str(LOWERED_AT + 3), "run", *LOWERS, env=env, cwd=tmp_path, program=(str(STOPPED),))
    assert killed.returncode == -9
    run = only_run(tmp_path / "runs")
    assert run.checkpoints()[-1].name.step == LOWERED_AT
    said = crh("resume", run.name, env=env, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert same(run, lowers)


def test_segments_of_a_replay_do_what_the_whole_does(lowers: RunFolder, env: dict[str, str]) -> None:
    said = crh("replay", lowers.name, "--from", str(LOWERED_AT // 6), "--json", env=env, cwd=lowers.path.parents[1])
    report = document(said)
    assert (report["identical"], report["first_step"], report["steps_compared"]) == (True, LOWERED_AT, 12)


# --- the command ---------------------------------------------------------------------------------------------------


def test_it_tells_spans_the_present_and_what_was_done(stops: RunFolder, lowers: RunFolder, env: dict[str, str]) -> None:
    said = crh("diagnose", stops.name[:6], env=env, cwd=stops.path.parents[1])
    steps = len(stops.chronicle())
    assert said.returncode == 0, said.stderr
    assert f"done    after step {steps} the run was stopped: the loss rose by " in said.stdout
    assert "advice  reset, confidence 0." in said.stdout
    assert said.stdout.endswith(f"next: crh-train replay {stops.name}\n")
    found = document(crh("diagnose", lowers.name, "--json", env=env, cwd=lowers.path.parents[1]))
    lines = (lowers.path / CONTINUITY_NAME).read_text().splitlines()
    assert found["entries"] == [json.loads(line) for line in lines]
    spans = [(span["first_step"], span["last_step"]) for span in found["spans"]]
    assert (spans[0][0], spans[-1][1]) == (1, 48)
    assert all(one[1] + 1 == two[0] for one, two in pairwise(spans))
    assert [(change["step"], change["learning_rate_factor"]) for change in found["changes"]] == [(LOWERED_AT, 0.5)]
    assert (found["acts"], found["present"]["class"]) == (True, found["entries"][-1]["class"])


def test_a_run_that_is_too_short_is_told_so_with_or_without_the_file(
    finished: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    assert (finished.path / CONTINUITY_NAME).read_bytes() == b""
    run = copied(finished, tmp_path / "runs")
    (run.path / CONTINUITY_NAME).unlink()
    said = crh("diagnose", run.name, env=env, cwd=tmp_path)
    assert "now  nothing can be said yet: it takes 32 steps\n" in said.stdout
    found = document(crh("diagnose", run.name, "--json", env=env, cwd=tmp_path))
    assert (found["steps"], found["present"], found["spans"], found["acts"]) == (18, None, [], False)
    verified = document(crh("verify", run.name, "--json", env=env, cwd=tmp_path))
    assert [(each["severity"], each["place"]) for each in verified["findings"]] == [("damage", CONTINUITY_NAME)]
