"""One run on disk, looked at again and again. Only reads."""

import os
import time
from collections.abc import Sequence

from crh_train import run_lock
from crh_train.chronicle import LINES_NAME
from crh_train.chronicle_audit import opened
from crh_train.errors import CorruptRun, RunNotFound
from crh_train.live.chronicle_reader import ChronicleReader
from crh_train.live.state import RunState
from crh_train.run_folder import StoredCheckpoint
from crh_train.run_store import RunFolder
from crh_train.shape import misfit

_CONFIG = {"engine": {"epochs": int, ...: object}, ...: object}


class Watched:
    """A run and what was seen of it. Raises `CorruptRun` where its documents cannot be read."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        config, program = folder.config_document()["config"], folder.program_document()
        if (message := misfit(config, _CONFIG)) is not None:
            raise CorruptRun(f"{folder.path / 'config.json'}: {message}")
        self._epochs, self._steps_per_epoch = config["engine"]["epochs"], program["steps_per_epoch"]
        if min(self._epochs, self._steps_per_epoch) < 1:
            raise CorruptRun(
                f"{folder.path}: expected at least one epoch of one step, found {self._epochs} of "
                f"{self._steps_per_epoch}; `crh-train verify {folder.argument}` says what is damaged"
            )
        command = folder.sessions()[0]["command"]
        self._configuration = " ".join([command["conf"], *command["overrides"]])
        self._reader = ChronicleReader(folder.path, folder.run_hash)
        self._status = ""

    def look(self, limit: int) -> RunState:
        """The run now, of its chronicle at most `limit` lines more than before.

        Raises `RunNotFound` where it is not there any more.
        """
        folder, reader, before = self.folder, self._reader, self._reader.offset
        reader.look(limit)
        if not folder.path.is_dir():
            raise RunNotFound(f"run {folder.name} is not in {folder.path.parent} any more: somebody removed it")
        # A line that has just come proves the writer, so the lock is only tried, for a moment, where none came.
        if self._status != "running" or reader.offset == before:
            self._status = folder.status
        with opened(folder.path / LINES_NAME) as lines:
            found = os.fstat(lines.fileno())
        running, stored = self._status == "running", folder.checkpoints()
        unread = max(found.st_size - reader.offset.bytes, 0)
        return RunState(
            name=folder.name,
            argument=folder.argument,
            configuration=self._configuration,
            status=self._status,
            writer=run_lock.holder(folder.path / ".lock") if running else None,
            epochs=self._epochs,
            steps_per_epoch=self._steps_per_epoch,
            curves=reader.curves(),
            unread=unread,
            checkpoint=stored[-1].name.text.removesuffix(".chk") if stored else None,
            silence=max(time.time() - found.st_mtime, 0.0),
            problem=reader.problem or self._missing(unread, stored),
        )

    def _missing(self, unread: int, stored: Sequence[StoredCheckpoint]) -> str | None:
        """Why good lines are not all the lines of a finished run: those of any other may end early."""
        lines, saved = self._reader.offset.records, stored[-1].name.step if stored else 0
        if self._status != "finished":
            return None
        if self._reader.torn is not None or unread or lines == saved:
            return self._reader.torn
        return f"{LINES_NAME} ends at step {lines}, the newest checkpoint is of step {saved}: something is missing"
