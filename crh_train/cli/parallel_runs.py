"""The runs of a sweep on this machine, so many at a time."""

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from crh_train import cores, environment
from crh_train.cli.child_run import POLL_SECONDS, STOP, Work, done


class Event(NamedTuple):
    """A run was begun, or ended with the document that it printed."""

    number: int
    document: dict[str, Any] | None


def in_parallel(works: Sequence[Work], jobs: int, held: int, asked: Callable[[], int]) -> Generator[Event]:
    """Do `works`, `jobs` at a time, and tell what happens, when it does. Once `asked` says to stop, none is begun and
    those that run are stopped; so too once it is closed. `held` is the descriptor that they inherit."""
    events: SimpleQueue[Event | BaseException | None] = SimpleQueue()

    closed = False

    def stopping() -> int:
        return max(asked(), STOP if closed else 0)

    def do(work: Work) -> None:
        try:
            if not stopping():
                events.put(Event(work.number, None))
                events.put(Event(work.number, done(work, held, stopping)))
        except BaseException as error:
            events.put(error)
        finally:
            events.put(None)

    with ThreadPoolExecutor(jobs) as pool:
        for work in works:
            pool.submit(do, work)
        try:
            left = len(works)
            while left:
                try:
                    event = events.get(timeout=POLL_SECONDS)  # between which a signal is heard, whatever thread it met
                except Empty:
                    continue
                if isinstance(event, BaseException):
                    raise event
                if event is None:
                    left -= 1
                else:
                    yield event
        finally:
            closed = True


def threads_each(jobs: int) -> int:
    """How many threads each of `jobs` runs at a time shall have: its share of the cores, unless a variable says it."""
    if jobs == 1 or any(name in os.environ for name in environment.THREAD_VARIABLES):
        return environment.thread_count(os.environ)
    return max(1, cores.available() // jobs)
