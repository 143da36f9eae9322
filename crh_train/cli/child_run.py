"""One run of a sweep, in a process of its own: `crh-train run` or `resume`, which prints its result as JSON.

It is in a session of its own, so that Ctrl-C in a terminal reaches the sweep alone, which passes it on once: a second
one would stop the run at once.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

from crh_train.cli.child_document import child_document
from crh_train.cli.lifeline import lifeline

POLL_SECONDS = 0.1

STOP, KILL = 1, 2
"""How far a sweep has been asked to stop: 0, not at all; `STOP`, each run finishes its step and saves; `KILL`, at once.
It is how many signals came, so it can be more."""


class Work(NamedTuple):
    """A run to be done."""

    number: int  # of the combination in the sweep, counted from 1
    words: tuple[str, ...]  # of crh-train, with --runs
    cwd: str
    environ: Mapping[str, str]  # what its environment has besides ours
    prefix: str  # of each line that it says; empty where it may have the terminal


def done(work: Work, held: int, asked: Callable[[], int]) -> dict[str, Any]:
    """The document that the run prints, of success or of failure. It inherits the descriptor `held`; `asked` says
    whether it shall stop, and is asked again and again."""
    command = [sys.executable, "-m", "crh_train", *work.words, "--json", "--lifeline"]
    output: list[str] = []
    with (
        lifeline() as stdin,
        subprocess.Popen(
            command,
            cwd=work.cwd,
            env={**os.environ, **work.environ},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if work.prefix else None,
            pass_fds=[held],
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        readers = [threading.Thread(target=_keep, args=(process.stdout, output))]
        if process.stderr is not None:
            readers.append(threading.Thread(target=_pass_on, args=(process.stderr, work.prefix)))
        for reader in readers:
            reader.start()
        _wait(process, asked)
        for reader in readers:
            reader.join()
    return child_document(
        output[0], process.returncode, lambda how: f"the run's process {how}; what it had saved is kept", killed=1
    )


def _wait(process: subprocess.Popen[str], asked: Callable[[], int]) -> None:
    passed_on = 0
    while True:
        try:
            process.wait(POLL_SECONDS)
            return
        except subprocess.TimeoutExpired:
            if (now := asked()) > passed_on:
                passed_on = now
                process.send_signal(signal.SIGKILL if now >= KILL else signal.SIGTERM)


def _keep(stream: IO[str], output: list[str]) -> None:
    output.append(stream.read())


def _pass_on(lines: IO[str], prefix: str) -> None:
    for line in lines:
        with contextlib.suppress(OSError):  # in a launcher's process; the run would wait for who reads its lines
            sys.stderr.write(f"{prefix}{line}")  # one write, so that lines of several runs do not mix
            sys.stderr.flush()
