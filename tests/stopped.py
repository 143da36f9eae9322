"""Runs `crh-train` and sends its own process a signal right after one step is logged, or, for step 0, when validation
begins: `stopped.py SIGNAL STEP …`.
"""

import os
import signal
import sys
from typing import Any

from crh_train import environment

number, step = signal.Signals[sys.argv[1]], int(sys.argv[2])
del sys.argv[1:3]
# The hook is imported below, and with it JAX, before the command can say how.
environment.configure(os.environ, threads=environment.thread_count(os.environ), devices=1)

from crh_train import validator  # noqa: E402
from crh_train.cli import main  # noqa: E402
from crh_train.saving import BackgroundSaver  # noqa: E402
from crh_train.types import StepRecord  # noqa: E402

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what started the tests may ignore it
heard, validate = BackgroundSaver.after_step, validator.validate


def after_step(saver: BackgroundSaver, record: StepRecord) -> None:
    heard(saver, record)
    if record.step == step:
        if saver._pending is not None:  # else what is there afterwards would depend on how fast the disk is
            saver._pending.result()
        os.kill(os.getpid(), number)


def interrupted(*arguments: Any) -> Any:
    if step == 0:
        os.kill(os.getpid(), number)
    return validate(*arguments)


BackgroundSaver.after_step = after_step  # type: ignore[method-assign]
validator.validate = interrupted
main()
