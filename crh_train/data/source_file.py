"""One file of a source: its bytes, and that they are still those that were hashed."""

from pathlib import Path

from crh_train.digest import digest_bytes
from crh_train.errors import DataError


def read(path: Path) -> bytes:
    """Raises `DataError` where the file cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def read_unchanged(path: Path, sha256: str) -> bytes:
    """Raises `DataError` where the file cannot be read, or its bytes are not those of `sha256`."""
    data = read(path)
    found = digest_bytes(data)
    if found != sha256:
        raise DataError(f"{path}: changed while it was in use: SHA-256 was {sha256}, is {found}; start again")
    return data


def relative_name(path: Path, root: Path) -> str:
    """How the manifest names the file. Raises `DataError` for a name that is not UTF-8."""
    name = path.relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{path!a}: the file's name is not UTF-8; rename it") from error
    return name
