"""Hooks of the training loop: the guard against non-finite numbers, the chronicle, checkpoints, progress.

They are listed in that order: the guard first, so that no state that it refuses is ever saved; the chronicle before
the checkpoint, whose offset points into it.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from crh_train.chronicle_writer import ChronicleWriter
from crh_train.errors import Diverged
from crh_train.state import HostState, to_host
from crh_train.types import StepRecord, TrainState


class Silent:
    """A hook that does nothing; the others override what they need."""

    def before_step(self, step: int) -> None:
        pass

    def after_step(self, record: StepRecord) -> None:
        pass

    def at_boundary(self, step: int, state: TrainState, last: bool) -> None:
        pass


class NanGuard(Silent):
    """Stops training at the first non-finite loss or gradient, and before a non-finite state could be saved: a finite
    gradient times a large learning rate can overflow. Raises `Diverged` naming the step and the leaf."""

    def __init__(self, leaf_names: Sequence[str]) -> None:
        self._leaf_names = tuple(leaf_names)

    def after_step(self, record: StepRecord) -> None:
        bad = [
            name for name, norm in zip(self._leaf_names, record.leaf_grad_norms, strict=True) if not np.isfinite(norm)
        ]
        if np.isfinite(record.loss) and np.isfinite(record.grad_norm) and not bad:
            return
        of_all = f"({len(bad)} of {len(self._leaf_names)} leaves)"
        leaf = f"first non-finite gradient in leaf '{bad[0]}' {of_all}" if bad else "every leaf's gradient is finite"
        raise Diverged(
            f"step {record.step} (epoch {record.epoch}, batch {record.batch}): loss is {record.loss}, "
            f"gradient norm {record.grad_norm}, {leaf}; nothing of this step was saved and the checkpoints before "
            "it are kept; lower engine.learning_rate or look at the data of this batch"
        )

    def at_boundary(self, step: int, state: TrainState, last: bool) -> None:
        host = to_host(state)
        for section, arrays in (("parameter", host.model_state), ("optimizer state", host.optimizer_state)):
            for name in sorted(arrays):
                if not np.all(np.isfinite(arrays[name])):
                    raise Diverged(
                        f"step {step}: {section} '{name}' is not finite, though the gradients up to it are; the state "
                        "was not saved and the checkpoints before it are kept; lower engine.learning_rate"
                    )


class Chronicle(Silent):
    """Writes one line a step. `elapsed` is how long the run took before, `now` a monotonic clock, both in seconds."""

    def __init__(
        self, writer: ChronicleWriter, elapsed: float = 0.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._writer = writer
        self._now = now
        self._began = now() - elapsed

    def after_step(self, record: StepRecord) -> None:
        self._writer.append(record, timestamp=self._now() - self._began)


class Checkpoints(Silent):
    """Saves every `every` epochs, and where training ends or is asked to stop."""

    def __init__(self, save: Callable[[HostState], None], every: int, steps_per_epoch: int) -> None:
        self._save = save
        self._cadence = every * steps_per_epoch

    def at_boundary(self, step: int, state: TrainState, last: bool) -> None:
        if last or step % self._cadence == 0:
            self._save(to_host(state))


def progress_display(show: bool) -> Progress:
    """A bar on standard error with loss, learning rate, steps and time left; nothing where that is no terminal.

    Use it as a context manager around the loop, so that the terminal is put right whatever happens.
    """
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  lr {task.fields[lr]}"),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
        disable=not (show and console.is_terminal),
    )


class ProgressBar(Silent):
    """Shows step, loss and learning rate on `display`."""

    def __init__(self, display: Progress, first: int, last: int, title: str) -> None:
        self._display = display
        self._task = display.add_task(title, total=last, completed=first, loss="–", lr="–")

    def after_step(self, record: StepRecord) -> None:
        self._display.update(self._task, completed=record.step, loss=f"{record.loss:.5f}", lr=f"{record.lr:.2e}")


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Within it SIGINT and SIGTERM only ask for a stop; the function that it gives says whether one came."""
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
