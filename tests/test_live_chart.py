"""Curves in characters: what is highest stands in the first row, what is lowest in the last, and nothing in between is
made up."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crh_train.live import chart
from crh_train.live.signs import ASCII, BRAILLE, Signs, signs_for

SIGNS = pytest.mark.parametrize("signs", [BRAILLE, ASCII])
VALUES = st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=300).map(np.float32)


def dots(rows: list[str], signs: Signs) -> np.ndarray:
    """Which dots [rows, columns] a text shows."""
    if signs is ASCII:
        return np.array([[character != " " for character in row] for row in rows])
    bits = np.array([[(ord(character) - 0x2800) if character != " " else 0 for character in row] for row in rows])
    masks = np.array([[1, 8], [2, 16], [4, 32], [64, 128]])
    return (bits[:, None, :, None] & masks[None, :, None, :]).reshape(4 * len(rows), -1) != 0


def drawn(
    line: np.ndarray, signs: Signs, points: np.ndarray | None = None, width: int = 20, height: int = 4
) -> np.ndarray:
    on = chart.scale(line if points is None else points)
    assert on is not None
    rows = chart.draw(points, line, on, width, height, signs)
    assert [len(row) for row in rows] == [width] * height
    return dots(rows, signs)


@SIGNS
@given(VALUES)
@example(np.float32([1, 3, 2] * 500))
def test_extremes_stand_in_the_first_and_last_row_and_the_line_has_no_gap(signs: Signs, values: np.ndarray) -> None:
    shown = drawn(values, signs)
    if values.min() < values.max():
        assert shown[0].any()
        assert shown[-1].any()
    columns = shown.any(axis=0)
    assert columns.all() if len(values) > 1 else columns.sum() == 1
    top, bottom = shown.argmax(axis=0)[columns], (len(shown) - 1 - shown[::-1].argmax(axis=0))[columns]
    assert (np.maximum(top[:-1], top[1:]) - np.minimum(bottom[:-1], bottom[1:]) <= 1).all()  # and the line is one line


@SIGNS
@given(VALUES.map(np.sort), st.booleans())
def test_a_monotone_series_is_drawn_monotone(signs: Signs, values: np.ndarray, falling: bool) -> None:
    shown = drawn(values[::-1] if falling else values, signs)
    shown = (shown[::-1] if falling else shown)[:, shown.any(axis=0)]
    top, bottom = shown.argmax(axis=0), len(shown) - 1 - shown[::-1].argmax(axis=0)
    assert (np.diff(top) <= 0).all()
    assert (np.diff(bottom) <= 0).all()
    assert (shown.sum(axis=0) == bottom - top + 1).all()  # and no column has a hole


@SIGNS
@pytest.mark.parametrize("count", [5, 50, 5000])
def test_one_value_that_stands_out_is_never_lost_between_dots(signs: Signs, count: int) -> None:
    values = np.zeros(count, np.float32)
    values[count * 2 // 3] = 1
    smooth = np.full(count, np.float32(0.001))
    shown = drawn(smooth, signs, points=values)
    assert shown[0].sum() == 1
    assert 0.5 < shown[0].argmax() / shown.shape[1] < 0.8


def test_points_and_line_are_told_apart_without_colour() -> None:
    points = np.float32([0, 1, 0, 1, 0, 1])
    (first, *_, last) = chart.draw(points, np.full(6, np.float32(0.5)), chart.Scale(0, 1, False), 11, 3, ASCII)
    assert first == "  .   .   ."
    assert last == ".   .   .  "


def test_a_scale_is_logarithmic_where_values_span_decades() -> None:
    assert chart.scale(np.float32([1, 100])) == (1, 100, True)
    assert chart.scale(np.float32([1, 99])) == (1, 99, False)
    assert chart.scale(np.float32([0, 100])) == (0, 100, False)  # zero has no logarithm
    on = chart.scale(np.float32([1e-4, 1e-2, 1]))
    assert on is not None
    assert on.heights(np.float32([1e-4, 1e-2, 1])) == pytest.approx([0, 0.5, 1])


@SIGNS
def test_what_is_not_finite_is_left_out(signs: Signs) -> None:
    values = np.float32([1, np.nan, 2, np.inf, -np.inf, 3])
    assert chart.scale(values) == (1, 3, False)
    shown = drawn(values, signs)
    assert shown[-1, 0]
    assert shown[0, -1]
    assert chart.scale(np.float32([np.nan])) is None


def test_braille_only_where_the_terminal_has_it() -> None:
    assert signs_for("utf-8", {"TERM": "xterm-256color"}) is BRAILLE
    assert signs_for("utf-8", {}) is BRAILLE
    for encoding, term in (("ascii", "xterm"), ("latin-1", "xterm"), ("no such", "xterm"), ("utf-8", "linux")):
        assert signs_for(encoding, {"TERM": term}) is ASCII


def test_what_a_terminal_would_obey_is_shown_and_not_sent() -> None:
    assert BRAILLE.shown("a\x1b[2Jb\n\u202eé") == "a\\x1b[2Jb\\n\\u202eé"
    assert ASCII.shown("é\x07") == "\\xe9\\x07"
