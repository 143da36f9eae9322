"""Runs `crh-train` and sends its own process a signal right after one step is logged: `stopped.py SIGNAL STEP …`."""

import os
import signal
import sys

from crh_train import environment

number, step = signal.Signals[sys.argv[1]], int(sys.argv[2])
del sys.argv[1:3]
# The hook is imported below, and with it JAX, before the command can say how.
environment.configure(os.environ, threads=environment.thread_count(os.environ), devices=1)

from crh_train import hooks  # noqa: E402
from crh_train.cli import main  # noqa: E402
from crh_train.types import StepRecord  # noqa: E402

logged = hooks.Chronicle.after_step


def after_step(hook: hooks.Chronicle, record: StepRecord) -> None:
    logged(hook, record)
    if record.step == step:
        os.kill(os.getpid(), number)


hooks.Chronicle.after_step = after_step  # type: ignore[method-assign]
main()
