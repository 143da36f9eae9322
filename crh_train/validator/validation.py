"""Validation from the first held-out volume to what the reports are made from. Memory holds one volume at a time."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crh_train.data.dataset import PreparedSplit
from crh_train.engine import StepParts
from crh_train.reports import Case, CaseRow, HeldOut, SliceRow
from crh_train.types import Params
from crh_train.validator import conventions, pictures, statistics
from crh_train.validator.evaluation import Evaluation, Transform, make_evaluate
from crh_train.validator.judges import Judge, Judged, Values, make_judge
from crh_train.validator.statistics import Measure, Value, mean_over
from crh_train.validator.volumes import Assembled, HeldOutVolume, assemble, within


class Validation(NamedTuple):
    report: dict[str, Any]
    """Every metric of `conventions.py`, None where it does not apply, and under "conventions" each one's sentence."""
    pictures: list[Case]
    held_out: HeldOut


Measures = Mapping[str, tuple[Measure, Sequence[Value] | None]]
"""Each metric over cases, and each case's own value; None for one that only cases together have."""


def validate(
    parts: StepParts,
    params: Params,
    held_out: PreparedSplit,
    volumes: Sequence[HeldOutVolume],
    transform: Transform,
    class_names: Sequence[str] = (),
) -> Validation:
    """Every metric that applies over the held-out volumes, by case, slice and subgroup, with pictures. `class_names`
    are told beside a class's own metrics.

    One compiled call for each sample, so that their number changes no bit. `transform` is applied to what is computed,
    before `jit`.
    """
    compiled = jax.jit(transform(make_evaluate(parts)))

    def evaluate(index: int) -> Evaluation:
        label = None if held_out.labels is None else held_out.labels[index]
        found: Evaluation = jax.device_get(compiled(params, held_out.images[index], label, np.int32(index)))
        return found

    @functools.lru_cache(maxsize=1)  # of a single volume, pictures cost no second evaluation
    def assembled(case: int) -> Assembled:
        return assemble(volumes[case], evaluate)

    frames = {index: volume.frame for volume in volumes for index in volume.samples}
    judge = make_judge(parts.task, transform)
    judged, losses, slices = [], [], []
    for case in range(len(volumes)):
        found = assembled(case)
        judged.append(judge.judge(within(found)))
        losses.append(found.losses)
        slices.append(found.slices.tolist())
    measures = _measures(judge, judged)
    everything, units = range(len(volumes)), _units(volumes)
    means = {name: measure(everything) for name, (measure, _) in measures.items()}
    loss = np.float32(jax.jit(transform(jnp.mean))(np.concatenate(losses)))
    scores: Values = {**means, **judge.overall(judged), "loss": loss}
    sentences = conventions.sentences(list(scores), class_names)
    values = {name: scores[name] if name in scores else None for name in sentences}
    return Validation(
        report={**values, "conventions": sentences},
        pictures=pictures.spread(held_out.ids, evaluate, frames, parts.task, transform),
        held_out=HeldOut(
            statistics={
                name: statistics.describe(measure, values, everything, units)
                for name, (measure, values) in measures.items()
            },
            conventions={**statistics.CONVENTIONS, "samples": conventions.SAMPLES, "frame": conventions.FRAME},
            subgroups=statistics.subgroups(measures, volumes, units),
            bias=statistics.BIAS,
            cases=[_row(volume, each) for volume, each in zip(volumes, judged, strict=True)],
            slices=[
                SliceRow(volume.id, position, {name: values[index] for name, values in each.slices.items()})
                for volume, each, positions in zip(volumes, judged, slices, strict=True)
                if each.slices
                for index, position in enumerate(positions)
            ],
            panels=pictures.panels(volumes, judged, judge.rank, assembled, parts.task),
        ),
    )


def _measures(judge: Judge, judged: Sequence[Judged]) -> Measures:
    of_each = {name: [each.values[name] for each in judged] for name in judged[0].values}
    together = judge.together(judged)
    return {
        **{name: (mean_over(values), values) for name, values in of_each.items()},
        **{name: (measure, None) for name, measure in together.items()},
    }


def _units(volumes: Sequence[HeldOutVolume]) -> list[str]:
    """Which cases are drawn together: those of one patient."""
    return [f"case {each.id}" if each.patient is None else f"patient {each.patient}" for each in volumes]


def _row(volume: HeldOutVolume, judged: Judged) -> CaseRow:
    details: dict[str, Any] = {"samples": len(volume.samples), **judged.details}
    return CaseRow(volume.id, volume.patient, judged.values, details, volume.metadata)
