"""Which checkpoint of a run is meant: its last one, its best one, or that of an epoch. Opens none of them."""

from crh_train import retention
from crh_train.errors import UsageError
from crh_train.run_folder import RunFolder, StoredCheckpoint

LAST, BEST = "last", "best"


def chosen(folder: RunFolder, which: str) -> StoredCheckpoint:
    """The checkpoint of `folder` that `which` names.

    Args:
      which: "last"; "best", by the mean training loss of its epoch as `retention.best`; or a number of epochs done, of
        whose checkpoints the last is meant.

    Raises:
      UsageError: the run has no checkpoint, or none of that epoch, or `which` is none of these.
      CorruptChronicle: of which "best" needs every line.
    """
    stored = folder.checkpoints()
    if not stored:
        raise UsageError(f"run {folder.name} has no checkpoint yet; go on: crh-train resume {folder.argument}")
    if which == LAST:
        return stored[-1]
    if which == BEST:
        scored = retention.scores(folder.chronicle(), {each.name.step for each in stored})
        name = retention.best([each.name for each in stored], scored)
        return next(each for each in stored if each.name == name)
    if not (which.isascii() and which.isdigit()):
        raise UsageError(f"--checkpoint must be {LAST}, {BEST} or a number of epochs, got {which!r}")
    found = [each for each in stored if each.name.epoch_index == int(which)]
    if not found:
        epochs = sorted({each.name.epoch_index for each in stored})
        raise UsageError(
            f"run {folder.name} has no checkpoint after {which} epochs; it has them after {', '.join(map(str, epochs))}"
        )
    return found[-1]
