"""Canonical bytes and SHA-256: of JSON values, of named arrays, of files. No JAX.

Every identity in a run (configuration, dataset state, run, checkpoint) is one of these three digests, written
as 64 lower-case hexadecimal digits.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rfc8785


def canonical_json(value: Any) -> bytes:
    """Bytes of `value` in the JSON Canonicalization Scheme (RFC 8785): `1e-3` and `0.001` give the same ones."""
    return rfc8785.dumps(value)


def digest_bytes(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_json(value: Any) -> str:
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def little_endian(array: np.ndarray) -> np.ndarray:
    """`array` as contiguous little-endian bytes would store it: same shape, same values, defined byte order."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)


def digest_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over named arrays: for each name in sorted order, the length of a canonical JSON header
    `[name, dtype, shape]` as eight little-endian bytes, the header, then the array's little-endian bytes.

    The length in front makes the encoding injective: no two different mappings give the same bytes.
    """
    hasher = hashlib.sha256()
    for name in sorted(arrays):
        array = little_endian(arrays[name])
        header = canonical_json([name, array.dtype.name, list(array.shape)])
        hasher.update(len(header).to_bytes(8, "little"))
        hasher.update(header)
        hasher.update(array.reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()
