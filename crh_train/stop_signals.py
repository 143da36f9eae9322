"""Signals that ask a command to end: Ctrl-C, `kill`, a closed terminal."""

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

AGAIN_SECONDS = 0.01  # until a signal is sent again that nothing could hear

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heeded() -> list[signal.Signals]:
    """The signals that end a command. SIGHUP is not one where it is ignored, as under `nohup`; SIGINT always is,
    because a shell's background job begins with it ignored."""
    return [each for each in _NUMBERS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]


class Interruption:
    """What signals do to a command: see `interrupting`."""

    def __init__(self, numbers: Sequence[signal.Signals]) -> None:
        self._numbers = numbers
        self._came: list[int] = []
        self._ignored = False

    @property
    def came(self) -> bool:
        return bool(self._came)

    @property
    def ignored(self) -> bool:
        return self._ignored

    def within(self, work: Callable[[], None]) -> None:
        """Do `work`; a signal raises KeyboardInterrupt in it, in whatever function it comes."""
        if self._came:  # before this began
            raise KeyboardInterrupt
        work()

    def ignore(self) -> None:
        """Hear no signal any more: the process ends, and there is nothing left to interrupt."""
        self._ignored = True
        for number in self._numbers:
            signal.signal(number, signal.SIG_IGN)

    def hear(self, number: int, frame: FrameType | None) -> None:
        """A signal's handler. Nothing is raised outside of `within`, where the end of the command is told and no frame
        is left that would catch it, nor in `report`, whose own exceptions Python prints."""
        self._came.append(number)
        while frame is not None and frame.f_code is not Interruption.report.__code__:
            if frame.f_code is Interruption.within.__code__:
                raise KeyboardInterrupt
            frame = frame.f_back

    def report(self, lost: "sys.UnraisableHookArgs", *, otherwise: Callable[["sys.UnraisableHookArgs"], Any]) -> None:
        """Of what Python can only report: of a signal's exception the signal is sent again, until it is heard;
        everything else goes to `otherwise`."""
        signalled = self._came and lost.exc_type is KeyboardInterrupt
        # CPython's word for a signal that comes in the middle of `ignore`.
        ignored = self._ignored and lost.exc_type is OSError and "race condition" in str(lost.exc_value)
        if not (signalled or ignored):
            otherwise(lost)
        if self._came and not self._ignored:
            again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), self._came[-1]))
            again.daemon = True
            again.start()


@contextlib.contextmanager
def interrupting() -> Iterator[Interruption]:
    """For a command that does its work in `Interruption.within`, where a signal raises KeyboardInterrupt. Where one
    came, signals are ignored in the end and stay so: Python has functions to call when it exits, JAX's among them, and
    would print what a second signal raises there.

    Where Python can only report what is raised, as in a destructor or in what JAX does at each garbage collection, the
    exception would be lost, and the signal with it. There it is sent again, until it is heard.
    """
    before = {number: signal.getsignal(number) for number in heeded()}
    signals, hook = Interruption([*before]), sys.unraisablehook
    sys.unraisablehook = functools.partial(signals.report, otherwise=hook)
    for number in before:
        signal.signal(number, signals.hear)
    try:
        yield signals
    finally:
        if signals.came:
            signals.ignore()
        if not signals.ignored:
            for number, earlier in before.items():
                signal.signal(number, earlier)
            sys.unraisablehook = hook


@contextlib.contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Within it signals do nothing but count; the function that it gives says how many came."""
    came: list[int] = []

    def count(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    with _heard_by(count):
        yield lambda: len(came)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Within it signals wait; the first one is sent again when it ends."""
    came: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    with _heard_by(hold):
        yield
    for number in came[:1]:
        signal.raise_signal(number)


@contextlib.contextmanager
def _heard_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in heeded()}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Within it the first signal only asks for a stop; the function that it gives says whether one came. A second one
    does what it did outside."""
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.getsignal(number) for number in heeded()}
    for number in before:
        signal.signal(number, ask)
    try:
        yield lambda: bool(asked)
    finally:
        restore()
