"""The rows of a view: a pure function of state and size."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from crh_train.live.screen import duration, render
from crh_train.live.signs import ASCII, BRAILLE, Signs
from crh_train.live.state import RECENT_STEPS, Curves, RunState, document


def state(steps: int = 40, **changes: Any) -> RunState:
    done = np.arange(1, steps + 1)
    loss = (1 / done).astype(np.float32)
    curves = Curves(
        loss=loss,
        coherence=loss,
        lr=np.full(steps, 1e-3, np.float32),
        grad_norm=loss * 10,
        smoothed_loss=loss,
        smoothed_grad_norm=loss * 10,
        timestamp=30.0 + 0.5 * done,
    )
    sample = RunState(
        name="81e3c0d6a5bc625e",
        argument="81e3c0d6a5bc625e",
        configuration="mri_cosine engine.seed=3",
        status="running",
        writer="4711 on host",
        epochs=10,
        steps_per_epoch=8,
        curves=curves,
        unread=0,
        checkpoint="e00005-s00000040-" + "ab" * 32,
        silence=3.0,
        problem=None,
    )
    return sample._replace(**changes)


def text(shown: RunState, width: int = 80, height: int = 24, signs: Signs = BRAILLE) -> str:
    return "\n".join(row.text for row in render(shown, width, height, signs))


def words(shown: RunState) -> str:
    return " ".join(text(shown, 200, 8).split())


@given(
    st.integers(1, 200),
    st.integers(1, 60),
    st.sampled_from([0, 1, 2, 40, 80]),
    st.sampled_from([None, "chronicle.jsonl line 65: its content and its record disagree" * 3]),
    st.sampled_from(["running", "unfinished", "finished"]),
    st.sampled_from([BRAILLE, ASCII]),
    st.sampled_from(["mri_cosine", "名前" * 60, "a" * 300]),
)
def test_every_size_and_state_fits(
    width: int, height: int, steps: int, problem: str | None, status: str, signs: Signs, configuration: str
) -> None:
    shown = state(steps, problem=problem, status=status, configuration=configuration)
    rows = render(shown, width, height, signs)
    assert 1 <= len(rows) <= height
    assert all(cell_len(row.text) <= width for row in rows)
    assert all(row.text.isprintable() for row in rows)
    if signs is ASCII:
        assert all(row.text.isascii() for row in rows)


@pytest.mark.parametrize("size", [(80, 24), (40, 24), (120, 50)])
def test_the_three_curves_fill_the_screen_with_what_they_are_of(size: tuple[int, int]) -> None:
    shown = text(state(), *size)
    assert len(shown.splitlines()) == size[1]
    for title in ("loss 0.025 · smoothed 0.025", "learning rate 0.001", "gradient norm 0.25 · smoothed 0.25"):
        assert title in shown
    for label in ("1┤", "0.025┤", "10┤", "0.25┤"):
        assert label in shown


@given(st.integers(30, 100), st.floats(2.0**-30, 2.0**30, width=32), st.sampled_from([BRAILLE, ASCII]))
def test_no_number_above_a_curve_is_cut(width: int, value: float, signs: Signs) -> None:
    number, smooth = np.full(40, np.float32(value)), ("loss", "grad_norm", "smoothed_loss", "smoothed_grad_norm")
    curves = state().curves._replace(lr=number, **dict.fromkeys(smooth, number))
    shown = render(state(curves=curves), width, 24, signs)
    titles = [row.text for row in shown if re.match("loss|learning rate|rate|grad", row.text)]
    found = [figure for title in titles for figure in re.findall(r"[0-9][0-9.e+-]*", title)]
    assert set(found) == {f"{np.float32(value):.4g}"}
    assert not any(signs.cut in title for title in titles)
    if width >= 80:
        assert len(found) == 5, "each curve's last value, and what two of them are smoothed to"


def test_the_facts() -> None:
    shown = words(state())
    assert "running, process 4711 on host · step 40 of 80 · epoch 5 of 10 · 2 steps/s · 0.25 epochs/s" in shown
    assert "20 s left · last line 3 s ago · saved e00005-s0000004" in shown
    assert " 50 %" in shown
    assert "step 41 of 80 · epoch 6 of 10" in words(state(41))
    assert "before its first step, which compiles" in words(state(0, checkpoint=None))
    assert "nothing saved yet" in words(state(0, checkpoint=None))
    assert "time left not known yet" in words(state(1))
    assert "after its last step: validation, reports" in words(state(80))
    assert "crh-train resume 81e3c0d6a5bc625e" in words(state(status="unfinished"))
    assert "left" not in words(state(status="unfinished"))
    assert "damaged: line 3; crh-train verify 81e3c0d6a5bc625e says" in words(state(problem="line 3"))
    assert "5.0 MB of the chronicle are still to be read" in words(state(unread=5_000_000))
    assert "99 %" in words(state(799, epochs=100))  # not 100 before the end


def test_decades_are_drawn_on_a_log_scale_and_said() -> None:
    curves = state().curves._replace(lr=np.geomspace(1e-1, 1e-5, 40).astype(np.float32))
    assert "learning rate 1e-05 · log scale" in text(state(curves=curves))


def test_values_that_are_not_finite_are_counted() -> None:
    curves = state().curves
    loss = np.where(np.arange(40) == 39, np.float32(np.nan), curves.loss)
    assert "loss nan · smoothed 0.025 · 1 not finite" in text(state(curves=curves._replace(loss=loss)))
    nothing = np.full(40, np.float32(np.nan))
    assert "40 not finite" in text(state(curves=curves._replace(loss=nothing, smoothed_loss=nothing)))


def test_time_left_is_by_the_median_of_the_recent_steps() -> None:
    seconds = np.full(200, 1.0)
    seconds[0], seconds[-RECENT_STEPS // 2 :: 7] = 500.0, 90.0  # a first step that compiles, and some that wait
    shown = state(200, epochs=100)
    shown = shown._replace(curves=shown.curves._replace(timestamp=np.cumsum(seconds)))
    assert (shown.step_seconds, shown.seconds_left) == (1.0, 600.0)
    slower = np.append(seconds, np.full(RECENT_STEPS, 4.0))
    shown = state(250, epochs=100)
    shown = shown._replace(curves=shown.curves._replace(timestamp=np.cumsum(slower)))
    assert (shown.step_seconds, shown.seconds_left) == (4.0, 550 * 4.0)
    assert state(1).step_seconds is None
    assert state(200, epochs=10).seconds_left == 0.0  # more steps than its configuration says


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3725, "1 h 02 min"), (86400 * 3 + 7200, "3 d 02 h")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_the_document_has_exact_numbers_and_names_what_is_not_finite() -> None:
    found = document(state())
    assert found["last"]["loss"] == 0.025
    assert (found["step"], found["steps"], found["epoch"], found["epochs"]) == (40, 80, 5, 10)
    assert (found["step_seconds"], found["steps_per_second"], found["seconds_left"]) == (0.5, 2.0, 20.0)
    curves = state().curves
    spoiled = [np.append(curves.loss[:-1], np.float32(value)) for value in (np.nan, np.inf, -np.inf)]
    told = [document(state(curves=curves._replace(loss=loss)))["last"]["loss"] for loss in spoiled]
    assert told == ["NaN", "Infinity", "-Infinity"]
    assert document(state(0))["last"]["loss"] is None
