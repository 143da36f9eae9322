"""Every change that a run makes on disk goes through these functions. Knows nothing of formats.

A failed operation is `StorageFailed` and final: after a failed fsync the kernel may have dropped the data, so no
operation is ever tried again. The system calls themselves stand in `disk.py`.
"""

import contextlib
import fcntl
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from crh_train import disk
from crh_train.errors import StorageFailed

TEMPORARY_PREFIX = ".tmp-"
"""Names that begin with this belong to a write that was not finished, and mean nothing."""

WRITEBACK_BYTES = 16 << 20
"""So much of a new file is handed to the disk while more is written, so that the disk is not idle until the sync."""


@contextlib.contextmanager
def _or_storage_failed(action: str, path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise StorageFailed(
            f"Could not {action} {path}: {error.strerror}; nothing unfinished has been given a name"
        ) from error


@contextlib.contextmanager
def advising(advice: str) -> Iterator[None]:
    """Add to a `StorageFailed` from within what to do now, which only the caller knows."""
    try:
        yield
    except StorageFailed as error:
        raise StorageFailed(f"{error}; {advice}") from error


# --- single operations ---------------------------------------------------------------------------------------------


def create_exclusive(path: Path) -> int:
    """Descriptor of a new, empty file. Raises `FileExistsError` where there is one."""
    with _or_storage_failed("create", path):
        return disk.create(path)


def open_append(path: Path) -> int:
    """Descriptor of an existing file whose every write goes to its end."""
    with _or_storage_failed("open", path):
        return disk.open_append(path)


def write(descriptor: int, data: bytes | memoryview, path: Path) -> None:
    """Write all of `data` where the descriptor stands."""
    left = memoryview(data)
    with _or_storage_failed("write", path):
        while left:
            left = left[disk.write(descriptor, left) :]


def write_at(descriptor: int, data: bytes | memoryview, offset: int, path: Path) -> None:
    """Write all of `data` from `offset` on."""
    left = memoryview(data)
    with _or_storage_failed("write", path):
        while left:
            done = disk.write_at(descriptor, left, offset)
            left, offset = left[done:], offset + done


def fsync(descriptor: int, path: Path) -> None:
    with _or_storage_failed("sync", path):
        disk.sync(descriptor)


def fdatasync(descriptor: int, path: Path) -> None:
    """Sync a file's data and length."""
    with _or_storage_failed("sync", path):
        disk.sync_data(descriptor)


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    with _or_storage_failed("sync", path):
        disk.sync_folder(path)


def rename_new(source: Path, target: Path) -> None:
    """Give a file its final name. Raises `FileExistsError`, and changes nothing, where the name is taken.

    POSIX has no rename that refuses to replace; a link does refuse, on every file system that has links.
    """
    with _or_storage_failed("publish", target):
        disk.link(source, target)
        disk.unlink(source)


def rename_folder_new(source: Path, target: Path) -> None:
    """As `rename_new`, for a folder: `FileExistsError` where the name is taken by one that is not empty."""
    with _or_storage_failed("publish", target):
        try:
            disk.rename(source, target)
        except OSError as error:
            if target.is_dir():
                raise FileExistsError(error.errno, error.strerror, str(target)) from error
            raise


def replace(source: Path, target: Path) -> None:
    with _or_storage_failed("replace", target):
        disk.rename(source, target)


def truncate(path: Path, size: int) -> None:
    """Cut a file to `size` bytes, durably."""
    descriptor = open_append(path)
    try:
        with _or_storage_failed("truncate", path):
            disk.truncate(descriptor, size)
        fdatasync(descriptor, path)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    with _or_storage_failed("remove", path):
        disk.unlink(path)


def remove_folder(path: Path) -> None:
    """Remove a folder and what is in it; links in it are removed and not followed."""
    with _or_storage_failed("remove", path):
        for folder, folders, files in os.walk(path, topdown=False):
            for name in (*files, *folders):
                inside = Path(folder, name)
                if inside.is_dir() and not inside.is_symlink():
                    disk.remove_folder(inside)
                else:
                    disk.unlink(inside)
        disk.remove_folder(path)


def make_folder(path: Path) -> None:
    """Make a folder. Raises `FileExistsError` where there is one."""
    with _or_storage_failed("make", path):
        disk.make_folder(path)


def make_folders(path: Path) -> None:
    """Make a folder and its parents, durably, as far as they are not there."""
    if not path.is_dir():
        make_folders(path.absolute().parent)
        with _or_storage_failed("make", path), contextlib.suppress(FileExistsError):
            disk.make_folder(path)
        fsync_folder(path.absolute().parent)


def open_lock(path: Path) -> int:
    """Descriptor of a lock file, which is made if it is not there and never removed."""
    with _or_storage_failed("open", path):
        return disk.open_or_create(path)


def rewrite_lock(descriptor: int, data: bytes, path: Path) -> None:
    """Say who holds a lock. In place and not synced: the words matter only while the holder lives."""
    with _or_storage_failed("write", path):
        disk.truncate(descriptor, 0)
    write_at(descriptor, data, 0, path)


# --- whole files ---------------------------------------------------------------------------------------------------


class NewFile:
    """A file that gets its name whole and synced, or never. Use as a context manager: left unpublished, it is removed.

    Order: temporary file opened exclusively, write, fsync; rename; fsync the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for number in itertools.count():
            self._path = folder / f"{TEMPORARY_PREFIX}{os.getpid()}-{number}"
            with contextlib.suppress(FileExistsError):
                self._descriptor = create_exclusive(self._path)
                break
        self._exists = True
        self._end = 0
        self._handed_over = 0

    def __enter__(self) -> "NewFile":
        return self

    def write(self, data: bytes | memoryview) -> None:
        write(self._descriptor, data, self._path)
        self._end += len(data)
        if self._end - self._handed_over >= WRITEBACK_BYTES:
            with contextlib.suppress(OSError):  # advice only: what is not written now is written by the sync
                disk.start_writeback(self._descriptor, self._handed_over, self._end - self._handed_over)
            self._handed_over = self._end

    def write_at_start(self, data: bytes) -> None:
        write_at(self._descriptor, data, 0, self._path)

    def publish(self, name: str) -> bool:
        """Publish as `name`, durably. False where that name is taken: then nothing has changed."""
        fsync(self._descriptor, self._path)
        try:
            rename_new(self._path, self._folder / name)
        except FileExistsError:
            return False
        self._exists = False
        fsync_folder(self._folder)
        return True

    def publish_over(self, name: str) -> None:
        """Publish as `name`, durably, in place of what had that name."""
        fsync(self._descriptor, self._path)
        replace(self._path, self._folder / name)
        self._exists = False
        fsync_folder(self._folder)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
        if self._exists:
            # What went wrong is more worth telling than that a temporary file stays behind: recovery removes it.
            with contextlib.suppress(StorageFailed):
                remove(self._path)


class NewFolder:
    """A folder that gets its name whole and synced, or never. As `NewFile`; the files in it are synced by who writes
    them. Until then it is locked, so that what a killed process left can be told from what is being written."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        for number in itertools.count():
            self.path = parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{number}"
            with contextlib.suppress(FileExistsError):
                make_folder(self.path)
                break
        self._exists = True
        self._lock = _locked_folder(self.path)
        if self._lock is None:
            raise StorageFailed(f"{self.path}: was locked by another process as soon as it was made")

    def __enter__(self) -> "NewFolder":
        return self

    def publish(self, name: str) -> bool:
        """Publish as `name`, durably. False where that name is taken: then nothing has changed."""
        fsync_folder(self.path)
        try:
            rename_folder_new(self.path, self._parent / name)
        except FileExistsError:
            return False
        self._exists = False
        fsync_folder(self._parent)
        return True

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
        if self._exists:
            with contextlib.suppress(StorageFailed):
                remove_folder(self.path)


def _locked_folder(path: Path) -> int | None:
    """The descriptor that holds the folder's lock, or None where another process holds it."""
    with _or_storage_failed("open", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def abandoned(path: Path) -> bool:
    """Whether no process is filling the folder `path`, which bears a temporary name."""
    descriptor = _locked_folder(path)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def write_over(path: Path, data: bytes) -> None:
    """Put `data` at `path`: a reader finds the old bytes or the new, at every moment and after any crash."""
    with NewFile(path.parent) as file:
        file.write(data)
        file.publish_over(path.name)
