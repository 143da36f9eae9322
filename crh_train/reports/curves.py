"""`curves.png`: loss, learning rate and gradient norm, step by step."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from crh_train.averages import moving_average
from crh_train.reports import canvas
from crh_train.reports.inputs import ReportInputs
from crh_train.reports.training_metrics import EMA_DECAY, EpochSummary, Series, series

_CURVES = (
    ("loss", "loss", 2.6, canvas.BLUE),
    ("lr", "learning rate", 1.3, canvas.ORANGE),
    ("grad_norm", "gradient norm", 1.7, canvas.GREEN),
)
_LEFT, _RIGHT, _TOP, _GAP, _BOTTOM = 1.0, 0.3, 0.95, 0.25, 0.6
_MOST_EPOCH_LINES = 50


def render(inputs: ReportInputs, epochs: Sequence[EpochSummary]) -> bytes:
    """Loss, learning rate and gradient norm against the step, with the ends of epochs marked; PNG."""
    heights = [height for _, _, height, _ in _CURVES]
    total = _TOP + sum(heights) + _GAP * (len(heights) - 1) + _BOTTOM
    steps = np.array([record.step for record in inputs.records])
    with canvas.style():
        figure = Figure(figsize=(canvas.WIDTH, total), dpi=canvas.DPI)
        canvas.write(figure, _LEFT, 0.4, f"{inputs.name} · run {inputs.short}", fontsize=13.0, fontweight="bold")
        top = _TOP
        for field, label, height, colour in _CURVES:
            axes = canvas.place(figure, _LEFT, top, canvas.WIDTH - _LEFT - _RIGHT, height)
            _draw_series(axes, steps, series(inputs.records, field), colour, smooth=field != "lr")
            if field == _CURVES[0][0]:
                axes.legend(
                    loc="upper right", ncols=2, bbox_to_anchor=(1, 1 + 0.66 / height), borderaxespad=0, borderpad=0
                )
            _mark_epochs(axes, steps, epochs, numbered=field == _CURVES[0][0])
            axes.set_ylabel(label)
            axes.yaxis.set_label_coords(-0.083, 0.5)
            axes.tick_params(labelbottom=field == _CURVES[-1][0])
            top += height + _GAP
        axes.set_xlabel("step")
        return canvas.png(figure)


def _draw_series(axes: Axes, steps: np.ndarray, values: Series, colour: str, smooth: bool) -> None:
    if smooth:
        axes.plot(steps, values, color=colour, alpha=0.3, linewidth=0.9, label="each step")
        average = moving_average(values, EMA_DECAY)
        axes.plot(steps, average, color=colour, linewidth=1.8, label=f"moving average, decay {EMA_DECAY}")
    else:
        axes.plot(steps, values, color=colour, linewidth=1.8)
    if smooth and spans_a_decade(values):
        axes.set_yscale("log")
    elif not smooth:
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)


def spans_a_decade(values: Series) -> bool:
    """Whether the finite ones of `values` are all positive and the largest is at least ten times the smallest."""
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and finite.max() >= 10 * finite.min())


def _mark_epochs(axes: Axes, steps: np.ndarray, epochs: Sequence[EpochSummary], numbered: bool) -> None:
    """A faint line at the end of each epoch, or of each n-th where there are many; their numbers on top."""
    first, last = int(steps[0]), int(steps[-1])
    axes.set_xlim(first - 0.01 * (last - first) - 0.5, last + 0.01 * (last - first) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    stride = -(-len(epochs) // _MOST_EPOCH_LINES)
    for epoch in epochs[stride - 1 :: stride]:
        axes.axvline(epoch.last_step, color=canvas.RULE, linewidth=0.7, zorder=0.5)
    if numbered:
        ends = [epoch.last_step for epoch in epochs]
        step = next(size for k in range(20) for size in (10**k, 2 * 10**k, 5 * 10**k) if len(ends) <= 12 * size)
        upper = axes.secondary_xaxis("top")
        upper.set_xticks(ends[step - 1 :: step], [str(n) for n in range(step, len(ends) + 1, step)])
        upper.tick_params(length=3)
        upper.spines["top"].set_visible(False)
        upper.set_xlabel("epochs done", fontsize=10.0, labelpad=4)
