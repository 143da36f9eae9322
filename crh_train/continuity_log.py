"""Diagnoses a run while it trains: a hook that follows the chronicle's lines, and `continuity.jsonl`, to which the
process that writes the run adds what the hook finds.

The file is derived from the chronicle. So a session begins by writing anew what the lines before it give, whatever a
crash left there; what is added is synced only where the session ends in good order. That the file MUST be durable
before the session logs its first step is what lets `verify` miss it (`continuity_findings.py`).
"""

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from crh_train import filesystem
from crh_train.diagnostics.continuity import CONTINUITY_NAME, Continuity, Entry
from crh_train.hooks import Silent
from crh_train.types import StepRecord


class ContinuityHook(Silent):
    """Where the diagnosis of a run in training stands; `found` is given each new entry."""

    def __init__(self, continuity: Continuity, found: Callable[[Entry], None]) -> None:
        self._continuity = continuity
        self._found = found

    @property
    def stopped(self) -> bool:
        """Whether the run ends with the last step of which the numbers were read."""
        return self._continuity.course.stopped

    @property
    def learning_rate_factor(self) -> float:
        """Of the next step, once the numbers of the last one of an epoch were read."""
        return self._continuity.course.learning_rate_factor

    def after_step(self, record: StepRecord) -> None:
        self._continuity, entry = self._continuity.after(record)
        if entry is not None:
            self._found(entry)


class ContinuityFile:
    """The one writer of a run's `continuity.jsonl`; the caller holds the run's lock. Use as a context manager.

    `before`: the lines that the chronicle gives so far.
    """

    def __init__(self, folder: Path, before: bytes) -> None:
        self._path = folder / CONTINUITY_NAME
        filesystem.write_over(self._path, before)
        self._descriptor = filesystem.open_append(self._path)

    def add(self, entry: Entry) -> None:
        filesystem.write(self._descriptor, entry.line(), self._path)

    def __enter__(self) -> "ContinuityFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                filesystem.fdatasync(self._descriptor, self._path)
        finally:
            os.close(self._descriptor)
