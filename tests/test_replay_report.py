"""Reports of segments, joined: the same as one of the whole."""

import json

from crh_train.divergence import Difference
from crh_train.replay_report import ReplayReport, document, joined, parsed
from crh_train.segments import Segment

DIFFERENCE = Difference(8, "loss", "0.5", "0.50000006", 1)


def report(first: int, last: int, steps: int, checkpoints: int, difference: Difference | None = None) -> ReplayReport:
    return ReplayReport(
        run_hash="a" * 64,
        first_step=first,
        last_step=last,
        steps_compared=steps,
        checkpoints_compared=checkpoints,
        segments=1,
        identical=difference is None,
        program="source",
        program_differs=("step",),
        promised=False,
        promise="nothing is promised",
        difference=difference,
        arrays=() if difference is None else ("state after step 8: 'root key': 1 of 2 elements differ",),
        final_state=f"{last:064}" if checkpoints else None,
        fingerprint={"threads": 4},
        version="0.1.0",
    )


def test_a_report_comes_back_from_json() -> None:
    for each in (report(0, 6, 6, 1), report(6, 12, 2, 0, DIFFERENCE)):
        assert parsed({**json.loads(json.dumps(document(each))), "scratch": "elsewhere"}) == each


def test_identical_segments_are_an_identical_whole() -> None:
    whole = joined(Segment(0, 15), 3, [report(0, 6, 6, 1), report(6, 12, 6, 2), report(12, 15, 3, 0)])
    assert (whole.first_step, whole.last_step, whole.segments, whole.identical) == (0, 15, 3, True)
    assert (whole.steps_compared, whole.checkpoints_compared) == (15, 3)
    assert whole.final_state == f"{12:064}", "the last one that there is"


def test_the_first_segment_that_differs_says_what() -> None:
    whole = joined(Segment(0, 18), 3, [report(0, 6, 6, 1), report(6, 12, 2, 0, DIFFERENCE)])
    assert (whole.last_step, whole.segments, whole.identical) == (18, 3, False)
    assert (whole.steps_compared, whole.checkpoints_compared) == (8, 1)
    assert (whole.difference, len(whole.arrays)) == (DIFFERENCE, 1)
    assert whole.final_state == f"{6:064}"
