"""Prepared arrays on disk, so that a second run of the same data need not decode and prepare them again.

An entry is a folder named by its key, with one `.npy` file an array and `entry.json`, which holds the SHA-256 of each.
It is written under a temporary name and renamed when all of it is on disk. An entry that is not exactly what it says it
is is removed and made again. The cache only saves time: it may be deleted at any moment, and a failure to write it is
logged and changes nothing else. The hashes find accidents; whoever can write the cache can write the hashes too.
"""

import io
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from crh_train.digest import digest_bytes, digest_json

_FORMAT = 1
_INDEX = "entry.json"

log = logging.getLogger(__name__)


def entry_key(dataset_state: str, identity: str) -> str:
    """The name of an entry: SHA-256 over the dataset state and all else that decides the prepared bits.

    Args:
      identity: what the arithmetic depends on: the level of determinism and the version of the semantics; under
        native determinism the machine's fingerprint.
    """
    return digest_json({"dataset_state": dataset_state, "format": _FORMAT, "identity": identity})


def read(folder: Path, key: str, names: Collection[str]) -> dict[str, np.ndarray] | None:
    """The arrays `names` of an entry, or None where there is none or it is damaged; a damaged one is removed."""
    entry = folder / key
    try:
        recorded = json.loads((entry / _INDEX).read_bytes())
        files = {name: (entry / f"{name}.npy").read_bytes() for name in names}
        if {name: digest_bytes(data) for name, data in files.items()} == recorded:
            return {name: np.load(io.BytesIO(data), allow_pickle=False) for name, data in files.items()}
    except FileNotFoundError:
        if not entry.exists():
            return None
    except (OSError, ValueError) as error:
        log.debug("%s: %s", entry, error)
    log.warning("cached data %s are damaged; they are removed and prepared again", entry)
    shutil.rmtree(entry, ignore_errors=True)
    return None


def write(folder: Path, key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an entry. Does nothing if another process was faster; logs a failure and goes on."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder, ignore_cleanup_errors=True) as temporary:
            staged = Path(temporary) / key
            staged.mkdir()
            recorded = {}
            for name, array in arrays.items():
                buffer = io.BytesIO()
                np.save(buffer, array, allow_pickle=False)
                recorded[name] = digest_bytes(buffer.getbuffer())
                _write_synced(staged / f"{name}.npy", buffer.getbuffer())
            _write_synced(staged / _INDEX, json.dumps(recorded, sort_keys=True).encode())
            _sync_folder(staged)
            if not (folder / key).exists():
                staged.rename(folder / key)
                _sync_folder(folder)
    except OSError as error:
        log.warning("prepared data are not kept in %s: %s", folder, error.strerror)


def _write_synced(path: Path, data: bytes | memoryview) -> None:
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
