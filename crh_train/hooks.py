"""Hooks of the training loop: the guard against non-finite numbers, the chronicle, checkpoints, progress.

They are listed in that order: the guard first, so that no state that it refuses is ever saved; the chronicle before
the checkpoint, whose offset points into it.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from crh_train.checkpoint_header import CheckpointName
from crh_train.chronicle_writer import ChronicleWriter
from crh_train.errors import Diverged
from crh_train.state import HostState, not_finite, to_host
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
        if (found := not_finite(to_host(state))) is not None:
            section, name = found
            raise Diverged(
                f"step {step}: {section} '{name}' is not finite, though the gradients up to it are; the state was not "
                "saved and the checkpoints before it are kept; lower engine.learning_rate"
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
    """Saves after the steps that are `due`, and where training ends or is asked to stop."""

    def __init__(self, save: Callable[[HostState], None], due: Callable[[int], bool]) -> None:
        self._save = save
        self._due = due

    def at_boundary(self, step: int, state: TrainState, last: bool) -> None:
        if last or self._due(step):
            self._save(to_host(state))


def every_epochs(count: int, steps_per_epoch: int) -> Callable[[int], bool]:
    """Whether a step is the last of `count` epochs."""
    return lambda step: step % (count * steps_per_epoch) == 0


def progress_display(show: bool) -> Progress:
    """A bar on standard error with loss, learning rate, steps and time left; nothing where that is no terminal.

    Use it as a context manager around the loop, so that the terminal is put right whatever happens.
    """
    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  lr {task.fields[lr]}  saved {task.fields[saved]}", markup=False),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
        disable=not (show and console.is_terminal),
    )


class ProgressBar(Silent):
    """Shows step, loss, learning rate and what is saved on `display`; where that shows nothing and `show`, writes one
    line a checkpoint to standard error."""

    def __init__(self, display: Progress, first: int, last: int, title: str, show: bool) -> None:
        self._display = display
        self._task = display.add_task(title, total=last, completed=first, loss="–", lr="–", saved=first)
        self._lines = show and display.disable

    def after_step(self, record: StepRecord) -> None:
        self._display.update(self._task, completed=record.step, loss=f"{record.loss:.5f}", lr=f"{record.lr:.2e}")

    def saved(self, name: CheckpointName) -> None:
        """A checkpoint is durable. May be called by another thread."""
        self._display.update(self._task, saved=name.step)
        if self._lines:
            with contextlib.suppress(OSError):  # nobody reads: no reason to stop training
                sys.stderr.write(f"saved step {name.step}: {name.text}\n")
                sys.stderr.flush()
