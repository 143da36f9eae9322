"""A run written for the tools of others, by one module each: `export(folder, output, checkpoint) -> Exported`.

The run itself stays as it is. A module imports what it needs beyond crh-train's own requirements when it is called.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from crh_train.errors import UsageError


class Exported(NamedTuple):
    """What was written, for a person and for a script."""

    path: str  # of a file, or the address of a server
    facts: Mapping[str, str]  # name -> value, to be shown
    hint: str  # what to do with it


TARGETS: Mapping[str, str] = {
    "mlflow": "crh_train.exports.mlflow",
    "safetensors": "crh_train.exports.safetensors",
    "tensorboard": "crh_train.exports.tensorboard",
}
"""What `--to` takes -> the module that writes it."""


def targets() -> Sequence[str]:
    return sorted(TARGETS)


def check_folder(target: str, folder: Path) -> None:
    """Raise `UsageError` where `folder` neither is one nor can be made, because a file is in its way."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UsageError(
            f"--to {target}: {there} is a file, and a folder goes there; give another -o. Nothing was written"
        )
