"""Signals: the first asks for a stop after the step in hand, the second stops at once."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from crh_train.engine import Span, train
from crh_train.hooks import Silent
from crh_train.randomness import root_key
from crh_train.stop_signals import asked_to_stop, heeded, held
from crh_train.types import StepMetrics, TrainState

STATE = TrainState({"bias": jnp.ones(2)}, (), root_key(0), jnp.int32(0))
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def hangup() -> Iterator[None]:
    """SIGHUP as it is by default: what started the tests may ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_only_asks_for_a_stop(number: signal.Signals) -> None:
    before = handlers()
    with asked_to_stop() as asked:
        assert not asked()
        os.kill(os.getpid(), number)
        assert asked()
        assert asked(), "it stays asked for"
    assert handlers() == before


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_does_what_it_did_outside(second: signal.Signals) -> None:
    came: list[int] = []
    before = signal.signal(second, lambda number, frame: came.append(number))
    try:
        with asked_to_stop() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert asked()
            assert came == []
            os.kill(os.getpid(), second)
            assert came == [second]
    finally:
        signal.signal(second, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_that_are_held_come_once_when_that_ends(number: signal.Signals) -> None:
    came: list[int] = []
    before = signal.signal(number, lambda number, frame: came.append(number))
    try:
        with held():
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            assert came == []
        assert came == [number]
    finally:
        signal.signal(number, before)


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert heeded() == [signal.SIGINT, signal.SIGTERM]
        with asked_to_stop() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handlers_come_back_after_an_error_too() -> None:
    before = handlers()
    with pytest.raises(ZeroDivisionError), asked_to_stop():
        1 / 0  # noqa: B018
    assert handlers() == before


def test_a_signal_during_a_step_ends_the_training_after_it_with_a_last_boundary() -> None:
    boundaries: list[tuple[int, bool]] = []

    class Interrupts(Silent):
        def before_step(self, step: int) -> None:
            if step == 5:
                os.kill(os.getpid(), signal.SIGTERM)

        def at_boundary(self, step: int, state: TrainState, last: bool) -> None:
            boundaries.append((step, last))

    one = np.float32(1)
    metrics = StepMetrics(one, one, one, one, np.ones(3, np.float32))  # type: ignore[arg-type]
    with asked_to_stop() as asked:
        _, done = train(
            lambda before, batch: (before, metrics), STATE, lambda done: None, Span(0, 9, 3), [Interrupts()], asked
        )  # type: ignore[arg-type,return-value]
    assert done == 5
    assert boundaries == [(3, False), (5, True)]
