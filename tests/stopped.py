"""Runs `crh-train` and sends its own process a signal right after one step is logged: `stopped.py SIGNAL STEP …`."""

import os
import signal
import sys

from crh_train import environment

number, step = signal.Signals[sys.argv[1]], int(sys.argv[2])
del sys.argv[1:3]
# The hook is imported below, and with it JAX, before the command can say how.
environment.configure(os.environ, threads=environment.thread_count(os.environ), devices=1)

from crh_train.cli import main  # noqa: E402
from crh_train.saving import BackgroundSaver  # noqa: E402
from crh_train.types import StepRecord  # noqa: E402

heard = BackgroundSaver.after_step


def after_step(saver: BackgroundSaver, record: StepRecord) -> None:
    heard(saver, record)
    if record.step == step:
        if saver._pending is not None:  # else what is there afterwards would depend on how fast the disk is
            saver._pending.result()
        os.kill(os.getpid(), number)


BackgroundSaver.after_step = after_step  # type: ignore[method-assign]
main()
