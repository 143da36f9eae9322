"""The diagnoses along a chronicle, and the side file `continuity.jsonl` that holds them, one line each:

    {"action", "change", "class", "confidence", "learning_rate_factor", "series": {name: {"class", "confidence",
     "measures": {…} or null}}, "step"}

1. There MUST be a line for each step, from step `LONG` on, that is a multiple of `CADENCE` or the last of its epoch.
2. A line is canonical JSON (RFC 8785) and a line feed; `class` and `action` are the numbers of `classes.py`.
3. `change` is what a run that may act (`policy.py`) did after the step: "stop", "lower" or null;
   `learning_rate_factor` is that of the next step.

The file is derived: the chronicle and the configuration give every byte of it.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from crh_train.chronicle import StepFields
from crh_train.config import DiagnosticsConfig
from crh_train.diagnostics.classes import Diagnosis, diagnose
from crh_train.diagnostics.measures import LONG
from crh_train.diagnostics.policy import Course, decide
from crh_train.digest import canonical_json

CONTINUITY_NAME = "continuity.jsonl"
CADENCE = LONG // 2


class Entry(NamedTuple):
    """A diagnosis, and what was done about it."""

    diagnosis: Diagnosis
    change: str | None  # "stop", "lower", or nothing
    learning_rate_factor: float  # of the next step

    def document(self) -> dict[str, Any]:
        found = self.diagnosis
        return {
            "step": found.step,
            "class": int(found.kind),
            "action": int(found.action),
            "confidence": found.confidence,
            "series": {
                name: {
                    "class": int(finding.kind),
                    "confidence": finding.confidence,
                    "measures": None if finding.measures is None else finding.measures._asdict(),
                }
                for name, finding in found.findings.items()
            },
            "change": self.change,
            "learning_rate_factor": self.learning_rate_factor,
        }

    def line(self) -> bytes:
        return canonical_json(self.document()) + b"\n"


class Continuity(NamedTuple):
    """Where the diagnosis of a run stands after some step."""

    steps_per_epoch: int
    policy: DiagnosticsConfig
    window: tuple[StepFields, ...] = ()
    course: Course = Course()

    def after(self, fields: StepFields) -> "tuple[Continuity, Entry | None]":
        """Where it stands after the next step, and the entry that is made there, if one is."""
        following = self._replace(window=(*self.window[1 - LONG :], fields))
        ends_epoch = fields.step % self.steps_per_epoch == 0
        if fields.step < LONG or not (ends_epoch or fields.step % CADENCE == 0):
            return following, None
        diagnosis = diagnose(following.window)
        course = decide(self.course, diagnosis, self.policy) if ends_epoch else self.course
        stop, lower = course.stopped > self.course.stopped, course.changed_at > self.course.changed_at
        change = "stop" if stop else "lower" if lower else None
        return following._replace(course=course), Entry(diagnosis, change, course.learning_rate_factor)


def follow(start: Continuity, records: Iterable[StepFields]) -> tuple[Continuity, list[Entry]]:
    """Where the diagnosis stands after `records`, the steps that follow `start`, and what it found in them."""
    entries = []
    for fields in records:
        start, entry = start.after(fields)
        if entry is not None:
            entries.append(entry)
    return start, entries
