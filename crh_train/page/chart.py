"""Curves as inline SVG that keeps its letters legible at any width: places are percentages, letters and lines have
sizes of their own, colours are the page's. Pure functions of numbers.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

Point = tuple[float, float]  # from 0 to 1, the origin at the lower left

_UNITS = 10_000  # of the stretched drawing, in each direction
_BUCKETS = 600  # steps are drawn one by one up to so many, then as the range of neighbours
_TICKS = 5


class Series(NamedTuple):
    steps: Sequence[int]
    values: Sequence[float]
    average: Sequence[float] | None  # drawn over it


class Extremes(NamedTuple):
    """Places in the series of the first smallest, the first largest and the last finite value."""

    smallest: int
    largest: int
    last: int


class Axis(NamedTuple):
    low: float
    high: float
    logarithmic: bool

    def place(self, value: float) -> float:
        """From 0 at the low end to 1."""
        if self.logarithmic:
            return math.log10(value / self.low) / math.log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def extremes(values: Sequence[float]) -> Extremes | None:
    """None where no value is finite."""
    finite = [index for index, value in enumerate(values) if math.isfinite(value)]
    if not finite:
        return None
    return Extremes(min(finite, key=values.__getitem__), max(finite, key=values.__getitem__), finite[-1])


def value_axis(values: Sequence[float], from_zero: bool) -> Axis:
    """Logarithmic where all values are positive and span a decade; linear from zero if asked for."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    if from_zero:
        low = min(low, 0.0)
    elif low > 0 and high >= 10 * low:
        return Axis(low / 1.15, high * 1.15, True)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 0.5
    return Axis(low if from_zero and low == 0 else low - room, high + room, False)


