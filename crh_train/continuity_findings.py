"""Whether a run's `continuity.jsonl` is what its chronicle gives, and, of a run that acts on its diagnoses, whether it
ended where they say."""

import os

from crh_train.chronicle import LINES_NAME, StepFields
from crh_train.diagnostics.continuity import CONTINUITY_NAME, Continuity
from crh_train.diagnostics.policy import parsed
from crh_train.errors import CorruptRun, CrhTrainError
from crh_train.findings import Finding, damaged
from crh_train.regular_file import read_regular
from crh_train.run_folder import MAX_DOCUMENT_BYTES, RunFolder


class Rederived:
    """The diagnoses of a run, made again from the good lines of its chronicle, each of which is to be visited.

    Nothing is made where the run's documents cannot be read, of which other findings tell.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._path = folder.path / CONTINUITY_NAME
        self._continuity: Continuity | None = None
        self._lines: list[bytes] = []
        self._last_step = 0
        self._visited = 0
        try:
            config, per_epoch = folder.config_document()["config"], folder.program_document()["steps_per_epoch"]
            policy, epochs = parsed(config), config["engine"]["epochs"]
        except (CrhTrainError, KeyError):
            return
        if per_epoch > 0 and type(epochs) is int:
            self._continuity = Continuity(per_epoch, policy)
            self._last_step = epochs * per_epoch

    def visit(self, fields: StepFields) -> None:
        self._visited += 1
        if self._continuity is not None:
            self._continuity, entry = self._continuity.after(fields)
            if entry is not None:
                self._lines.append(entry.line())

    def findings(self, status: str, whole: bool) -> list[Finding]:
        """What is wrong, once every good line was visited; `whole`: the chronicle has no other lines."""
        if self._continuity is None:
            return []
        found = self._missing(status)
        if whole:
            found += self._end(status, self._continuity)
            found += self._file(status) if os.path.lexists(self._path) else []
        return found

    def _missing(self, status: str) -> list[Finding]:
        """A session makes the file, durably, before it logs its first step, and nothing removes it: wherever there is a
        line it is there too, whenever a process was killed or the power failed."""
        if os.path.lexists(self._path) or (not self._visited and status != "finished"):
            return []
        mended = "restore the file from a copy" if status == "finished" else "resuming makes it again"
        return damaged(CONTINUITY_NAME, [f"is missing: a run has it before the first line of {LINES_NAME}; {mended}"])

    def _end(self, status: str, continuity: Continuity) -> list[Finding]:
        if status != "finished" or not continuity.policy.act:
            return []
        if continuity.course.stopped or self._visited >= self._last_step:
            return []
        message = (
            f"ends at step {self._visited} of {self._last_step}, where no diagnosis stops the run: lines are missing"
        )
        return damaged(LINES_NAME, [message])

    def _file(self, status: str) -> list[Finding]:
        expected = b"".join(self._lines)
        try:
            data = read_regular(self._path, max(MAX_DOCUMENT_BYTES, len(expected)), CorruptRun)
        except CorruptRun as error:
            return damaged(CONTINUITY_NAME, [str(error)])
        if data == expected:
            return []
        lines = data.splitlines(keepends=True)
        same = next((i for i, (a, b) in enumerate(zip(lines, self._lines, strict=False)) if a != b), None)
        number = min(len(lines), len(self._lines)) + 1 if same is None else same + 1
        if status == "finished":
            return damaged(CONTINUITY_NAME, [f"line {number} is not what {LINES_NAME} gives; it was changed"])
        if data.startswith(expected) or expected.startswith(data):
            return []  # one of the two files was handed to the disk before the other
        message = f"line {number} is not what {LINES_NAME} gives: an interrupted write; resuming makes it again"
        return [Finding("note", CONTINUITY_NAME, message)]
