"""How a run is mended after any crash: back to the newest checkpoint that is whole together with its part of the
chronicle. What cannot be used is set aside and never deleted.
"""

from typing import NamedTuple

from crh_train import checkpoint, chronicle_writer, filesystem
from crh_train.checkpoint import Checkpoint
from crh_train.chronicle import genesis
from crh_train.chronicle_audit import audit
from crh_train.errors import CorruptCheckpoint, CorruptRun
from crh_train.run_folder import DAMAGED_SUFFIX, RunFolder, listed


class Recovered(NamedTuple):
    """Where a run can go on."""

    checkpoint: Checkpoint | None  # the newest good one; None: from the start
    notes: tuple[str, ...]  # what was skipped or set aside, in words


def newest_good_checkpoint(folder: RunFolder) -> Recovered:
    """The newest checkpoint that is whole, belongs to this run, and whose part of the chronicle is whole."""
    notes: list[str] = []
    audited = audit(folder.path, folder.run_hash)
    for stored in reversed(folder.checkpoints()):
        try:
            good = checkpoint.read(stored.path)
        except CorruptCheckpoint as error:
            notes.append(f"skipped: {error}")
            continue
        problems = folder.disagreements(good, audited)
        if not problems:
            return Recovered(good, tuple(notes))
        notes.append(f"skipped {stored.path}: {'; '.join(problems)}")
    return Recovered(None, tuple(notes))


def recover(folder: RunFolder) -> Recovered:
    """Make the run fit to go on: remove unfinished files, set checkpoints aside that cannot be used, and cut the
    chronicle back to the newest one that can; the tail goes to `chronicle.tail`. The caller holds the run's lock.

    Can itself be interrupted and done again. Raises `CorruptRun` where there are checkpoints and none can be used.
    """
    checkpoints = folder.path / "checkpoints"
    for inside in (folder.path, checkpoints, folder.path / "reports"):
        for name in listed(inside):
            if name.startswith(filesystem.TEMPORARY_PREFIX):
                filesystem.remove(inside / name)
    recovered, removed = newest_good_checkpoint(folder), folder.removed()
    found, notes = recovered.checkpoint, list(recovered.notes)
    if found is None and (notes or removed):
        raise CorruptRun(
            f"run {folder.name}: none of its {len(folder.checkpoints())} checkpoints can be used; restore one from a "
            f"copy, or run its configuration again under another --runs. {' | '.join(notes)}"
        )
    # A killed process may have left names that only memory holds: they are made durable before anything builds on them.
    for inside in (folder.path.absolute().parent, folder.path, checkpoints):
        filesystem.fsync_folder(inside)
    first = 0 if found is None else found.step
    earlier = [name for name in removed if name.step < first]
    for stored in folder.checkpoints():
        if stored.name.step > first:
            filesystem.replace(stored.path, stored.path.with_name(stored.path.name + DAMAGED_SUFFIX))
            notes.append(f"set aside: {stored.path.name}{DAMAGED_SUFFIX}")
        elif stored.name in earlier:  # it was written down as removed, and then came the crash
            filesystem.remove(stored.path)
    filesystem.fsync_folder(checkpoints)
    if earlier != removed:  # the later ones are made again
        folder.write_removed(earlier)
    offset = genesis(folder.run_hash) if found is None else found.chronicle_offset
    if tail := chronicle_writer.truncate_to(folder.path, offset):
        notes.append(f"set aside: {tail} bytes of the chronicle after step {offset.records}, in chronicle.tail")
    return Recovered(found, tuple(notes))
