"""Reading files that may be anything: only regular files are opened, and no more is read than was asked for."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from crh_train.errors import InputError


@contextlib.contextmanager
def opened_regular(path: Path, error: type[InputError]) -> Iterator[tuple[int, int]]:
    """Descriptor and size of a regular file. Links, folders, pipes and devices are refused with `error`."""
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as failure:
        link = "; expected a regular file, found a symbolic link" if path.is_symlink() else ""
        raise error(f"{path}: cannot be opened: {failure.strerror}{link}") from failure
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise error(f"{path}: expected a regular file, found something else; nothing was read")
        yield descriptor, status.st_size
    except OSError as failure:
        raise error(f"{path}: cannot be read: {failure.strerror}; see to the disk") from failure
    finally:
        os.close(descriptor)


def read_regular(path: Path, limit: int, error: type[InputError]) -> bytes:
    """All bytes of a regular file of at most `limit` bytes; `error` otherwise."""
    with opened_regular(path, error) as (descriptor, size), open(descriptor, "rb", closefd=False) as stream:
        data = stream.read(limit + 1)
        if len(data) > limit:
            raise error(f"{path}: expected at most {limit} bytes, found {size}")
        return data
