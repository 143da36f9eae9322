"""What the diagnoses of a run say, as one JSON document: made anew from its chronicle, so of any run, running or not.
No JAX."""

from collections.abc import Mapping
from itertools import groupby, pairwise
from typing import Any

from crh_train.chronicle import ChronicleRecord
from crh_train.chronicle_audit import audit
from crh_train.diagnostics.continuity import Continuity, Entry
from crh_train.diagnostics.measures import LONG, SHORT
from crh_train.diagnostics.policy import parsed
from crh_train.diagnostics.reasons import ADVICE, reason
from crh_train.errors import CorruptRun
from crh_train.progress_findings import lost_lines
from crh_train.run_folder import RunFolder


def diagnosis_document(folder: RunFolder) -> dict[str, Any]:
    """Every entry of `continuity.jsonl`, and the spans of steps that they make. `present` is null where there are not
    yet `LONG` steps. Lines after the last good one, which a running process or a crash leaves, are passed over; where
    they are damage, `status` is "damaged" and `message` says how.

    Raises `InputError`, or `ConfigError` for a section of the configuration that cannot be read.
    """
    per_epoch = folder.program_document()["steps_per_epoch"]
    if per_epoch < 1:
        raise CorruptRun(f"{folder.path / 'program.json'}: expected steps in an epoch, found {per_epoch}")
    continuity = Continuity(per_epoch, parsed(folder.config_document()["config"]))
    entries: list[Entry] = []

    def visit(record: ChronicleRecord) -> None:
        nonlocal continuity
        continuity, entry = continuity.after(record)
        if entry is not None:
            entries.append(entry)

    status, stored = folder.status, folder.checkpoints()
    audited = audit(folder.path, folder.run_hash, visit)
    lost = lost_lines(audited, stored, status)
    return {
        "run": folder.name,
        "run_hash": folder.run_hash,
        "status": status if lost is None else "damaged",
        "message": lost,
        "steps": audited.good.records,
        "windows": {"short": SHORT, "long": LONG},
        "acts": continuity.policy.act,
        "spans": _spans(entries),
        "present": _described(entries[-1]) if entries else None,
        "changes": [_change(entry) for entry in entries if entry.change is not None],
        "entries": [entry.document() for entry in entries],
    }


def _spans(entries: list[Entry]) -> list[dict[str, Any]]:
    """Steps of one class: an entry is of the steps after the one before it. The rest is that of the last of them."""
    spans = []
    ends = pairwise([0, *(entry.diagnosis.step for entry in entries)])
    for _, group in groupby(zip(ends, entries, strict=True), key=lambda each: each[1].diagnosis.kind):
        listed = list(group)
        (first, _), (_, last) = listed[0][0], listed[-1][0]
        spans.append({"first_step": first + 1, "last_step": last, **_described(listed[-1][1])})
    return spans


def _described(entry: Entry) -> Mapping[str, Any]:
    found = entry.diagnosis
    return {
        "class": int(found.kind),
        "class_name": found.kind.name.lower(),
        "action": int(found.action),
        "action_name": found.action.name.lower(),
        "confidence": found.confidence,
        "reason": reason(found),
        "advice": ADVICE[found.action],
    }


def _change(entry: Entry) -> Mapping[str, Any]:
    return {
        "step": entry.diagnosis.step,
        "change": entry.change,
        "learning_rate_factor": entry.learning_rate_factor,
        "reason": reason(entry.diagnosis),
    }
