"""A disk that fails at a chosen operation, and sessions on it."""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crh_train.checkpoint_header import CheckpointName
from faults.session import Told, Way, go_on, operated_by

_WRITES = ("write", "write_at")


class Killed(BaseException):
    """The process is dead: no handler of `Exception` sees it, and nothing more reaches the disk."""


class Kind(NamedTuple):
    """What happens at an operation."""

    half: bool  # this one, a write, writes half of its data, and what follows happens at the next one
    error: int | None  # it is refused with this number; 0: the process is killed; None: nothing more happens
    lasting: bool  # and so is each one after it

    def fits(self, operation: str) -> bool:
        return not self.half or operation in _WRITES


KINDS = {
    "kill": Kind(False, 0, True),
    "half-write + kill": Kind(True, 0, True),
    "ENOSPC": Kind(False, errno.ENOSPC, False),
    "ENOSPC from then on": Kind(False, errno.ENOSPC, True),
    "half-write + ENOSPC": Kind(True, errno.ENOSPC, False),
    "EIO": Kind(False, errno.EIO, False),
    "EIO from then on": Kind(False, errno.EIO, True),
    "half-write + EIO": Kind(True, errno.EIO, False),
    "half-writes from then on": Kind(True, None, True),
}


class Disk:
    """Does one operation at a time, counts them, and lets `kind` happen at number `at`; the first is 1."""

    def __init__(self, kind: Kind | None = None, at: int = 0) -> None:
        self.kind = kind
        self._at = at
        self._one = threading.Lock()
        self.log: list[str] = []  # names of the operations
        self.told: list[Told] = []  # what was acknowledged meanwhile

    @property
    def done_before(self) -> int:
        """How many operations there are before the one that is refused."""
        assert self.kind is not None
        return self._at - 1 + self.kind.half

    def tell(self, name: CheckpointName | None) -> None:
        self.told.append(Told(len(self.log), name))

    def __call__(self, name: str, real: Callable[..., Any], *arguments: Any) -> Any:
        with self._one:
            self.log.append(name)
            number, kind = len(self.log), self.kind
            if kind is None or number < self._at:
                return real(*arguments)
            if kind.half and name in _WRITES and (number == self._at or kind.error is None):
                descriptor, data, *rest = arguments
                return real(descriptor, data[: -(-len(data) // 2)], *rest)
            refused = number == self.done_before + 1 or (kind.lasting and number > self.done_before)
            if kind.error is None or not refused:
                return real(*arguments)
            raise OSError(kind.error, os.strerror(kind.error)) if kind.error else Killed


def session(runs: Path, way: Way, disk: Disk) -> BaseException | None:
    """One session on `disk`; how it failed."""
    try:
        with operated_by(disk):
            go_on(runs, way, disk.tell)
    except (Killed, Exception) as error:
        return error
    return None


def spread(numbers: Sequence[int], limit: int | None) -> list[int]:
    """At most `limit` of `numbers`, evenly spread, the last one always; None: all."""
    count = len(numbers)
    if limit is None or count <= limit:
        return list(numbers)
    return [numbers[(index + 1) * count // limit - 1] for index in range(limit)]
