"""Which checkpoints may go to save space: all but the newest ones and the best. Removes nothing itself.

A checkpoint's score is the mean training loss of the epoch that it ends, or is in, up to its step; the lowest is the
best, and of equal ones the latest. So what is kept is decided by the chronicle alone: an interrupted run keeps what an
undisturbed one keeps.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from crh_train.checkpoint_header import CheckpointName
from crh_train.chronicle import StepFields

SMALLEST_KEEP = 2
"""One would be none if it were damaged."""


class EpochLoss:
    """The running mean of the loss within an epoch, in float64, in the order of the steps."""

    def __init__(self) -> None:
        self._epoch = -1
        self._sum = 0.0
        self._steps = 0

    def add(self, fields: StepFields) -> None:
        if fields.epoch != self._epoch:
            self._epoch, self._sum, self._steps = fields.epoch, 0.0, 0
        self._sum += float(fields.loss)
        self._steps += 1

    @property
    def mean(self) -> float:
        return self._sum / self._steps


def scores(records: Iterable[StepFields], steps: Collection[int]) -> dict[int, float]:
    """The score of a checkpoint at each of `steps`, from the chronicle's `records`, which begin with step 1."""
    running, found = EpochLoss(), {}
    for record in records:
        running.add(record)
        if record.step in steps:
            found[record.step] = running.mean
    return found


def best(names: Iterable[CheckpointName], scored: Mapping[int, float]) -> CheckpointName:
    """The one of `names` with the lowest score; `scored` has one for each one's step."""
    return min(names, key=lambda name: (scored[name.step], -name.step))


def surplus(names: Sequence[CheckpointName], scored: Mapping[int, float], keep: int) -> list[CheckpointName]:
    """Which of `names`, the oldest first, may go so that `keep` stay: the best and the newest."""
    if len(names) <= keep:
        return []
    kept = best(names, scored)
    newest = names[-keep:] if kept in names[-keep:] else names[len(names) - keep + 1 :]
    return [name for name in names if name not in newest and name != kept]
