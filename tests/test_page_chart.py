"""Curves of the page: what is drawn is what the numbers are."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crh_train.page.chart import Axis, Series, curve, extremes, interval, spans, ticks, value_axis

FINITE = st.floats(-1e6, 1e6, width=32)
VALUES = st.lists(FINITE, min_size=1, max_size=60)
UNITS = 10_000


def drawn(svg: str, kind: str) -> list[tuple[str, float, float]]:
    (path,) = re.findall(rf'<path class="{kind}" d="([^"]*)"', svg)
    return [(pen, int(x) / UNITS, 1 - int(y) / UNITS) for pen, x, y in re.findall(r"([ML])(\d+) (\d+)", path)]


@given(VALUES, st.booleans())
def test_a_line_goes_through_its_values(values: list[float], from_zero: bool) -> None:
    steps = list(range(5, 5 + len(values)))
    axis = value_axis(values, from_zero)
    points = drawn(curve("lr", "t", "d", Series(steps, values, None), from_zero), "line")
    assert "".join(pen for pen, _, _ in points) == "M" + "L" * (len(values) - 1)
    for (_, x, y), step, value in zip(points, steps, values, strict=True):
        assert abs(y - axis.place(value)) <= 1 / UNITS
        if len(values) > 1:
            assert abs(x - (step - 5) / (len(values) - 1)) <= 1 / UNITS


@pytest.mark.parametrize("length", [1201, 1799])
def test_a_long_run_is_drawn_as_the_range_of_neighbours(length: int) -> None:
    values = np.random.default_rng(0).normal(size=length).tolist()
    svg = curve("loss", "t", "d", Series(range(1, len(values) + 1), values, values), False)
    (path,) = re.findall(r'<path class="each" d="([^"]*)"', svg)
    ranges = [(1 - int(low) / UNITS, 1 - int(high) / UNITS) for low, high in re.findall(r"M\d+ (\d+)V(\d+)", path)]
    axis = value_axis(values, False)
    groups = [values[first : first + 3] for first in range(0, len(values), 3)]
    assert len(ranges) == len(groups)
    for (low, high), group in zip(ranges, groups, strict=True):
        assert abs(low - axis.place(min(group))) <= 1 / UNITS
        assert abs(high - axis.place(max(group))) <= 1 / UNITS


@given(VALUES, st.booleans())
def test_an_axis_holds_all_values_and_a_few_round_ticks(values: list[float], from_zero: bool) -> None:
    axis = value_axis(values, from_zero)
    assert all(0 <= axis.place(value) <= 1 for value in values)
    found = ticks(axis)
    assert len(found) <= 7
    assert found == sorted(set(found))
    assert all(-1e-9 <= axis.place(tick) <= 1 + 1e-9 for tick in found)
    assert axis.logarithmic == (not from_zero and min(values) > 0 and max(values) >= 10 * min(values))


def test_decades_are_ticked() -> None:
    assert ticks(Axis(0.009, 11.0, True)) == [0.01, 0.1, 1.0, 10.0]
    assert ticks(Axis(0.05, 0.8, True)) == pytest.approx([0.05, 0.1, 0.2, 0.5])


def test_what_is_not_finite_breaks_the_line_and_is_not_marked() -> None:
    values = [1.0, math.nan, 3.0, 2.0, math.inf]
    svg = curve("lr", "t", "d", Series(range(1, 6), values, None))
    assert "".join(pen for pen, _, _ in drawn(svg, "line")) == "MML"
    assert extremes(values) == (0, 2, 3)
    assert extremes([math.nan]) is None
    assert "mark" not in curve("lr", "t", "d", Series([1], [math.nan], [math.nan]))


def test_names_are_text() -> None:
    svg = curve("loss", "<b>", '"</desc>', Series([1, 2], [1.0, 2.0], None)) + spans([(1, 2, "<i>")], 1, 2, "<u>")
    assert not re.search("<b>|<i>|<u>|</desc></desc>", svg)
    assert 'width="100.00%"' in svg
    assert 'x1="25.00%"' in interval(0.5, (0.25, 0.75), 0.0, 1.0)
