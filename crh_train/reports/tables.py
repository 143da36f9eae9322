"""`case_metrics.csv`, one row a held-out case, and `slice_metrics.csv`, one row a slice: CSV after RFC 4180, UTF-8.

Numbers are the shortest decimals that read back as the same float32. A field is empty where a metric does not apply;
what is not finite is NaN, Infinity or -Infinity, as in the JSON files.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from crh_train.reports.inputs import HeldOut

METADATA = "metadata."
"""Before the name of a column of the source's own table, so that it cannot be taken for a metric."""


def render_cases(held_out: HeldOut) -> bytes:
    """Columns: case, patient, details such as the number of samples, each metric, each metadata column."""
    rows = held_out.cases
    details = sorted({name for row in rows for name in row.details})
    metrics = sorted({name for row in rows for name in row.values})
    metadata = sorted({name for row in rows for name in row.metadata})
    header = ["case", "patient", *details, *metrics, *(METADATA + name for name in metadata)]
    return _csv(
        header,
        (
            [
                row.id,
                row.patient,
                *(row.details[name] for name in details),
                *(row.values[name] for name in metrics),
                *(row.metadata[name] if name in row.metadata else None for name in metadata),
            ]
            for row in rows
        ),
    )


def render_slices(held_out: HeldOut) -> bytes:
    """Columns: case, slice, each metric that a slice has by itself."""
    metrics = sorted({name for row in held_out.slices for name in row.values})
    rows = ([row.case, row.slice, *(row.values[name] for name in metrics)] for row in held_out.slices)
    return _csv(["case", "slice", *metrics], rows)


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)  # quotes what needs it, and ends lines by carriage return and line feed
    writer.writerow(header)
    writer.writerows([_text(value) for value in row] for row in rows)
    return stream.getvalue().encode()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return str(value)
