"""The system calls that change something on disk, one function each. Nothing else in the package makes such a call but
for scratch files outside every run, so a test that puts its own functions in place of these sees, delays or refuses
every change that a run makes. No policy: failures are `OSError`, nothing is retried, nothing is synced unasked.
"""

import os
import sys
from pathlib import Path

OPERATIONS = (
    *("create", "open_append", "open_or_create", "write", "write_at", "start_writeback", "truncate"),
    *("sync", "sync_data", "sync_folder", "link", "rename", "unlink", "make_folder", "remove_folder"),
)
"""The names of all functions here."""


def create(path: Path) -> int:
    """Descriptor of a new, empty file; fails where the name is taken."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def open_append(path: Path) -> int:
    """Descriptor of an existing file whose every write goes to its end."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)


def open_or_create(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def write(descriptor: int, data: bytes | memoryview) -> int:
    """Bytes written, which may be fewer than given."""
    return os.write(descriptor, data)


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    return os.pwrite(descriptor, data, offset)


def start_writeback(descriptor: int, offset: int, size: int) -> None:
    """Let the system begin to write a part of a file out, without waiting for it: advice, which makes nothing durable.
    The part also leaves the page cache once it is written."""
    if sys.platform != "darwin":
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)


def truncate(descriptor: int, size: int) -> None:
    os.ftruncate(descriptor, size)


def sync(descriptor: int) -> None:
    os.fsync(descriptor)


def sync_data(descriptor: int) -> None:
    """Sync a file's content and length, not its times."""
    if sys.platform == "darwin":
        os.fsync(descriptor)
    else:
        os.fdatasync(descriptor)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link(source: Path, target: Path) -> None:
    """A second name for a file; fails where it is taken."""
    os.link(source, target, follow_symlinks=False)


def rename(source: Path, target: Path) -> None:
    """Rename a file or a folder; a file takes the place of a file, a folder that of an empty folder."""
    os.rename(source, target)


def unlink(path: Path) -> None:
    os.unlink(path)


def make_folder(path: Path) -> None:
    os.mkdir(path)


def remove_folder(path: Path) -> None:
    os.rmdir(path)
