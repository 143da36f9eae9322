"""A run's state as the rows of a terminal: `render` is a pure function of the state, the size and the signs.

Nothing is told by colour alone. What does not fit is left out, the least important first: the curve of the gradient
norm, of the learning rate, of the loss, then facts from the last on.
"""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rich.cells import cell_len, set_cell_size

from crh_train.live import chart
from crh_train.live.chart import Values
from crh_train.live.signs import Signs
from crh_train.live.state import RunState

_LABEL = 10  # columns left of a curve
_LEAST_ROWS = 3  # of a curve with its title
_BESIDE = 76  # columns from which on two curves stand side by side
_UNREAD = 1 << 16  # bytes; less is what is being written


class Row(NamedTuple):
    text: str
    style: str  # of rich; only for looks


class _Curve(NamedTuple):
    title: str
    short: str  # its title where there is little room
    points: Values | None
    line: Values
    style: str


def render(state: RunState, width: int, height: int, signs: Signs) -> list[Row]:
    """At most `height` rows of at most `width` columns."""
    head = [Row(line, "bold" if index == 0 else "") for index, line in enumerate(_head(state, width, signs))]
    if state.problem is not None:
        words = f"damaged: {signs.shown(state.problem)}; crh-train verify {state.argument} says what can be trusted"
        head += [Row(line, "red") for line in textwrap.wrap(words, width)]
    rows = head + _curves(state, width, height - len(head), signs)
    return [Row(_fitted(row.text, width, signs).rstrip(), row.style) for row in rows[:height]]


# --- facts ---------------------------------------------------------------------------------------------------------


def _head(state: RunState, width: int, signs: Signs) -> list[str]:
    title = _fitted(signs.shown(f"{state.name}  {state.configuration}"), width, signs)
    bar = [_bar(state, width, signs)] if state.problem is None else []
    return [title, *bar, *_wrapped([signs.shown(fact) for fact in _facts(state)], width, signs)]


def _bar(state: RunState, width: int, signs: Signs) -> str:
    share = min(state.steps / state.total, 1.0)
    percent = f" {int(100 * share):3d} %"  # rounded down: 100 is all
    full = int(share * (width - len(percent)))
    return signs.done * full + signs.left * (width - len(percent) - full) + percent


def _facts(state: RunState) -> list[str]:
    if state.problem is None:
        facts = [_status(state), f"step {state.steps} of {state.total}", f"epoch {state.epoch} of {state.epochs}"]
    else:  # how far the run came cannot be told from what is left of its chronicle
        facts = ["DAMAGED", f"good up to step {state.steps} of {state.total}"]
        facts += [_status(state)] if state.status == "running" else []
    if (each := state.step_seconds) is not None and each > 0:
        facts += [f"{1 / each:.3g} steps/s", f"{1 / each / state.steps_per_epoch:.3g} epochs/s"]
    if state.status == "running" and state.steps < state.total:
        left = state.seconds_left
        facts.append("time left not known yet" if left is None else f"{duration(left)} left")
    if state.status == "running" and state.steps:
        facts.append(f"last line {duration(state.silence)} ago")
    facts.append("nothing saved yet" if state.checkpoint is None else f"saved {state.checkpoint[:16]}")
    if state.unread > _UNREAD:
        facts.append(f"{state.unread / 1e6:.1f} MB of the chronicle are still to be read")
    return facts


def _status(state: RunState) -> str:
    if state.status == "unfinished":
        return f"unfinished, and nobody works at it: crh-train resume {state.argument}"
    if state.status == "finished":
        return "finished"
    by = f"running, process {state.writer}"
    if not state.steps:
        return f"{by}, before its first step, which compiles"
    return f"{by}, after its last step: validation, reports" if state.steps >= state.total else by


def _wrapped(facts: Sequence[str], width: int, signs: Signs) -> list[str]:
    """As many facts a line as fit; one that is too long is broken between words."""
    lines: list[str] = []
    for fact in facts:
        if lines and cell_len(joined := f"{lines[-1]}{signs.separator}{fact}") <= width:
            lines[-1] = joined
        else:
            lines += textwrap.wrap(fact, width)
    return lines


