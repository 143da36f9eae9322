"""A run written for the tools of others, by one module each: `export(folder, output, checkpoint) -> Exported`.

The run itself stays as it is. A module imports what it needs beyond crh-train's own requirements when it is called.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


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
