"""Hooks: the guard, the chronicle's clock, the cadence of checkpoints, the bar."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from crh_train.checkpoint_header import CheckpointName
from crh_train.engine import Span, train
from crh_train.errors import Diverged
from crh_train.hooks import Checkpoints, Chronicle, NanGuard, ProgressBar, Silent, every_epochs, progress_display
from crh_train.randomness import root_key
from crh_train.state import HostState
from crh_train.types import StepMetrics, StepRecord, TrainState

LEAVES = ("encoder.bias", "encoder.kernel", "head.kernel")
NAME = CheckpointName(1, 1, "ab" * 32)
NONFINITE = [np.nan, np.inf, -np.inf]


def record(
    step: int = 7, loss: float = 0.5, norms: tuple[float, ...] = (1.0, 2.0, 2.0), norm: float = 3.0
) -> StepRecord:
    epoch, batch = divmod(step - 1, 4)
    numbers = (np.float32(value) for value in (loss, 0.9, 1e-3, norm))
    return StepRecord(step, epoch, batch, *numbers, np.array(norms, np.float32))


def state(step: int = 4, weight: float = 1.0, moment: float = 0.0) -> TrainState:
    params = {"head.bias": jnp.ones(2), "head.kernel": jnp.array([1.0, weight])}
    moments = ({"head.kernel": jnp.array([moment])}, jnp.int32(step))
    return TrainState(params, moments, root_key(0), jnp.int32(step))


def refusal(call: Callable[[], None]) -> str:
    with pytest.raises(Diverged) as raised:
        call()
    assert raised.value.exit_code == 1
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- the guard -----------------------------------------------------------------------------------------------------


def test_finite_numbers_pass() -> None:
    guard = NanGuard(LEAVES)
    guard.after_step(record(loss=3.4e38, norms=(0.0, 1e-40, 3e38)))
    guard.at_boundary(4, state(), last=True)


@pytest.mark.parametrize("value", NONFINITE)
def test_a_gradient_that_is_not_finite_is_named_with_its_step_and_leaf(value: float) -> None:
    said = refusal(lambda: NanGuard(LEAVES).after_step(record(norms=(1.0, value, value), norm=value)))
    assert said.startswith(f"step 7 (epoch 1, batch 2): loss is 0.5, gradient norm {value}, first non-finite gradient ")
    assert "in leaf 'encoder.kernel' (2 of 3 leaves)" in said
    assert "in leaf 'head.kernel' (1 of 3" in refusal(lambda: NanGuard(LEAVES).after_step(record(norms=(1, 2, value))))


@pytest.mark.parametrize("value", NONFINITE)
def test_a_loss_that_is_not_finite_is_named_with_its_step(value: float) -> None:
    said = refusal(lambda: NanGuard(LEAVES).after_step(record(loss=value)))
    assert said.startswith(
        f"step 7 (epoch 1, batch 2): loss is {value}, gradient norm 3.0, every leaf's gradient is fi"
    )


def test_a_norm_over_all_leaves_that_overflows_is_seen() -> None:
    said = refusal(lambda: NanGuard(LEAVES).after_step(record(norm=np.inf)))
    assert "gradient norm inf, every leaf's gradient is finite" in said


@pytest.mark.parametrize("value", NONFINITE)
def test_a_state_that_is_not_finite_is_named_before_it_is_saved(value: float) -> None:
    guard = NanGuard(LEAVES)
    said = refusal(lambda: guard.at_boundary(4, state(weight=value), last=False))
    assert said.startswith("step 4: parameter 'head.kernel' is not finite, though the gradients up to it are")
    said = refusal(lambda: guard.at_boundary(4, state(moment=value), last=False))
    assert said.startswith("step 4: optimizer state '0/head.kernel' is not finite")


@pytest.mark.parametrize("bad", ["loss", "state"])
def test_nothing_of_a_refused_step_is_logged_or_saved(bad: str) -> None:
    """In the order in which hooks are listed; the checkpoints before it were saved."""

    def train_step(before: TrainState, batch: Any) -> tuple[TrainState, StepMetrics]:
        step = int(before.step) + 1
        fifth = np.float32(np.nan if step == 5 else 1)
        one = np.float32(1)
        after = state(step, weight=float(fifth) if bad == "state" else 1.0)
        return after, StepMetrics(fifth if bad == "loss" else one, one, one, one, np.ones(3, np.float32))  # type: ignore[arg-type]

    saved: list[int] = []
    written: list[int] = []

    class Writer:
        def append(self, fields: StepRecord, timestamp: float) -> None:
            written.append(fields.step)

    hooks = [
        NanGuard(LEAVES),
        Chronicle(Writer()),  # type: ignore[arg-type]
        Checkpoints(lambda host: saved.append(host.step), every_epochs(1, steps_per_epoch=1)),
    ]
    with pytest.raises(Diverged, match="step 5"):
        train(train_step, state(0), lambda done: None, Span(0, 9, 1), hooks, lambda: False)  # type: ignore[arg-type,return-value]
    assert saved == [1, 2, 3, 4]
    assert written == ([1, 2, 3, 4] if bad == "loss" else [1, 2, 3, 4, 5])


# --- chronicle, checkpoints ----------------------------------------------------------------------------------------


def test_a_line_is_stamped_with_the_seconds_since_the_hook_was_made() -> None:
    lines: list[tuple[int, float]] = []
    clock: Iterator[float] = iter([100.0, 100.5, 107.25])

    class Writer:
        def append(self, fields: StepRecord, timestamp: float) -> None:
            lines.append((fields.step, timestamp))

    chronicle = Chronicle(Writer(), now=lambda: next(clock))  # type: ignore[arg-type]
    chronicle.after_step(record(1))
    chronicle.after_step(record(2))
    assert lines == [(1, 0.5), (2, 7.25)]


def test_a_resumed_run_s_clock_goes_on() -> None:
    stamps: list[float] = []
    clock: Iterator[float] = iter([100.0, 100.5])

    class Writer:
        def append(self, fields: StepRecord, timestamp: float) -> None:
            stamps.append(timestamp)

    Chronicle(Writer(), elapsed=40.0, now=lambda: next(clock)).after_step(record(1))  # type: ignore[arg-type]
    assert stamps == [40.5]


@pytest.mark.parametrize(("every", "saves"), [(1, [3, 6, 9, 11]), (2, [6, 11]), (3, [9, 11]), (5, [11])])
def test_a_checkpoint_comes_every_so_many_epochs_and_at_the_end(every: int, saves: list[int]) -> None:
    saved: list[HostState] = []
    hook = Checkpoints(saved.append, every_epochs(every, steps_per_epoch=3))
    for step in (3, 6, 9):
        hook.at_boundary(step, state(step), last=False)
    hook.at_boundary(11, state(11), last=True)
    assert [host.step for host in saved] == saves
    assert saved[0].model_state["head.kernel"].tolist() == [1.0, 1.0]


def test_the_end_of_an_epoch_that_is_the_last_is_saved_once() -> None:
    saved: list[HostState] = []
    Checkpoints(saved.append, every_epochs(1, steps_per_epoch=3)).at_boundary(3, state(3), last=True)
    assert len(saved) == 1


# --- the bar -------------------------------------------------------------------------------------------------------


def test_the_bar_shows_steps_loss_and_learning_rate() -> None:
    display = Progress(console=Console(file=io.StringIO()))
    bar = ProgressBar(display, first=4, last=30, title="c0ffee", show=True)
    (task,) = display.tasks
    assert (task.description, task.completed, task.total) == ("c0ffee", 4, 30)
    bar.after_step(record(7, loss=0.123456))
    assert task.completed == 7
    assert task.fields == {"loss": "0.12346", "lr": "1.00e-03", "saved": 4}
    bar.saved(NAME)
    assert task.fields["saved"] == 1


@pytest.mark.parametrize(("show", "terminal"), [(True, False), (False, True), (False, False)])
def test_where_there_is_no_terminal_or_no_wish_nothing_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], show: bool, terminal: bool
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", str(int(terminal)))
    with progress_display(show) as display:
        ProgressBar(display, 0, 2, "c0ffee", show).after_step(record(1))
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_the_bar_is_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress_display(show=True) as display:
        bar = ProgressBar(display, 0, 2, "c0ffee", show=True)
        bar.after_step(record(1, loss=0.123456))
        bar.saved(NAME)
    out, err = capsys.readouterr()
    assert out == ""
    assert "c0ffee" in err
    assert "loss 0.12346" in err
    assert "saved 1" in err
    assert NAME.text not in err


@pytest.mark.parametrize("show", [True, False])
def test_without_a_terminal_each_checkpoint_is_a_line_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], show: bool
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    with progress_display(show) as display:
        ProgressBar(display, 0, 2, "c0ffee", show).saved(NAME)
    assert capsys.readouterr() == ("", f"saved step 1: {NAME.text}\n" if show else "")


def test_the_plain_hook_does_nothing() -> None:
    hook = Silent()
    hook.before_step(1)
    hook.after_step(record())
    hook.at_boundary(1, jax.eval_shape(state), last=True)
