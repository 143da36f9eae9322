"""What the page says of the held-out data: metrics, subgroups, and the pictures of single cases."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from crh_train.page import chart, pictures, words
from crh_train.page.contents import Contents, Panel
from crh_train.reports.numbers import label

_COMPARED = ("psnr", "ssim", "dice", "auc", "accuracy", "loss")  # between groups; all are in validation_metrics.json
_COLUMNS = {"input": "input", "output": "output", "target": "target", "error": "absolute error"}
_CLASS_COLUMNS = {"input": "input", "output": "predicted class", "target": "true class", "error": "where they differ"}


def result(contents: Contents) -> dict[str, Any]:
    held = contents.held
    if held is None:
        return {"metrics": [], "baselines": False, "spreads": False, "conventions": {}, "groups": [], "bias": ""}
    rows = words.metric_rows(contents)
    return {
        "metrics": rows,
        "baselines": any(row["input"] != words.NONE for row in rows),
        "spreads": any(row["spread"] != words.NONE for row in rows),
        "conventions": held.conventions,
        "groups": [_groups(found) for found in held.subgroups],
        "bias": held.bias,
    }


def _groups(found: Mapping[str, Any]) -> dict[str, Any]:
    """One column's groups, each metric in numbers and, on one scale for the column's groups, as a point and its
    interval."""
    there = [name for name in _COMPARED if all(name in group["metrics"] for group in found["groups"])]
    scales = {name: _scale([group["metrics"][name] for group in found["groups"]]) for name in there}
    rows = [
        {
            "group": group["group"],
            "cases": group["n"],
            "cells": [_cell(n, group["metrics"][n], scales[n]) for n in there],
        }
        for group in found["groups"]
    ]
    gaps = [found["gaps"][name] if name in found["gaps"] else None for name in there]
    return {
        "column": found["column"],
        "missing": found["missing"],
        "metrics": [label(name) for name in there],
        "rows": rows,
        "gaps": [
            words.value(name, gap["gap"]) if isinstance(gap, dict) and "gap" in gap else words.NONE
            for name, gap in zip(there, gaps, strict=True)
        ],
    }


def _numbers(entry: Mapping[str, Any]) -> tuple[float | None, tuple[float, float] | None]:
    """Value and interval, as far as they are finite."""
    value, ends = entry["value"], entry["interval"]
    finite = type(value) in (int, float)
    pair = isinstance(ends, list) and len(ends) == 2 and all(type(end) in (int, float) for end in ends)
    return (float(value) if finite else None), ((float(ends[0]), float(ends[1])) if pair else None)


def _scale(entries: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    found = [
        number for value, ends in map(_numbers, entries) for number in (value, *(ends or ())) if number is not None
    ]
    if not found:
        return None
    room = 0.08 * (max(found) - min(found)) or 1.0
    return min(found) - room, max(found) + room


def _cell(name: str, entry: Mapping[str, Any], scale: tuple[float, float] | None) -> dict[str, Any]:
    value, ends = _numbers(entry)
    drawn = Markup("") if value is None or scale is None else chart.interval(value, ends, *scale)
    return {"value": words.value(name, entry["value"]), "interval": words.ends(name, ends), "drawn": drawn}


def cases(contents: Contents) -> dict[str, Any]:
    if contents.held is None or not contents.held.panels:
        return {"panels": [], "drawn": None, "classes": 0}
    panels, classes = contents.held.panels, contents.held.classes
    drawn = pictures.draw(panels, classes)
    columns = _CLASS_COLUMNS if classes and "target" in panels[0].images else _COLUMNS
    return {
        "classes": classes,
        "drawn": drawn,
        "panels": [
            {
                "title": ", ".join(panel.chosen),
                "case": panel.case,
                "slice": panel.slice,
                "metric": label(panel.metric),
                "scores": words.scores(panel),
                "images": [(columns[name], png) for name, png in images.items()],
                "height": panel.images["input"].shape[0],
                "width": panel.images["input"].shape[1],
                "differing": _differing(panel) if classes else None,
            }
            for panel, images in zip(panels, drawn.images, strict=True)
        ],
    }


def _differing(panel: Panel) -> str | None:
    if "error" not in panel.images:
        return None
    return f"{100 * float((panel.images['error'] > 0).mean()):.2f} % of its pixels differ"
