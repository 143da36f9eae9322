"""How training went, from the chronicle alone: averages per epoch, final values, the best epoch. NumPy float32 only."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crh_train.averages import mean, moving_average
from crh_train.chronicle import StepFields
from crh_train.reports.documents import indented_json
from crh_train.reports.inputs import ReportInputs

FORMAT = 1
EMA_DECAY = 0.9  # a window of about ten steps

Series = NDArray[np.float32]
"""One value a step, [steps]."""

_CONVENTIONS = {
    "epoch": "the first is 0",
    "lr": "learning rate of the epoch's last step",
    "loss_ema": (
        "exponential moving average of the loss over all steps, corrected for its start from zero, after the epoch's "
        f"last step; decay {EMA_DECAY}"
    ),
    "mean": "over the epoch's steps in order, float32 with Kahan compensation",
}


class EpochSummary(NamedTuple):
    epoch: int  # the first is 0
    steps: int
    last_step: int  # the run's first step is 1
    mean_loss: np.float32
    loss_ema: np.float32  # after the epoch's last step
    mean_coherence: np.float32
    mean_grad_norm: np.float32
    lr: np.float32  # at the epoch's last step


def series(records: Sequence[StepFields], field: str) -> Series:
    return np.array([getattr(record, field) for record in records], np.float32)


def epoch_summaries(records: Sequence[StepFields]) -> list[EpochSummary]:
    """One summary for each epoch of `records`, in order."""
    averages = moving_average(series(records, "loss"), EMA_DECAY)
    summaries: list[EpochSummary] = []
    done = 0
    for epoch, group in groupby(records, key=lambda record: record.epoch):
        steps = list(group)
        done += len(steps)
        summaries.append(
            EpochSummary(
                epoch=epoch,
                steps=len(steps),
                last_step=steps[-1].step,
                mean_loss=mean(series(steps, "loss")),
                loss_ema=averages[done - 1],
                mean_coherence=mean(series(steps, "coherence")),
                mean_grad_norm=mean(series(steps, "grad_norm")),
                lr=steps[-1].lr,
            )
        )
    return summaries


def best_epoch(summaries: Sequence[EpochSummary]) -> EpochSummary | None:
    """The epoch of the smallest mean loss, the first of equal ones; None where no mean is a number."""
    numbers = [summary for summary in summaries if not np.isnan(summary.mean_loss)]
    return min(numbers, key=lambda summary: summary.mean_loss, default=None)


def render(inputs: ReportInputs, summaries: Sequence[EpochSummary]) -> bytes:
    """`training_metrics.json`."""
    best = best_epoch(summaries)
    last = inputs.records[-1]
    document: dict[str, Any] = {
        "format": FORMAT,
        "name": inputs.name,
        "run_hash": inputs.run_hash,
        "config_hash": inputs.config_hash,
        "dataset_state": inputs.dataset_state,
        "seed": inputs.seed,
        "chronicle_head": inputs.chronicle_head,
        "final_checkpoint": inputs.final_checkpoint,
        "steps": len(inputs.records),
        "epochs": len(summaries),
        "ema_decay": EMA_DECAY,
        "conventions": _CONVENTIONS,
        "final": {
            "step": last.step,
            "epoch": last.epoch,
            "loss": last.loss,
            "loss_ema": summaries[-1].loss_ema,
            "coherence": last.coherence,
            "grad_norm": last.grad_norm,
            "lr": last.lr,
        },
        "best_epoch": None if best is None else {"epoch": best.epoch, "mean_loss": best.mean_loss},
        "per_epoch": [summary._asdict() for summary in summaries],
    }
    return indented_json(document)
