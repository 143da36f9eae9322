"""Which checkpoint a command means by a run's hash or a `.chk` file, and the run that it belongs to. No JAX."""

import os
from pathlib import Path
from typing import NamedTuple

from crh_train.checkpoint_choice import LAST, chosen
from crh_train.checkpoint_header import parse_name
from crh_train.errors import UsageError
from crh_train.run_folder import StoredCheckpoint
from crh_train.run_store import RunFolder, RunStore

SUFFIX = ".chk"


class Named(NamedTuple):
    """What a command's REF names. Nothing of the checkpoint has been read."""

    folder: RunFolder
    checkpoint: StoredCheckpoint


def find(reference: str, which: str | None, runs: Path) -> Named:
    """The checkpoint that is meant: a `.chk` file's in its run's folder, or `which` (None: the last) of a run, named by
    its hash or folder.

    Raises:
      UsageError: there is none; a file is not in its run's folder, without which nobody knows what its weights mean.
    """
    if not reference.endswith(SUFFIX):
        folder = (
            RunStore(Path(reference).parent).find(Path(reference).name)
            if os.sep in reference
            else RunStore(runs).find(reference)
        )
        return Named(folder, chosen(folder, LAST if which is None else which))
    if which is not None:
        raise UsageError(f"{reference} is one checkpoint already; give --checkpoint with a run's hash")
    path = Path(reference).absolute()
    if not path.is_file():
        raise UsageError(f"{reference}: no such file")
    name_of = parse_name(path.name)
    run = path.parent.parent
    if name_of is None or path.parent.name != "checkpoints" or not (run / "run.json").is_file():
        raise UsageError(
            f"{reference}: the program that its weights belong to is in its run's folder; give it as "
            "RUNS/<run>/checkpoints/<its own name>.chk, with the run's folder whole"
        )
    return Named(RunFolder(run), StoredCheckpoint(path, name_of))
