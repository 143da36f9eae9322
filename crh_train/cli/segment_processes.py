"""The segments of a replay in processes of their own, all at the same time: each is `crh-train replay --segment`, which
prints its report as JSON and keeps its scratch in a folder of ours.

All of the processes are gone when we are: they have a pipe from us as standard input, which ends even where we are
killed.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from crh_train import errors
from crh_train.cli.child_document import child_document
from crh_train.cli.lifeline import lifeline
from crh_train.errors import CrhTrainError, Interrupted, ProcessFailed
from crh_train.segments import Segment

GRACE_SECONDS = 3.0  # for a process to end in good order, before it is killed; it has nothing to lose but scratch


def replay_each(
    segments: Sequence[Segment], words: Sequence[str], scratch: Path, told: Callable[[Segment, bool], None]
) -> list[dict[str, Any]]:
    """What `crh-train replay` with `words` prints of each segment, in order, up to the first that differs; those after
    it are stopped. `told` hears of each that is done, and whether it is identical.

    Raises:
      CrhTrainError: a segment ended with an error, and those before it are identical.
      ProcessFailed: its process was killed, or crashed.
    """
    documents: dict[int, dict[str, Any]] = {}
    processes: list[subprocess.Popen[str]] = []
    environ = {**os.environ, "TMPDIR": str(scratch)}
    with ThreadPoolExecutor(len(segments)) as pool, lifeline() as stdin:
        try:
            for segment in segments:
                command = [
                    sys.executable,
                    "-m",
                    "crh_train",
                    "replay",
                    *words,
                    "--json",
                    "--segment",
                    *map(str, segment),
                ]
                processes.append(
                    subprocess.Popen(
                        command,
                        env=environ,
                        stdin=stdin,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                    )
                )
            running = {pool.submit(process.communicate): i for i, process in enumerate(processes)}
            ended = len(segments)  # the first one that is an error or differs, and ends the replay
            for done in as_completed(running):
                i = running[done]
                if i > ended:
                    continue
                output, said = done.result()
                sys.stderr.write(said)
                documents[i] = _document(segments[i], output, processes[i].returncode)
                if "error" not in documents[i]:
                    told(segments[i], documents[i]["identical"])
                if "error" in documents[i] or not documents[i]["identical"]:
                    ended = i
                    _stop(processes[i + 1 :])
        finally:
            _stop(processes)
    found = [documents[i] for i in sorted(documents) if i <= ended]
    if "error" in found[-1]:
        raise _error(found[-1])
    return found


def _stop(processes: Sequence[subprocess.Popen[str]]) -> None:
    try:
        for process in processes:
            process.terminate()
        until = time.monotonic() + GRACE_SECONDS
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
    finally:
        for process in processes:
            process.kill()


def _document(segment: Segment, output: str, returncode: int) -> dict[str, Any]:
    """The report of `segment`, or its error."""

    def told(how: str) -> str:
        return (
            f"the process that replayed {segment} {how}; the run itself was not touched: replay it again, "
            "with fewer --jobs if memory ran out"
        )

    return child_document(output, returncode, told, Interrupted.exit_code)


def _error(document: Mapping[str, Any]) -> CrhTrainError:
    kind: type[CrhTrainError] = getattr(errors, document["error"])
    if kind is ProcessFailed:
        return ProcessFailed(document["message"], document["exit_code"])
    return kind(document["message"])
