"""Signals that ask a command to end: Ctrl-C, `kill`, a closed terminal."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

AGAIN_SECONDS = 0.01  # until a signal is sent again that nothing could hear

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heeded() -> list[signal.Signals]:
    """The signals that end a command. SIGHUP is not one where it is ignored, as under `nohup`; SIGINT always is,
    because a shell's background job begins with it ignored."""
    return [each for each in _NUMBERS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]


@contextlib.contextmanager
def interrupting() -> Iterator[Callable[[], bool]]:
    """Within it a signal raises KeyboardInterrupt; the function that it gives says whether one came.

    Where Python can only report what is raised, as in a destructor or in what JAX does at each garbage collection, the
    exception would be lost, and the signal with it. There it is sent again, until it is heard.
    """
    came: list[int] = []
    report = sys.unraisablehook

    def interrupt(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    def unheard(lost: "sys.UnraisableHookArgs") -> None:
        if came and lost.exc_type is KeyboardInterrupt:
            again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), came[-1]))
            again.daemon = True
            again.start()
        else:
            report(lost)

    sys.unraisablehook = unheard
    try:
        with _heard_by(interrupt):
            yield lambda: bool(came)
    finally:
        sys.unraisablehook = report


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
