"""The part of the summary on single cases: their spread, and how groups of them compare."""

from collections.abc import Mapping
from typing import Any

from crh_train.reports.inputs import HeldOut, ReportInputs, metric_names
from crh_train.reports.markdown import table
from crh_train.reports.numbers import label, written

_FILES = (
    ("case_metrics.csv", "every metric of every held-out case"),
    ("slice_metrics.csv", "of every slice"),
    ("cases.json", "the slices of the best, the median and the worst case, whose arrays are in `cases.npy`"),
)
_COMPARED = ("psnr", "ssim", "dice", "auc", "accuracy")  # between groups; all metrics are in validation_metrics.json


def blocks(inputs: ReportInputs) -> list[str]:
    """Mean, deviation and interval over cases; the subgroups of each column; and the files that hold every number."""
    held_out = inputs.held_out
    there = {"slice_metrics.csv": bool(held_out.slices), "cases.json": bool(held_out.panels)}
    files = [f"- [{name}]({name}): {what}" for name, what in _FILES if name not in there or there[name]]
    return [*_spread(held_out, inputs.validation), *_subgroups(held_out), "\n".join(files)]


def _spread(held_out: HeldOut, validation: Mapping[str, Any]) -> list[str]:
    if len(held_out.cases) < 2:
        return ["One volume was held out: there is no spread over cases and no interval."]
    names = [name for name in metric_names(validation) if name in held_out.statistics]
    rows = []
    for name in names:
        found = held_out.statistics[name]
        rows.append(
            (
                label(name),
                str(found["n"]),
                *(_or_dash(name, found[key]) for key in ("mean", "sd")),
                _interval(name, found),
            )
        )
    sentence = f"Over {len(held_out.cases)} cases. The last column: {held_out.conventions['interval']}."
    return [table(("metric", "cases", "mean", "sd", "95 %"), rows, numeric=4), sentence]


def _subgroups(held_out: HeldOut) -> list[str]:
    made = []
    for found in held_out.subgroups:
        groups = found["groups"]
        names = [name for name in _COMPARED if name in found["gaps"]]
        rows = [
            (group["group"], str(group["n"]), *(_with_interval(name, group["metrics"][name]) for name in names))
            for group in groups
        ]
        gaps = [found["gaps"][name] for name in names]
        largest = (
            "largest gap",
            "",
            *("–" if g is None else written(n, g["gap"]) for n, g in zip(names, gaps, strict=True)),
        )
        missing = f" Without a value: {found['missing']} of the cases." if found["missing"] else ""
        made.append(f"By {found['column']}, each with its 95 % interval.{missing}")
        made.append(table((found["column"], "cases", *map(label, names)), [*rows, largest], numeric=1 + len(names)))
    return [*made, held_out.bias] if made else []


def _with_interval(name: str, found: Mapping[str, Any]) -> str:
    value = _or_dash(name, found["value"])
    return value if found["interval"] is None else f"{value} ({_interval(name, found)})"


def _interval(name: str, found: Mapping[str, Any]) -> str:
    return "–" if found["interval"] is None else " to ".join(written(name, end) for end in found["interval"])


def _or_dash(name: str, value: Any) -> str:
    return "–" if value is None else written(name, value)
