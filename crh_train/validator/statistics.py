"""What the held-out cases say together: mean, standard deviation, bootstrap interval, and the same by subgroup.

Every number is the same on every machine: sums are exact before they are rounded, and who is drawn in a resample comes
from whole numbers of a counter.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from crh_train.validator.volumes import HeldOutVolume

RESAMPLES = 1000
TAIL = 25  # of 1000 sorted values, how many are cut off at either end
GROUPS = range(2, 21)  # how many different values make a column of the metadata one of subgroups

Value = np.float32 | None
"""Of a metric; None where it does not apply."""

Measure = Callable[[Sequence[int]], Value]
"""The metric over the cases of these indices, of which one may come several times."""

CONVENTIONS = {
    "n": "held-out cases, which are volumes, that have a value of the metric",
    "mean": "over those cases; null where the metric is one of all cases together",
    "sd": "sample standard deviation over those cases (n - 1); null of fewer than two",
    "interval": (
        f"95 % percentile bootstrap over cases of the mean, or of the value where there is no mean: {RESAMPLES} "
        f"resamples without their {TAIL} smallest and {TAIL} largest; the cases of one patient are drawn together; by "
        "Philox-4x64 of key 0, row by row, modulo the number drawn from; null of a single case or patient, or where "
        "a value is not finite"
    ),
}

BIAS = (
    "A gap says that this run did worse in one group of the held-out cases than in another. It does not say why: "
    "groups differ in more than this column, small groups differ by chance (compare the intervals, which do not "
    "account for the number of comparisons), and what no column records is not seen."
)


def mean_over(values: Sequence[Value]) -> Measure:
    """The mean over cases of a value that each case has, of those that have it."""

    def measure(chosen: Sequence[int]) -> Value:
        found = [float(value) for index in chosen if (value := values[index]) is not None]
        return _mean(found) if found else None

    return measure


def describe(measure: Measure, values: Sequence[Value] | None, chosen: Sequence[int], units: Sequence[str]) -> Any:
    """{n, mean, sd, interval} of the cases `chosen`; `values` are each case's own, None for a metric of all together.

    `units` says for each case with which others it is drawn: those of the same text.
    """
    counted = list(chosen) if values is None else [index for index in chosen if values[index] is not None]
    own = [] if values is None else [float(values[index]) for index in counted]  # type: ignore[arg-type]
    finite = all(map(math.isfinite, own))
    return {
        "n": len(counted),
        "mean": _mean(own) if own else None,
        "sd": np.float32(statistics.stdev(own)) if len(own) > 1 and finite else None,
        "interval": interval(measure, counted, units) if finite else None,
    }


def interval(measure: Measure, chosen: Sequence[int], units: Sequence[str]) -> list[np.float32] | None:
    """The 95 % percentile bootstrap interval of `measure` over the cases `chosen`, drawn unit by unit."""
    together: dict[str, list[int]] = {}
    for index in chosen:
        together.setdefault(units[index], []).append(index)
    members = list(together.values())
    if len(members) < 2:
        return None
    found = [measure([i for unit in drawn for i in members[unit]]) for drawn in resamples(len(members))]
    ordered = sorted(value for value in found if value is not None)  # a resample may lack what a metric needs
    if not ordered or not all(map(math.isfinite, ordered)):
        return None
    cut = TAIL * len(ordered) // RESAMPLES
    return [ordered[cut], ordered[-1 - cut]]


def resamples(count: int) -> list[list[int]]:
    """Which of `count` are drawn in each resample: `RESAMPLES` lists of `count` indices, always the same."""
    words = np.random.Philox(key=0).random_raw(RESAMPLES * count)
    drawn: list[list[int]] = (words % np.uint64(count)).reshape(RESAMPLES, count).tolist()
    return drawn


def subgroups(
    measures: Mapping[str, tuple[Measure, Sequence[Value] | None]],
    volumes: Sequence[HeldOutVolume],
    units: Sequence[str],
) -> list[dict[str, Any]]:
    """For each column of the metadata with 2 to 20 different values, each metric in each group, and its largest gap.

    A case without the column is in no group; how many there are is `missing`. A gap is null of fewer than two groups
    with a finite value.
    """
    columns = sorted({column for volume in volumes for column in volume.metadata})
    return [
        found for column in columns if len((found := _by_column(column, measures, volumes, units))["groups"]) in GROUPS
    ]


def _by_column(
    column: str,
    measures: Mapping[str, tuple[Measure, Sequence[Value] | None]],
    volumes: Sequence[HeldOutVolume],
    units: Sequence[str],
) -> dict[str, Any]:
    members: dict[str, list[int]] = {}
    for index, volume in enumerate(volumes):
        if column in volume.metadata:
            members.setdefault(volume.metadata[column], []).append(index)
    names = sorted(members)
    if len(names) not in GROUPS:
        return {"groups": []}
    found = {
        name: {
            metric: {"value": measure(members[name]), **describe(measure, values, members[name], units)}
            for metric, (measure, values) in measures.items()
        }
        for name in names
    }
    return {
        "column": column,
        "missing": len(volumes) - sum(map(len, members.values())),
        "groups": [{"group": name, "n": len(members[name]), "metrics": found[name]} for name in names],
        "gaps": {metric: _gap({name: found[name][metric]["value"] for name in names}) for metric in measures},
    }


def _gap(values: Mapping[str, Value]) -> dict[str, Any] | None:
    there = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
    if len(there) < 2:
        return None
    highest, lowest = max(there, key=there.__getitem__), min(there, key=there.__getitem__)
    return {"gap": np.float32(float(there[highest]) - float(there[lowest])), "highest": highest, "lowest": lowest}


def _mean(values: Sequence[float]) -> np.float32:
    """Added exactly and rounded; not finite where one is not."""
    finite = all(map(math.isfinite, values))
    return np.float32((math.fsum(values) if finite else sum(values)) / len(values))
