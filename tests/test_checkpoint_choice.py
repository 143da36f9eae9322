"""Which checkpoint is meant."""

import pytest

from crh_train import retention
from crh_train.checkpoint_choice import chosen
from crh_train.errors import UsageError
from crh_train.run_store import RunFolder


def test_the_last_the_best_and_one_of_an_epoch(finished: RunFolder) -> None:
    stored = finished.checkpoints()
    assert chosen(finished, "last") == stored[-1]
    scored = retention.scores(finished.chronicle(), {each.name.step for each in stored})
    assert scored[chosen(finished, "best").name.step] == min(scored.values())
    for each in stored:
        assert chosen(finished, str(each.name.epoch_index)) == each


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("7", "has no checkpoint after 7 epochs; it has them after 1, 2, 3"),
        ("first", "must be last, best or a number of epochs, got 'first'"),
        ("-1", "got '-1'"),
    ],
)
def test_another_is_refused(finished: RunFolder, which: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chosen(finished, which)
