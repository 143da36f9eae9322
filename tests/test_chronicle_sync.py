"""The spec's chronicle sync test: the log of real runs, step by step, without a gap or a duplicate, across resume."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import EPOCHS, STEPS_PER_EPOCH, copied, crh
from conftest import Made

from crh_train import checkpoint
from crh_train.chronicle_audit import audit
from crh_train.run_store import RunFolder

FIELDS = ["epoch", "batch", "loss", "coherence", "lr", "grad_norm", "timestamp", "step"]
STEPS = EPOCHS * STEPS_PER_EPOCH


@pytest.fixture(params=["finished", "term", "kill", "term-stopped"])
def run(request: pytest.FixtureRequest, finished: RunFolder, interrupted: Made) -> RunFolder:
    return finished if request.param == "finished" else interrupted.run(request.param)


def lines(run: RunFolder) -> list[dict[str, float]]:
    """Parsed by nothing of ours."""
    return [json.loads(line) for line in (run.path / "chronicle.jsonl").read_text().splitlines()]


def test_steps_follow_one_another(run: RunFolder) -> None:
    steps = [line["step"] for line in lines(run)]
    assert steps == list(range(1, (9 if run.status == "unfinished" else STEPS) + 1))


def test_fields_are_in_order_and_numbers_are_float32(run: RunFolder) -> None:
    for line in lines(run):
        assert list(line) == FIELDS
        for name in ("loss", "coherence", "lr", "grad_norm"):
            assert math.isfinite(line[name])
            assert float(str(np.float32(line[name]))) == line[name]


def test_epoch_and_batch_count_the_steps(run: RunFolder) -> None:
    for line in lines(run):
        assert (line["epoch"], line["batch"]) == divmod(line["step"] - 1, STEPS_PER_EPOCH)


def test_every_checkpoint_points_to_the_end_of_its_last_step(run: RunFolder) -> None:
    text = (run.path / "chronicle.jsonl").read_bytes()
    audited = audit(run.path, run.run_hash)
    assert audited.problem is None
    assert run.checkpoints()
    for saved in run.checkpoints():
        found = checkpoint.read(saved.path)
        offset = found.chronicle_offset
        assert offset.records == found.step == saved.name.step
        assert text[: offset.bytes].count(b"\n") == found.step
        assert text[: offset.bytes].endswith(f'"step":{found.step}}}\n'.encode())
        assert audited.place(found.step).head == offset.head


def test_the_last_line_of_a_finished_run_is_the_last_checkpoint_s(finished: RunFolder, interrupted: Made) -> None:
    for run in (finished, interrupted.run("term"), interrupted.run("kill")):
        assert len(lines(run)) == run.checkpoints()[-1].name.step == STEPS


def test_the_clock_does_not_run_backwards(run: RunFolder) -> None:
    times = [line["timestamp"] for line in lines(run)]
    assert times == sorted(times)
    assert times[0] >= 0


def test_a_resumed_run_s_clock_goes_on(interrupted: Made, env: dict[str, str], tmp_path: Path) -> None:
    run = copied(interrupted.run("term-stopped"), tmp_path / "runs")
    log = run.path / "chronicle.jsonl"
    # The clock is outside every hash, so a run that took a day so far can be made by writing so.
    log.write_text(re.sub(r'"timestamp":.{16}', '"timestamp":' + f"{86400.5:16.6f}", log.read_text()))
    done = crh("resume", run.name, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    times = [line["timestamp"] for line in lines(run)]
    assert times[:9] == [86400.5] * 9
    assert all(time > 86400.5 for time in times[9:])
