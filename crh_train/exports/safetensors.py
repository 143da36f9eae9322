"""A run's weights as one safetensors file, for whatever reads that format. The optimizer's state is not in it.

    8 bytes  length of the header, little-endian
        …    header: canonical JSON, padded with blanks to a multiple of 8 bytes
        …    the parameters in the sorted order of their names, float32, little-endian, C order, without gaps

The header's `__metadata__` holds `format` ("crh-train"), `run_hash`, `checkpoint_hash` and `config_hash`. Written here
and not by the package safetensors, because that one gives its metadata in another order each time; the tests read it
back by that package. Source: https://github.com/huggingface/safetensors, "Format".
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crh_train import checkpoint, filesystem
from crh_train.checkpoint_choice import LAST, chosen
from crh_train.digest import canonical_json, little_endian
from crh_train.errors import CorruptCheckpoint, UsageError
from crh_train.exports import Exported, check_folder
from crh_train.run_store import RunFolder

SUFFIX = ".safetensors"


def export(folder: RunFolder, output: str, which: str | None = None) -> Exported:
    """Write the weights of one checkpoint, which is checked to the last byte first, over an older file.

    Args:
      output: a name that ends in .safetensors, or a folder for `<run>-e<epochs>.safetensors`.
      which: as `checkpoint_choice.chosen`; None is the last.

    Raises:
      UsageError: no such checkpoint, a file or folder in the way, or a parameter that is not float32.
      CorruptCheckpoint: it is damaged, or of another run.
    """
    path = Path(output)
    check_folder("safetensors", path.parent if path.suffix == SUFFIX else path)
    if path.suffix == SUFFIX and path.is_dir():
        raise UsageError(
            f"--to safetensors: {path} is a folder, and a file goes there; give another -o. Nothing was written"
        )
    stored = chosen(folder, LAST if which is None else which)
    found = checkpoint.read(stored.path)
    if problems := folder.identity_disagreements(found):
        raise CorruptCheckpoint(f"{stored.path}: {'; '.join(problems)}; nothing was written")
    odd = sorted(name for name, array in found.model_state.items() if array.dtype != np.float32)
    if odd:
        raise UsageError(f"--to safetensors: parameter {odd[0]} is {found.model_state[odd[0]].dtype}, not float32")
    metadata = {
        "format": "crh-train",
        "run_hash": found.run_hash,
        "checkpoint_hash": stored.name.hash,
        "config_hash": found.config_hash,
    }
    data = _serialised(found.model_state, metadata)
    if path.suffix != SUFFIX:
        path /= f"{folder.name}-e{stored.name.epoch_index:05d}{SUFFIX}"
    filesystem.make_folders(path.parent)
    filesystem.write_over(path, data)
    facts = {
        "checkpoint": stored.name.hash,
        "parameters": str(sum(array.size for array in found.model_state.values())),
        "bytes": str(len(data)),
    }
    return Exported(str(path), facts, f"safetensors.numpy.load_file({str(path)!r})")


def _serialised(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in sorted(arrays):
        start, end = end, end + arrays[name].nbytes
        header[name] = {"dtype": "F32", "shape": list(arrays[name].shape), "data_offsets": [start, end]}
    text = canonical_json(header)
    text += b" " * (-len(text) % 8)
    payload = (little_endian(arrays[name]).tobytes() for name in sorted(arrays))
    return b"".join([len(text).to_bytes(8, "little"), text, *payload])
