"""Every change that a run makes on disk goes through these functions, and every file of a run is opened here.
Knows nothing of formats.

A failed operation is `StorageFailed` and final: after a failed fsync the kernel may have dropped the data, so no
operation is ever tried again. Callers use the functions through the module (`filesystem.write(…)`), so that a test
can put a failing one in its place.
"""

import contextlib
import itertools
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from crh_train.errors import InputError, StorageFailed

TEMPORARY_PREFIX = ".tmp-"
"""Names that begin with this belong to a write that was not finished, and mean nothing."""


@contextlib.contextmanager
def _or_storage_failed(action: str, path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise StorageFailed(
            f"Could not {action} {path}: {error.strerror}; nothing unfinished has been given a name. "
            "See to the disk, then `crh-train resume` the run"
        ) from error


# --- primitives ----------------------------------------------------------------------------------------------------


def create_exclusive(path: Path) -> int:
    """Descriptor of a new, empty file. Raises `FileExistsError` where there is one."""
    with _or_storage_failed("create", path):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def open_append(path: Path) -> int:
    """Descriptor of an existing file whose every write goes to its end."""
    with _or_storage_failed("open", path):
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)


def write(descriptor: int, data: bytes | memoryview, path: Path) -> None:
    """Write all of `data` where the descriptor stands."""
    left = memoryview(data)
    with _or_storage_failed("write", path):
        while left:
            left = left[os.write(descriptor, left) :]


def write_at_start(descriptor: int, data: bytes, path: Path) -> None:
    with _or_storage_failed("write", path):
        done = 0
        while done < len(data):
            done += os.pwrite(descriptor, data[done:], done)


def fsync(descriptor: int, path: Path) -> None:
    with _or_storage_failed("sync", path):
        os.fsync(descriptor)


def fdatasync(descriptor: int, path: Path) -> None:
    """Sync a file's data and length."""
    with _or_storage_failed("sync", path):
        if sys.platform == "darwin":
            os.fsync(descriptor)
        else:
            os.fdatasync(descriptor)


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    with _or_storage_failed("sync", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def rename_new(source: Path, target: Path) -> None:
    """Give a file its final name. Raises `FileExistsError`, and changes nothing, where the name is taken.

    POSIX has no rename that refuses to replace; a link does refuse, on every file system that has links.
    """
    with _or_storage_failed("publish", target):
        os.link(source, target, follow_symlinks=False)
        os.unlink(source)


def rename_folder_new(source: Path, target: Path) -> None:
    """As `rename_new`, for a folder: `FileExistsError` where the name is taken by one that is not empty."""
    with _or_storage_failed("publish", target):
        try:
            os.rename(source, target)
        except OSError as error:
            if target.is_dir():
                raise FileExistsError(error.errno, error.strerror, str(target)) from error
            raise


def replace(source: Path, target: Path) -> None:
    with _or_storage_failed("replace", target):
        os.replace(source, target)


def truncate(path: Path, size: int) -> None:
    """Cut a file to `size` bytes, durably."""
    descriptor = open_append(path)
    try:
        with _or_storage_failed("truncate", path):
            os.ftruncate(descriptor, size)
        fdatasync(descriptor, path)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    with _or_storage_failed("remove", path):
        os.unlink(path)


def remove_folder(path: Path) -> None:
    """Remove a folder and what is in it."""
    with _or_storage_failed("remove", path):
        for folder, folders, files in os.walk(path, topdown=False):
            for name in files:
                os.unlink(os.path.join(folder, name))
            for name in folders:
                os.rmdir(os.path.join(folder, name))
        os.rmdir(path)


def make_folder(path: Path) -> None:
    """Make a folder. Raises `FileExistsError` where there is one."""
    with _or_storage_failed("make", path):
        os.mkdir(path)


def make_folders(path: Path) -> None:
    """Make a folder and its parents, durably, as far as they are not there."""
    if not path.is_dir():
        make_folders(path.absolute().parent)
        with _or_storage_failed("make", path), contextlib.suppress(FileExistsError):
            os.mkdir(path)
        fsync_folder(path.absolute().parent)


def open_lock(path: Path) -> int:
    """Descriptor of a lock file, which is made if it is not there and never removed."""
    with _or_storage_failed("open", path):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def rewrite_lock(descriptor: int, data: bytes, path: Path) -> None:
    """Say who holds a lock. In place and not synced: the words matter only while the holder lives."""
    with _or_storage_failed("write", path):
        os.ftruncate(descriptor, 0)
    write_at_start(descriptor, data, path)


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

    def __enter__(self) -> "NewFile":
        return self

    def write(self, data: bytes | memoryview) -> None:
        write(self._descriptor, data, self._path)

    def write_at_start(self, data: bytes) -> None:
        write_at_start(self._descriptor, data, self._path)

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

    def same_bytes_as(self, path: Path) -> bool:
        """Whether the regular file at `path` holds what was written so far."""
        with open(self._descriptor, "rb", closefd=False) as mine, open(path, "rb") as other:
            mine.seek(0)
            while True:
                block = mine.read(1 << 20)
                if block != other.read(1 << 20):
                    return False
                if not block:
                    return True

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
    them."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        for number in itertools.count():
            self.path = parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{number}"
            with contextlib.suppress(FileExistsError):
                make_folder(self.path)
                break
        self._exists = True

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
        if self._exists:
            with contextlib.suppress(StorageFailed):
                remove_folder(self.path)


def write_over(path: Path, data: bytes) -> None:
    """Put `data` at `path`: a reader finds the old bytes or the new, at every moment and after any crash."""
    with NewFile(path.parent) as file:
        file.write(data)
        file.publish_over(path.name)


# --- reading -------------------------------------------------------------------------------------------------------


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
