"""Who may write to a run or drive a sweep: the one process that holds its lock file with flock. The lock ends with the
process, however that ends, and the file is never removed: a new one would be another lock.
"""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from crh_train import filesystem
from crh_train.errors import CorruptRun, RunBusy
from crh_train.regular_file import opened_regular

_TRIES = 10
_PAUSE = 0.02  # seconds; `is_locked` holds the lock for a moment, which must not look like a writer
_HOLDER_BYTES = 300


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` of `what`, made if it is not there. Raises `RunBusy` naming the one that holds it."""
    descriptor = filesystem.open_lock(path)
    try:
        for attempt in range(_TRIES):
            if _try_flock(descriptor, fcntl.LOCK_EX):
                break
            if attempt == _TRIES - 1:
                raise RunBusy(f"{what}: process {_holder(descriptor)} is writing to it; wait for its end or stop it")
            time.sleep(_PAUSE)
        filesystem.rewrite_lock(descriptor, f"{os.getpid()} on {socket.gethostname()}\n".encode(), path)
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file `path`."""
    if not path.exists():  # a copy of a run, made without it
        return False
    with opened_regular(path, CorruptRun) as (descriptor, _):
        return not _try_flock(descriptor, fcntl.LOCK_SH)


def holder(path: Path) -> str:
    """The process that last held the lock file `path`, with its machine, as it wrote there; "unknown" before."""
    with opened_regular(path, CorruptRun) as (descriptor, _):
        return _holder(descriptor)


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, _HOLDER_BYTES, 0).decode("utf-8", "replace").strip() or "unknown"


@contextlib.contextmanager
def shared(path: Path) -> Iterator[int]:
    """Hold the lock file `path` together with others, and with each process that inherits the descriptor given."""
    descriptor = filesystem.open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield descriptor
    finally:
        os.close(descriptor)


def wait_for_all(path: Path, waiting: Callable[[], None]) -> None:
    """Return once no process holds the lock file `path`, having called `waiting` where one does now."""
    descriptor = filesystem.open_lock(path)
    try:
        if not _try_flock(descriptor, fcntl.LOCK_EX):
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _try_flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
