"""What is known of a run at one moment, and what follows from it: progress, pace, time left. Values only.

Pace is the median duration of the last 50 steps, so that neither the first step, which compiles, nor one that saves or
was interrupted moves it much; time left is that times the steps left. What comes after the last step (validation,
reports) is not in it.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crh_train.reports.training_metrics import EMA_DECAY

RECENT_STEPS = 50
SMOOTHED = ("loss", "grad_norm")
SMOOTHING = f"exponential moving average over steps, decay {EMA_DECAY}, corrected for its start"

Column = NDArray[np.float32]


class Curves(NamedTuple):
    """One value a step, [steps]; `smoothed_…` by `SMOOTHING` of the finite values."""

    loss: Column
    coherence: Column
    lr: Column
    grad_norm: Column
    smoothed_loss: Column
    smoothed_grad_norm: Column
    timestamp: NDArray[np.float64]  # seconds since the run began


class RunState(NamedTuple):
    name: str  # first digits of the run hash
    argument: str  # how a command names it
    configuration: str
    status: str  # running, unfinished or finished
    writer: str | None  # the process that writes to it
    epochs: int  # asked for
    steps_per_epoch: int
    curves: Curves
    unread: int  # bytes of the chronicle that were not looked at yet
    checkpoint: str | None  # name of the newest one
    silence: float  # seconds since the chronicle last grew
    problem: str | None  # what is damaged

    @property
    def steps(self) -> int:
        """Steps done."""
        return len(self.curves.loss)

    @property
    def total(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def epoch(self) -> int:
        """The epoch that the last step belongs to; the first is 1, and 0 is before the first step."""
        return -(-self.steps // self.steps_per_epoch)

    @property
    def step_seconds(self) -> float | None:
        """The median duration of the last steps; None where fewer than two were done."""
        durations = np.diff(self.curves.timestamp[-RECENT_STEPS - 1 :])
        return float(np.median(durations)) if durations.size else None

    @property
    def seconds_left(self) -> float | None:
        """Until the last step is done; None where nobody works at it, or nothing is known of its pace."""
        each = self.step_seconds
        return None if each is None or self.status != "running" else each * max(self.total - self.steps, 0)


def document(state: RunState) -> dict[str, Any]:
    """The state as JSON, without the curves; what is not finite is told by its name, as in the chronicle."""
    each = state.step_seconds
    return {
        "run": state.name,
        "status": state.status if state.problem is None or state.status == "running" else "damaged",
        "writer": state.writer,
        "configuration": state.configuration,
        "step": state.steps,
        "steps": state.total,
        "epoch": state.epoch,
        "epochs": state.epochs,
        "last": {name: _last(getattr(state.curves, name)) for name in ("loss", "coherence", "lr", "grad_norm")},
        "smoothed": {name: _last(getattr(state.curves, f"smoothed_{name}")) for name in SMOOTHED},
        "smoothing": SMOOTHING,
        "step_seconds": each,
        "steps_per_second": 1 / each if each else None,
        "seconds_left": state.seconds_left,
        "seconds_since_last_line": state.silence,
        "checkpoint": state.checkpoint,
        "problem": state.problem,
    }


def _last(column: Column) -> float | str | None:
    if not column.size:
        return None
    value = column[-1]
    if np.isfinite(value):
        return float(str(value))
    return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
