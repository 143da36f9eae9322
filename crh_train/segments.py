"""Which steps a replay does: those that were asked for, cut into segments that processes do at the same time. No JAX.

A segment begins at the start or with a checkpoint, whose state it trusts; so the one before it ends there and compares
that state, and all of them together compare what one replay of the whole does.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from crh_train.errors import CorruptRun, UsageError
from crh_train.run_folder import RunFolder


class Segment(NamedTuple):
    """The steps after `first` (steps done already) up to `last`."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"steps {self.first + 1} to {self.last}"


def asked_for(folder: RunFolder, from_epoch: int | None, to_epoch: int | None) -> Segment:
    """The steps of epochs `from_epoch` (None: the start) to `to_epoch` (None: as far as the run got).

    Raises:
      UsageError: there is no checkpoint at `from_epoch`, or the run did not get to `to_epoch`.
      CorruptRun, CorruptChronicle: the run's files do not say how far it got.
    """
    steps_per_epoch = folder.program_document()["steps_per_epoch"]
    if steps_per_epoch < 1:
        raise CorruptRun(f"{folder.path / 'program.json'}: expected steps in an epoch, found {steps_per_epoch}")
    recorded = len(folder.chronicle())
    first = 0 if from_epoch is None else from_epoch * steps_per_epoch
    last = recorded if to_epoch is None else to_epoch * steps_per_epoch
    reached = recorded // steps_per_epoch
    if last > recorded:
        raise UsageError(f"--to {to_epoch}: run {folder.name} got to epoch {reached}; give at most {reached}")
    saved = {each.name.step for each in folder.checkpoints()}
    if first and first not in saved:
        epochs = ", ".join(str(step // steps_per_epoch) for step in [0, *sorted(saved)] if step % steps_per_epoch == 0)
        raise UsageError(f"--from {from_epoch}: run {folder.name} has no checkpoint there; it has epochs {epochs}")
    if first >= last:
        raise UsageError(
            f"run {folder.name} has nothing to replay from step {first} to step {last}; --from comes first"
        )
    return Segment(first, last)


def cut(whole: Segment, saved: Collection[int], most: int) -> Sequence[Segment]:
    """At most `most` segments of `whole`, cut after steps of `saved`, the longest of them as short as can be.

    There are fewer where more would not make the longest one shorter.
    """
    ends = [*sorted(step for step in set(saved) if whole.first < step < whole.last), whole.last]
    least, enough = 0, whole.last - whole.first  # the longest segment's steps: too few, and enough
    while enough - least > 1:
        middle = (least + enough) // 2
        if 0 < len(_filled(whole.first, ends, middle)) <= most:
            enough = middle
        else:
            least = middle
    return _filled(whole.first, ends, enough)


def _filled(first: int, ends: Sequence[int], longest: int) -> list[Segment]:
    """Segments as long as can be, each of at most `longest` steps; none where two of `ends` lie further apart."""
    segments: list[Segment] = []
    for end in ends:
        begin = segments[-1].last if segments else first
        if end - begin > longest:
            return []
        if segments and end - segments[-1].first <= longest:
            segments[-1] = Segment(segments[-1].first, end)
        else:
            segments.append(Segment(begin, end))
    return segments
