"""A child process that ends with its parent, even where that is killed: its standard input is a pipe from that."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

LifelineOption = Annotated[
    bool, typer.Option("--lifeline", hidden=True, help="Stop, as by SIGTERM, once standard input ends.")
]


@contextlib.contextmanager
def lifeline() -> Iterator[int]:
    """The end to read of a pipe to which nobody writes, and of which we alone have the other end."""
    ours, theirs = os.pipe()[::-1]
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


def end_with_parent(end: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGTERM)) -> None:
    """Call `end`, which stops this process as SIGTERM does, once standard input ends: what gave it is gone."""

    def wait() -> None:
        os.read(0, 1)
        end()

    threading.Thread(target=wait, daemon=True).start()