def duration(seconds: float) -> str:
    """For people: two units at most."""
    whole = round(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part:02d} {smaller}"
    return f"{whole} s"


# --- curves --------------------------------------------------------------------------------------------------------


def _curves(state: RunState, width: int, height: int, signs: Signs) -> list[Row]:
    """The curves and the axis below them in at most `height` rows."""
    if not state.steps or width <= 2 * _LABEL:
        return []
    loss, rate, norm = _chosen(state)
    room = height - 1  # without the axis
    if width >= _BESIDE and room * 2 // 5 >= _LEAST_ROWS:
        first = room - room * 2 // 5
        half = (width - 2) // 2
        left, right = (_panel(curve, half, room - first, signs) for curve in (rate, norm))
        below = [f"{_padded(one, half)}  {other}" for one, other in zip(left, right, strict=True)]
        axis = f"{_padded(_axis(state, half), half)}  {_axis(state, half)}"
        return [
            *(Row(line, loss.style) for line in _panel(loss, width, first, signs)),
            *(Row(line, rate.style) for line in below),
            Row(axis, "dim"),
        ]
    count = max(min(room // _LEAST_ROWS, 3), 0)
    rows: list[Row] = []
    for index, curve in enumerate((loss, rate, norm)[:count]):
        share = room // count + (index < room % count)
        rows += [Row(line, curve.style) for line in _panel(curve, width, share, signs)]
    return [*rows, Row(_axis(state, width), "dim")] if rows else []


def _chosen(state: RunState) -> tuple[_Curve, _Curve, _Curve]:
    curves = state.curves
    return (
        _Curve("loss", "loss", curves.loss, curves.smoothed_loss, "cyan"),
        _Curve("learning rate", "rate", None, curves.lr, "green"),
        _Curve("gradient norm", "grad norm", curves.grad_norm, curves.smoothed_grad_norm, "green"),
    )


def _panel(curve: _Curve, width: int, height: int, signs: Signs) -> list[str]:
    """Title and curve in `height` rows: points are the values, the line is smoothed, where there are points."""
    values = curve.line if curve.points is None else curve.points
    on = chart.scale(values)
    title = _title(curve, values, on is not None and on.logarithmic, width, signs)
    if on is None:
        return [title, *[""] * (height - 1)]
    rows = chart.draw(curve.points, curve.line, on, width - _LABEL, height - 1, signs)
    labels = [f"{on.high:.3g}", *[""] * (height - 3), f"{on.low:.3g}"]
    return [title, *(f"{label:>{_LABEL - 1}}{signs.tick}{row}" for label, row in zip(labels, rows, strict=True))]


def _title(curve: _Curve, values: Values, logarithmic: bool, width: int, signs: Signs) -> str:
    """What the curve is and its last values, in shorter words where there is no room; then without the last facts. No
    number is cut: a part of one would pass for another."""
    missing = int(np.count_nonzero(~np.isfinite(values)))
    more = (["log scale"] if logarithmic else []) + ([f"{missing} not finite"] if missing else [])
    tried: list[str] = []
    for title, average in ((curve.title, "smoothed"), (curve.title, "ema"), (curve.short, "ema")):
        smoothed = [] if curve.points is None else [f"{average} {curve.line[-1]:.4g}"]
        facts = [f"{title} {values[-1]:.4g}", *smoothed, *more]
        tried.append(signs.separator.join(facts))
    tried += [signs.separator.join(facts[:count]) for count in range(len(facts) - 1, 0, -1)]
    return next((text for text in tried if cell_len(text) <= width), curve.short)


def _axis(state: RunState, width: int) -> str:
    last = str(state.steps)
    return f"{'step':>{_LABEL - 1}} 1{last:>{width - _LABEL - 1}}" if state.steps > 1 else f"{'step':>{_LABEL - 1}} 1"


def _fitted(text: str, width: int, signs: Signs) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + signs.cut


def _padded(text: str, width: int) -> str:
    return set_cell_size(text, width)
