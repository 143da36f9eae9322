"""Signals that ask a command to end: Ctrl-C, `kill`, a closed terminal."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heeded() -> list[signal.Signals]:
    """The signals that end a command. SIGHUP is not one where it is ignored, as under `nohup`; SIGINT always is,
    because a shell's background job begins with it ignored."""
    return [each for each in _NUMBERS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]


@contextlib.contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Within it signals do nothing but count; the function that it gives says how many came."""
    came: list[int] = []

    def count(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.getsignal(number) for number in heeded()}
    for number in before:
        signal.signal(number, count)
    try:
        yield lambda: len(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
