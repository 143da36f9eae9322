"""Prepared arrays on disk: a second run of the same data need not decode and prepare them again, and data larger than
memory are read from there batch by batch.

An entry is a folder named by its key, with one `.npy` file an array and `entry.json`, which holds the SHA-256 of each.
It is written sample by sample under a temporary name and renamed when all of it is on disk. To read it, each file is
hashed to its end and then mapped, not loaded: only what is looked at comes into memory, and the system may drop it
again. An entry that is not exactly what it says it is is removed and made again. The cache may be deleted at any
moment, also while it is mapped; a failure to write it is logged. After it was hashed a file is not checked again, and
the hashes find accidents: whoever can write the cache can write the hashes too.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from crh_train.digest import digest_json

_FORMAT = 1
_INDEX = "entry.json"

log = logging.getLogger(__name__)


class Form(NamedTuple):
    """Of an array that is written; its first axis counts samples."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * np.dtype(self.dtype).itemsize


Samples = Iterable[tuple[str, np.ndarray]]
"""The name of an array and its next sample, those of each array in order."""


def entry_key(dataset_state: str, identity: str) -> str:
    """The name of an entry: SHA-256 over the dataset state and all else that decides the prepared bits.

    Args:
      identity: what the arithmetic depends on: the level of determinism and the version of the semantics; under
        native determinism the machine's fingerprint.
    """
    return digest_json({"dataset_state": dataset_state, "format": _FORMAT, "identity": identity})


def read(folder: Path, key: str, names: Collection[str]) -> dict[str, np.ndarray] | None:
    """The arrays `names` of an entry, mapped and not to be written to, or None where there is none or it is damaged; a
    damaged one is removed."""
    entry = folder / key
    try:
        recorded = json.loads((entry / _INDEX).read_bytes())
        if isinstance(recorded, dict) and recorded.keys() == set(names):
            return {name: _mapped(entry / f"{name}.npy", recorded[name]) for name in names}
    except FileNotFoundError:
        if not entry.exists():
            return None
    except (OSError, ValueError) as error:
        log.debug("%s: %s", entry, error)
    log.warning("cached data %s are damaged; they are removed and prepared again", entry)
    shutil.rmtree(entry, ignore_errors=True)
    return None


def write(folder: Path, key: str, forms: Mapping[str, Form], samples: Samples) -> None:
    """Write an entry of arrays of these forms, one sample of `samples` after another in memory. Does nothing if another
    process was faster; logs a failure of the disk, without an entry, and goes on."""
    needed = sum(form.bytes for form in forms.values())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(folder).free) < needed:
            log.warning("prepared data are not kept in %s: they take %d bytes and %d are free", folder, needed, free)
            return
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder, ignore_cleanup_errors=True) as temporary:
            staged = Path(temporary) / key
            staged.mkdir()
            _fill(staged, forms, samples)
            _sync_folder(staged)
            if not (folder / key).exists():
                staged.rename(folder / key)
                _sync_folder(folder)
    except OSError as error:
        log.warning("prepared data are not kept in %s, where they take %d bytes: %s", folder, needed, error.strerror)


def _fill(staged: Path, forms: Mapping[str, Form], samples: Samples) -> None:
    files = {name: _Growing(staged / f"{name}.npy", form) for name, form in forms.items()}
    try:
        for name, sample in samples:
            files[name].append(sample)
        recorded = {name: file.finish() for name, file in files.items()}
    finally:
        for file in files.values():
            file.close()
    with (staged / _INDEX).open("xb") as stream:
        stream.write(json.dumps(recorded, sort_keys=True).encode())
        _sync(stream)


class _Growing:
    """A `.npy` file of a form that is known before its samples are, hashed as it is written."""

    def __init__(self, path: Path, form: Form) -> None:
        self._form = form
        self._missing = form.shape[0]
        self._hash = hashlib.sha256()
        self._stream = path.open("xb")
        np.lib.format.write_array_header_1_0(
            self,
            {"descr": np.dtype(form.dtype).str, "fortran_order": False, "shape": form.shape},
        )

    def write(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._stream.write(data)

    def append(self, sample: np.ndarray) -> None:
        assert (sample.dtype, sample.shape) == (np.dtype(self._form.dtype), self._form.shape[1:])
        self._missing -= 1
        self.write(np.ascontiguousarray(sample).reshape(-1).view(np.uint8).data)

    def finish(self) -> str:
        """Make it durable; the SHA-256 of its bytes."""
        assert self._missing == 0
        _sync(self._stream)
        return self._hash.hexdigest()

    def close(self) -> None:
        self._stream.close()


def _mapped(path: Path, sha256: str) -> np.ndarray:
    """The array of a `.npy` file, not yet read. Raises ValueError unless the file's SHA-256 is `sha256`."""
    with path.open("rb") as stream:  # one descriptor, so that what was hashed is what is mapped
        if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
            raise ValueError(f"{path.name} is not what was written")
        stream.seek(0)
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        return np.asarray(np.memmap(stream, dtype, "r", stream.tell(), shape))


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
