"""What several runs say together: runs that differ in their seed alone, summarised by mean and standard deviation."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SUMMARISED = ("loss", "mse", "psnr", "nmse", "ssim", "dice", "hd95", "accuracy", "f1", "auc", "ece")


class Spread(NamedTuple):
    """Of one metric over seeds."""

    mean: float
    sd: float | None  # sample standard deviation; None of a single seed


def summarise(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each configuration and dataset: its seeds, and mean and sample standard deviation of each metric.

    `results` are documents of finished runs as `crh-train run --json` prints them. A single seed has no deviation. A
    metric that does not apply, or is not finite in one of the runs, has no spread and is left out.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["config_hash"], result["dataset_state"]), []).append(result)
    return [
        {
            "conf": members[0]["conf"],
            "overrides": [o for o in members[0]["overrides"] if not o.startswith("engine.seed=")],
            "config_hash": key[0],
            "seeds": [member["seed"] for member in members],
            "metrics": {
                name: spread(values)._asdict()
                for name in SUMMARISED
                if all(name in member["validation"] for member in members)  # an older run has fewer
                and all(map(math.isfinite, values := [number(member["validation"][name]) for member in members]))
            },
        }
        for key, members in groups.items()
    ]


def number(value: float | str | None) -> float:
    """Reports write a non-finite number as text, and null where a metric does not apply."""
    return math.nan if value is None else float(value)


def spread(values: Sequence[float]) -> Spread:
    """The order of the values changes no bit: sums are exact before they are rounded."""
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)
