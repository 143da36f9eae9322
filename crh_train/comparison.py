"""Finished runs beside one another: those that differ in their seed alone as one group, with mean and standard
deviation of each metric, and the parameters in which the groups differ. No JAX.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from crh_train.config import nearest
from crh_train.document_difference import flattened
from crh_train.errors import UsageError
from crh_train.run_folder import RunFolder
from crh_train.run_summary import validation_of
from crh_train.sweep import SUMMARISED, Spread, number, spread

SMALLER_IS_BETTER = ("loss", "mse", "nmse", "hd95", "ece")
"""Also of one class alone, and of the baseline. Of all other metrics, more is better."""

SHOWN_FIRST = ("psnr", "ssim", "nmse", "dice", "hd95", "accuracy", "f1", "auc", "ece")
"""Not the loss, which another configuration may define otherwise."""

_VARIANT = re.compile(r"baseline_|_\d+$")


class Result(NamedTuple):
    """What a finished run is and what it reached."""

    run_hash: str
    seed: int
    parameters: Mapping[str, Any]  # all that makes another run but the seed, by dotted keys
    validation: Mapping[str, Any]  # metric -> number, its text where it is not finite, or null


class Group(NamedTuple):
    """Runs that differ in their seed alone."""

    parameters: Mapping[str, Any]  # those that differ between groups; a key is absent where this group lacks it
    seeds: tuple[int, ...]
    runs: tuple[str, ...]  # their hashes, in the order of the seeds
    metrics: Mapping[str, Spread | None]  # None where it does not apply, or is not finite in one of the runs


class Comparison(NamedTuple):
    parameters: tuple[str, ...]  # the keys that differ between groups
    metrics: tuple[str, ...]
    groups: tuple[Group, ...]


def result_of(folder: RunFolder) -> Result | None:
    """What is compared of a run; None where it is not finished. Raises `CorruptRun`."""
    validation = validation_of(folder)
    if validation is None:
        return None
    run, config = folder.run_document(), folder.config_document()
    same = {key: value for key, value in run.items() if key not in ("seed", "config_hash")}
    made = {"made": {name: config[name] for name in ("optimizer", "scheduler")}}
    return Result(folder.run_hash, run["seed"], flattened({**config["config"], **made, **same}), validation)


def compare(results: Sequence[Result], metrics: Sequence[str], sort: str | None) -> Comparison:
    """`results` in groups, the best first.

    Args:
      metrics: those to show; none: those of `SHOWN_FIRST` and `sweep.SUMMARISED` that any run has.
      sort: the metric that decides what is best, with `-` before it for the worst first; None: the first one shown.

    Groups that lack that metric come last; what ties stands in the order of parameters and seeds.

    Raises:
      UsageError: no run has such a metric.
    """
    known = sorted({name for result in results for name in result.validation})
    asked = [*metrics, *([] if sort is None else [sort.removeprefix("-")])]
    for name in asked if results else []:
        if name not in known:
            raise UsageError(f"no run has a metric {name!r:.80}: {nearest(name, known)}")
    there = {name for result in results for name, value in result.validation.items() if value is not None}
    usual = dict.fromkeys([*SHOWN_FIRST, *reversed(SUMMARISED)])
    shown = tuple(dict.fromkeys(metrics)) or tuple(name for name in usual if name in there)
    members: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda result: result.seed):
        members.setdefault(repr(sorted(result.parameters.items())), []).append(result)
    ordered = [members[key] for key in sorted(members)]
    differing = _differing([group[0].parameters for group in ordered])
    by = sort if sort is not None else shown[0] if shown else ""
    every = tuple(dict.fromkeys([*shown, by.removeprefix("-")])) if by else shown
    groups = [_group(group, differing, every) for group in ordered]
    return Comparison(differing, shown, tuple(sorted(groups, key=lambda group: _rank(group, by)) if by else groups))


def _differing(groups: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    keys = dict.fromkeys(key for parameters in groups for key in parameters)
    found = [key for key in keys if len({repr(group[key]) if key in group else None for group in groups}) > 1]
    # What the optimizer and the schedule make of the configuration is told where it alone differs.
    given = [key for key in found if not key.startswith("made.")]
    return tuple(given or found)


def _group(members: Sequence[Result], keys: Sequence[str], metrics: Sequence[str]) -> Group:
    parameters = members[0].parameters
    return Group(
        parameters={key: parameters[key] for key in keys if key in parameters},
        seeds=tuple(member.seed for member in members),
        runs=tuple(member.run_hash for member in members),
        metrics={name: _spread([member.validation for member in members], name) for name in metrics},
    )


def _spread(validations: Sequence[Mapping[str, Any]], name: str) -> Spread | None:
    values = [number(found[name]) if name in found else math.nan for found in validations]
    return spread(values) if all(map(math.isfinite, values)) else None


def _rank(group: Group, by: str) -> tuple[bool, float]:
    name = by.removeprefix("-")
    found = group.metrics[name]
    down = (_VARIANT.sub("", name) in SMALLER_IS_BETTER) != by.startswith("-")
    return found is None, 0.0 if found is None else found.mean if down else -found.mean
