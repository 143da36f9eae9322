"""Which checkpoints may go: never the best, never the newest, and the chronicle alone decides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import make_record

from crh_train.checkpoint_header import CheckpointName
from crh_train.retention import best, scores, surplus


def name(step: int) -> CheckpointName:
    return CheckpointName(step, step, f"{step:064x}")


LOSSES = st.lists(st.integers(0, 5), min_size=1, max_size=12)


@given(LOSSES, st.integers(2, 6))
def test_the_best_and_the_newest_stay_and_no_more_than_asked_for(losses: list[int], keep: int) -> None:
    names = [name(step) for step in range(1, len(losses) + 1)]
    scored = {each.step: float(loss) for each, loss in zip(names, losses, strict=True)}
    kept = [each for each in names if each not in surplus(names, scored, keep)]
    assert len(kept) == min(keep, len(names))
    assert best(names, scored) in kept
    assert kept[-(keep - 1) :] == names[-(keep - 1) :]


@given(LOSSES, st.integers(2, 6))
def test_removing_as_training_goes_on_keeps_what_removing_at_the_end_keeps(losses: list[int], keep: int) -> None:
    names = [name(step) for step in range(1, len(losses) + 1)]
    scored = {each.step: float(loss) for each, loss in zip(names, losses, strict=True)}
    kept: list[CheckpointName] = []
    for each in names:
        kept.append(each)
        kept = [other for other in kept if other not in surplus(kept, scored, keep)]
    assert kept == [each for each in names if each not in surplus(names, scored, keep)]


def test_of_equal_ones_the_latest_is_the_best() -> None:
    assert best([name(1), name(2), name(3)], {1: 1.0, 2: 0.5, 3: 0.5}) == name(3)


def test_the_score_is_the_mean_loss_of_the_epoch_up_to_the_step() -> None:
    losses = (8.0, 2.0, 4.0, 1.0, 7.0)  # two steps an epoch
    records = [make_record(step)._replace(loss=np.float32(loss)) for step, loss in enumerate(losses, 1)]
    assert scores(records, {2, 3, 4, 5}) == {2: 5.0, 3: 4.0, 4: 2.5, 5: 7.0}


def test_a_checkpoint_without_a_score_is_not_passed_over() -> None:
    with pytest.raises(KeyError):
        surplus([name(1), name(2), name(3)], {1: 1.0, 2: 1.0}, 2)
