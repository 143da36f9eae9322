"""What is known of a run on disk, as one JSON document: what `list`, `show` and `run --json` tell. No JAX."""

from typing import Any

from crh_train import plain_json
from crh_train.chronicle import LINES_NAME
from crh_train.chronicle_audit import audit
from crh_train.config import PARTS
from crh_train.errors import CorruptRun
from crh_train.progress_findings import lost_lines
from crh_train.regular_file import read_regular
from crh_train.run_folder import MAX_DOCUMENT_BYTES, RunFolder
from crh_train.shape import Shape, misfit

_CONFIG: Shape = {
    **{part: {"name": str, ...: object} for part in PARTS},
    "engine": {"epochs": int, ...: object},
    ...: object,
}
_METRICS = {"metrics": {...: {"value": object, ...: object}}, ...: object}
_SPREAD = ("n", "mean", "sd", "interval")
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


def run_document(folder: RunFolder) -> dict[str, Any]:
    """What is known of a run, as JSON. Numbers of the result are null until it is finished.

    Where lines of the chronicle are lost or changed, `status` is "damaged", `message` says how, and what the chronicle
    alone can tell is null: the part that is left of it would pass for the whole.
    """
    run, session = folder.run_document(), folder.sessions()[0]
    status, stored = folder.status, folder.checkpoints()
    audited = audit(folder.path, folder.run_hash)
    lost = lost_lines(audited, stored, status)
    last = None if lost is not None else audited.last
    measured = _measured(folder)
    config = folder.config_document()["config"]
    if (message := misfit(config, _CONFIG)) is not None:
        raise CorruptRun(f"{folder.path / 'config.json'}: {message}")
    return {
        "run": folder.name,
        "run_hash": folder.run_hash,
        "status": status if lost is None else "damaged",
        "message": lost,
        "conf": session["command"]["conf"],
        "overrides": session["command"]["overrides"],
        **run,
        "program": session["program"],
        "config": config,
        "steps": None if lost is not None else 0 if last is None else last.step,
        "epochs": None if lost is not None else 0 if last is None else last.epoch + 1,
        "last_loss": None if last is None else str(last.loss),
        "validation": None if measured is None else {name: each["value"] for name, each in measured.items()},
        "statistics": None if measured is None else _statistics(measured),
        "checkpoint": str(stored[-1].path) if stored else None,
        "checkpoint_hash": stored[-1].name.hash if stored else None,
        "chronicle": str(folder.path / LINES_NAME),
        "chronicle_head": audited.good.head if lost is None else None,
        "report": str(folder.path / "reports" / "session_summary.md") if folder.finished else None,
    }


def validation_of(folder: RunFolder) -> dict[str, Any] | None:
    """The metrics of a finished run, name to number or null. Raises `CorruptRun` where they cannot be read."""
    measured = _measured(folder)
    return None if measured is None else {name: entry["value"] for name, entry in measured.items()}


def _measured(folder: RunFolder) -> dict[str, Any] | None:
    """The metrics of a finished run, name to value and spread. `verify` checks the file they come from; here it is
    `CorruptRun` where it cannot be read."""
    path = folder.path / "reports" / "validation_metrics.json"
    if not folder.finished:
        return None
    data = read_regular(path, MAX_DOCUMENT_BYTES, CorruptRun)
    try:
        document = plain_json.parse(data)
        if (message := misfit(document, _METRICS)) is not None:
            raise ValueError(message)
        found: dict[str, Any] = document["metrics"]
        for name, entry in found.items():
            if not _is_number(entry["value"]):
                raise ValueError(f"{name!r:.80} is {entry['value']!r:.80}")
            if set(_SPREAD) <= entry.keys() and not _is_spread(entry):
                raise ValueError(f"{name!r:.80} has { ({key: entry[key] for key in _SPREAD})!r:.80}")
    except ValueError as error:
        raise CorruptRun(
            f"{path}: the metrics cannot be read: {error}; `crh-train verify {folder.argument}` says what is damaged"
        ) from error
    return found


def _statistics(measured: dict[str, Any]) -> dict[str, Any]:
    """Of the metrics that have any; a run that is older than they are has none."""
    return {
        name: {key: entry[key] for key in _SPREAD}
        for name, entry in measured.items()
        if set(_SPREAD) <= entry.keys() and entry["n"] is not None
    }


def _is_number(value: Any) -> bool:
    return value is None or type(value) in (int, float) or value in _NOT_FINITE


def _is_spread(entry: dict[str, Any]) -> bool:
    ends = entry["interval"]
    between = ends is None or (type(ends) is list and len(ends) == 2 and all(type(x) in (int, float) for x in ends))
    return (
        between
        and (entry["n"] is None or type(entry["n"]) is int)
        and all(map(_is_number, (entry["mean"], entry["sd"])))
    )