def ticks(axis: Axis) -> list[float]:
    """Round numbers within the axis."""
    if axis.logarithmic:
        decades = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
        for mantissas in ((1, 2, 5), (1, 3), (1,)):
            found = [m * 10.0**d for d in decades for m in mantissas if axis.low <= m * 10.0**d <= axis.high]
            if len(found) <= _TICKS + 1:
                return found
        return found[:: -(-len(found) // _TICKS)]
    span = axis.high - axis.low
    power = 10.0 ** math.floor(math.log10(span))
    step = next(m * power / 10 for m in (1, 2, 5, 10, 20, 50) if span / (m * power / 10) <= _TICKS)
    return [k * step for k in range(math.ceil(axis.low / step), math.floor(axis.high / step) + 1)]


def number(value: float) -> str:
    """A tick's label."""
    return f"{value:.6g}"


def curve(name: str, title: str, description: str, series: Series, from_zero: bool = False) -> Markup:
    """One series against the step, with its average; smallest, largest and last value are marked.

    Args:
      name: begins the ids, and is the class.
    """
    steps, values = series.steps, [float(value) for value in series.values]
    axis = value_axis(values, from_zero)
    across = Axis(min(steps[0], steps[-1] - 1), steps[-1], False)
    points = [
        (across.place(s), axis.place(v)) if math.isfinite(v) else None for s, v in zip(steps, values, strict=True)
    ]
    drawn = [
        Markup('<path class="{}" d="{}"/>').format("line" if series.average is None else "each", _drawn(points, series))
    ]
    if series.average is not None:
        averaged = [
            (across.place(s), min(max(axis.place(float(v)), 0.0), 1.0)) if _placed(float(v), axis) else None
            for s, v in zip(steps, series.average, strict=True)
        ]
        drawn.append(Markup('<path class="line" d="{}"/>').format(_line(averaged)))
    found = extremes(values)
    marks = [] if found is None else [_mark(kind, points[index]) for kind, index in found._asdict().items()]
    return Markup(
        '<svg class="plot {name}" role="img" aria-labelledby="{name}-title {name}-about">'
        '<title id="{name}-title">{title}</title><desc id="{name}-about">{about}</desc>'
        '{grid}<svg viewBox="0 0 {units} {units}" preserveAspectRatio="none" width="100%" height="100%">'
        "{drawn}</svg>{marks}</svg>"
    ).format(
        name=name,
        title=title,
        about=description,
        grid=_grid(axis, across),
        units=_UNITS,
        drawn=Markup("").join(drawn),
        marks=Markup("").join(marks),
    )


def _placed(value: float, axis: Axis) -> bool:
    return math.isfinite(value) and not (axis.logarithmic and value <= 0)


def _drawn(points: Sequence[Point | None], series: Series) -> str:
    if series.average is None:
        return _line(points)
    parts = []
    for group in _buckets(points):
        there = [point for point in group if point is not None]
        if there:
            x = _x(there[len(there) // 2])
            parts.append(f"M{x} {_y((0, min(y for _, y in there)))}V{_y((0, max(y for _, y in there)))}")
    return "".join(parts)


def _line(points: Sequence[Point | None]) -> str:
    """A line through the last point of each group of neighbours, broken where there is none."""
    parts, pen = [], "M"
    for group in _buckets(points):
        if group[-1] is None:
            pen = "M"
        else:
            parts.append(f"{pen}{_x(group[-1])} {_y(group[-1])}")
            pen = "L"
    return "".join(parts)


def _buckets(points: Sequence[Point | None]) -> list[Sequence[Point | None]]:
    size = -(-len(points) // _BUCKETS)
    return [points[first : first + size] for first in range(0, len(points), size)]


def _x(point: Point) -> int:
    return round(_UNITS * point[0])


def _y(point: Point) -> int:
    return round(_UNITS * (1 - point[1]))


def percent(share: float) -> str:
    return f"{100 * share:.2f}%"


_MARKS = {"smallest": "M0 9l-5 8h10z", "largest": "M0-9l-5-8h10z", "last": "M0-4.5a4.5 4.5 0 1 0 .01 0z"}


def mark(kind: str) -> Markup:
    """The shape that marks a value, to be put at 0, 0."""
    return Markup('<path class="mark" d="{}"/>').format(_MARKS[kind])


def _mark(kind: str, point: Point | None) -> Markup:
    assert point is not None  # it is one of a finite value
    return Markup('<svg x="{}" y="{}">{}</svg>').format(percent(point[0]), percent(1 - point[1]), mark(kind))


def _grid(axis: Axis, across: Axis) -> Markup:
    lines = []
    for tick in ticks(axis):
        y = percent(1 - axis.place(tick))
        lines.append(Markup('<line class="rule" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(y))
        lines.append(Markup('<text class="left" x="-8" y="{}" dy=".35em">{}</text>').format(y, number(tick)))
    for tick in sorted({*(tick for tick in ticks(across) if tick == int(tick))}):
        x = percent(across.place(tick))
        lines.append(Markup('<line class="tick" x1="{0}" x2="{0}" y1="100%" y2="100%"/>').format(x))
        lines.append(Markup('<text class="below" x="{}" y="100%" dy="1.4em">{}</text>').format(x, number(tick)))
    return Markup("").join([*lines, Markup('<line class="axis" x1="0" x2="100%" y1="100%" y2="100%"/>')])


# --- smaller drawings ----------------------------------------------------------------------------------------------


def spans(parts: Sequence[tuple[int, int, str]], first: int, last: int, title: str) -> Markup:
    """A strip of the steps from `first` to `last`: parts (first step, last step, class) with their names where they
    fit."""
    total = last - first + 1
    drawn = []
    for begin, end, kind in parts:
        left, width = (begin - first) / total, (end - begin + 1) / total
        drawn.append(
            Markup('<svg x="{}" width="{}" height="100%"><rect class="{}" width="100%" height="100%"/>{}</svg>').format(
                percent(left),
                percent(width),
                kind,
                Markup('<text x="6" y="50%" dy=".35em">{}</text>').format(kind) if width > 0.15 else "",
            )
        )
    return Markup('<svg class="spans" role="img"><title>{}</title>{}</svg>').format(title, Markup("").join(drawn))


def interval(value: float, ends: tuple[float, float] | None, low: float, high: float) -> Markup:
    """A point and its interval on a scale from `low` to `high`; what it shows stands beside it in numbers."""
    axis = Axis(low, high, False)
    line = Markup("")
    if ends is not None:
        left, right = (percent(axis.place(end)) for end in ends)
        line = Markup('<line x1="{}" x2="{}" y1="50%" y2="50%"/>').format(left, right)
    return Markup('<svg class="interval" aria-hidden="true">{}<circle cx="{}" cy="50%" r="4"/></svg>').format(
        line, percent(axis.place(value))
    )
