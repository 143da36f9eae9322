"""All that the page of a run says, read from the run's folder as one value. No clock and no path is shown, so that the
same files give the same page wherever they lie.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from crh_train import plain_json
from crh_train.checkpoint_header import CheckpointName
from crh_train.chronicle import ChronicleRecord
from crh_train.chronicle_audit import audit
from crh_train.compose import compose, packaged_conf
from crh_train.config import semantic
from crh_train.diagnosis_summary import diagnosis_document
from crh_train.digest import digest_json
from crh_train.errors import ConfigError, CorruptRun
from crh_train.regular_file import read_regular
from crh_train.replay_records import records
from crh_train.replay_report import ReplayReport
from crh_train.run_folder import MAX_DOCUMENT_BYTES, RunFolder
from crh_train.run_summary import run_document
from crh_train.shape import Shape, misfit
from crh_train.verification import Verification, verify_run

IMAGES = ("input", "output", "target", "error")
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
_METRIC = {"value": object, "convention": object, ...: object}
_SUBGROUPS: Shape = [
    {
        "column": str,
        "missing": int,
        "groups": [{"group": str, "n": int, "metrics": {...: {"value": object, "interval": object, ...: object}}}],
        "gaps": {...: object},
    }
]
_CASES: Shape = {
    "arrays": object,
    "images": [str],
    "classes": int,
    "panels": [
        {"case": str, "slice": int, "metric": str, "chosen": [str], "scores": {...: object}, ...: object},
    ],
    ...: object,
}
_MOST_CLASSES = 250
_OF_A_MACHINE = ("devices", "processes", "process", "coordinator", "threads", "progress", "cache", "compilation_cache")
"""Keys of `runtime` that say where a run is made, and no part of what it leaves."""


class Metric(NamedTuple):
    """A number of the held-out data. Numbers are float, int, or the words for what is not finite."""

    value: Any
    convention: str
    cases: int | None  # of which mean, sd and interval are; all None in a run older than these
    mean: Any
    sd: Any
    interval: tuple[Any, Any] | None


class Panel(NamedTuple):
    case: str
    slice: int
    metric: str
    chosen: Sequence[str]
    scores: Mapping[str, Any]  # of the slice, or of the case where a slice has none
    case_scores: Mapping[str, Any]  # none in a run that kept no table of its cases
    images: Mapping[str, np.ndarray]  # some of `IMAGES`; [H, W] float32, classes as whole numbers


class Held(NamedTuple):
    """What is known of the held-out data."""

    metrics: Mapping[str, Metric]  # those that the run has
    conventions: Mapping[str, str]  # of spread and interval
    subgroups: Sequence[Mapping[str, Any]]
    bias: str
    cases: int | None
    panels: Sequence[Panel]
    classes: int  # of the panels; 0: images


@dataclass(frozen=True, kw_only=True)
class Contents:
    run: Mapping[str, Any]  # run_summary.run_document
    manifest: Mapping[str, Any]
    sessions: Sequence[Mapping[str, Any]]
    program: Mapping[str, Any]  # program.json
    command: Sequence[str]  # what made the run, without what is of the machine alone
    packaged: bool  # whether the packaged configurations alone make the same of that
    records: Sequence[ChronicleRecord]  # the good ones; not all where the run's status is "damaged"
    checkpoints: Sequence[CheckpointName]
    held: Held | None  # None: the run is not finished
    diagnosis: Mapping[str, Any]
    verification: Verification
    replays: Sequence[ReplayReport]


def read(folder: RunFolder) -> Contents:
    """Reads and verifies the whole run. Raises `InputError` where a document cannot be shown."""
    run = run_document(folder)
    found: list[ChronicleRecord] = []
    audit(folder.path, folder.run_hash, found.append)
    command, packaged = again(run)
    return Contents(
        run=run,
        manifest=folder.manifest(),
        sessions=folder.sessions(),
        program=folder.program_document(),
        command=command,
        packaged=packaged,
        records=found,
        checkpoints=[stored.name for stored in folder.checkpoints()],
        held=_held(folder) if folder.finished else None,
        diagnosis=diagnosis_document(folder),
        verification=verify_run(folder),
        replays=records(folder),
    )


def again(run: Mapping[str, Any]) -> tuple[list[str], bool]:
    """The words after `crh-train run` that make a run again on any machine, and whether the packaged configurations
    alone make the same of them. Which other files took part is not recorded, but what they came to is."""
    overrides = [word for word in run["overrides"] if not _of_a_machine(word)]
    return [f"conf={run['conf']}", *overrides], _packaged(run, overrides)


def _of_a_machine(override: str) -> bool:
    section, _, key = override.partition("=")[0].partition(".")
    return section == "runtime" and key in _OF_A_MACHINE


def _packaged(run: Mapping[str, Any], overrides: Sequence[str]) -> bool:
    try:
        config = compose(run["conf"], overrides, [packaged_conf()])
    except ConfigError:
        return False
    return digest_json(semantic(config)) == digest_json(run["config"]) and config.engine.seed == run["seed"]


def _held(folder: RunFolder) -> Held:
    document = _report(folder, "validation_metrics.json", {"metrics": {...: _METRIC}, ...: object})
    metrics = {name: _metric(folder, name, entry) for name, entry in document["metrics"].items()}
    extended = "subgroups" in document  # since format 2
    spread = {"conventions": {...: str}, "subgroups": _SUBGROUPS, "bias": str, "cases": int, ...: object}
    if extended and (message := misfit(document, spread)) is not None:
        raise _unreadable(folder, "validation_metrics.json", message)
    classes, panels = _panels(folder) if (folder.path / "reports" / "cases.json").exists() else (0, [])
    return Held(
        metrics={name: metric for name, metric in metrics.items() if metric is not None},
        conventions=document["conventions"] if extended else {},
        subgroups=document["subgroups"] if extended else [],
        bias=document["bias"] if extended else "",
        cases=document["cases"] if extended else None,
        panels=panels,
        classes=classes,
    )


def _metric(folder: RunFolder, name: str, entry: Mapping[str, Any]) -> Metric | None:
    if entry["value"] is None:
        return None
    cases, mean, sd, interval = (entry[key] if key in entry else None for key in ("n", "mean", "sd", "interval"))
    ends = interval if isinstance(interval, list) else [None, None]
    good = len(ends) == 2 and (cases is None or type(cases) is int) and isinstance(entry["convention"], str)
    if not good or not all(value is None or is_number(value) for value in (entry["value"], mean, sd, *ends)):
        raise _unreadable(folder, "validation_metrics.json", f"{name!r:.80} is {entry!r:.160}")
    return Metric(entry["value"], entry["convention"], cases, mean, sd, None if interval is None else (*ends,))


def _panels(folder: RunFolder) -> tuple[int, list[Panel]]:
    index = _report(folder, "cases.json", _CASES)
    if index["arrays"] is None:
        return 0, []
    path = folder.path / "reports" / "cases.npy"
    try:
        data = read_regular(path, MAX_DOCUMENT_BYTES, CorruptRun)
        arrays = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise CorruptRun(f"{path}: expected an array in NumPy's format: {error}") from error
    expected = (len(index["panels"]), len(index["images"]))
    known = index["images"] in ([IMAGES[0]], list(IMAGES))
    if arrays.dtype != np.float32 or arrays.ndim != 4 or arrays.shape[:2] != expected or not arrays.size or not known:
        raise CorruptRun(
            f"{path}: expected float32 images {index['images']} of {expected[0]} panels, found {arrays.dtype} "
            f"{list(arrays.shape)}"
        )
    if not 0 <= index["classes"] <= _MOST_CLASSES:
        raise _unreadable(folder, "cases.json", f"expected at most {_MOST_CLASSES} classes, found {index['classes']}")
    cases = _case_scores(folder) if (folder.path / "reports" / "case_metrics.csv").exists() else {}
    panels = [
        Panel(
            **{key: panel[key] for key in ("case", "slice", "metric", "chosen")},
            scores={name: value for name, value in panel["scores"].items() if is_number(value)},
            case_scores=cases[panel["case"]] if panel["case"] in cases else {},
            images=dict(zip(index["images"], images, strict=True)),
        )
        for panel, images in zip(index["panels"], arrays, strict=True)
    ]
    return index["classes"], panels


def _case_scores(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """What each held-out case scores by itself, of the metrics that the run has."""
    known = _report(folder, "validation_metrics.json", {"metrics": dict, ...: object})["metrics"]
    data = read_regular(folder.path / "reports" / "case_metrics.csv", MAX_DOCUMENT_BYTES, CorruptRun)
    try:
        header, *rows = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
        named = [dict(zip(header, row, strict=True)) for row in rows]
        return {
            row["case"]: {name: _csv_number(row[name]) for name in row if name in known and row[name]} for row in named
        }
    except (ValueError, KeyError, csv.Error) as error:
        raise _unreadable(folder, "case_metrics.csv", str(error)) from error


def _csv_number(text: str) -> float | str:
    return text if text in _NOT_FINITE else float(text)


def _report(folder: RunFolder, name: str, shape: Shape) -> Any:
    data = read_regular(folder.path / "reports" / name, MAX_DOCUMENT_BYTES, CorruptRun)
    try:
        document = plain_json.parse(data)
    except ValueError as error:
        raise _unreadable(folder, name, str(error)) from error
    if (message := misfit(document, shape)) is not None:
        raise _unreadable(folder, name, message)
    return document


def _unreadable(folder: RunFolder, name: str, message: str) -> CorruptRun:
    return CorruptRun(
        f"{folder.path / 'reports' / name}: cannot be shown: {message}; `crh-train verify {folder.argument}` says what "
        "is damaged"
    )


def is_number(value: Any) -> bool:
    return (type(value) in (int, float) and math.isfinite(value)) or (isinstance(value, str) and value in _NOT_FINITE)
