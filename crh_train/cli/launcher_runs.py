"""The runs of a sweep through a Hydra launcher, which may have processes of its own, or nodes of a cluster.

The launcher is called in a process apart (`launcher_task.py`), in a session of its own, where no Ctrl-C but the sweep's
word reaches it. Sweep and runs speak through files in a folder, which a cluster's nodes share:

    works.json     what is to be done
    stop           the runs shall save and end; that the folder is gone says the same
    kill           they shall end at once
    begun-N        run N was begun; locked while its process lives
    ended-N.json   and what it printed
    problem        why the launcher ended without having done all

Each launch has a folder of its own. A run that is begun late, by a queue that outlived its sweep, finds it gone or to
be stopped, and does nothing.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from crh_train import filesystem, run_lock
from crh_train.cli.child_run import KILL, POLL_SECONDS, STOP, Work
from crh_train.cli.lifeline import lifeline
from crh_train.cli.parallel_runs import Event
from crh_train.errors import ProcessFailed
from crh_train.ledger import Place

GRACE_SECONDS = 5.0  # for the launcher to end, once no run is left that it could be waiting for
_LAUNCH = "launch-"  # and what no other launch ever had: a queue may begin an old one's runs late


def through_launcher(
    works: Sequence[Work], name: str, options: Sequence[str], place: Place, asked: Callable[[], int]
) -> Generator[Event]:
    """As `in_parallel`. A launcher that fails is called again for what it had not begun, unless it began nothing."""
    left = list(works)
    while True:
        folder = place.launcher / f"{_LAUNCH}{time.time_ns()}-{os.getpid()}"
        filesystem.make_folders(folder)
        begun: set[int] = set()
        for event in _launch(left, name, options, place, folder, asked):
            begun.add(event.number)
            yield event
        problem = _why(folder)
        filesystem.remove_folder(folder)
        left = [work for work in left if work.number not in begun]
        if not left or asked():
            return
        if not begun:
            for work in left:
                yield Event(work.number, _failure(f"launcher {name} did not begin it: {problem}"))
            return


def stop_all(place: Place) -> None:
    """Let what an earlier start of the sweep launched save and end."""
    for folder in _launches(place):
        filesystem.write_over(folder / "stop", b"")


def forget_all(place: Place) -> None:
    """Remove what sweep and runs said to one another in earlier launches, of which none runs any more."""
    for folder in _launches(place):
        filesystem.remove_folder(folder)


def _launches(place: Place) -> list[Path]:
    return sorted(place.launcher.glob(f"{_LAUNCH}*"))


def _launch(
    works: Sequence[Work], name: str, options: Sequence[str], place: Place, folder: Path, asked: Callable[[], int]
) -> Generator[Event]:
    listed = [{**work._asdict(), "environ": dict(work.environ)} for work in works]
    document = {"works": listed, "workers": str(place.workers.absolute())}
    filesystem.write_over(folder / "works.json", json.dumps(document).encode())
    command = [sys.executable, "-m", "crh_train.cli.launcher_task", str(folder.absolute()), name, *options]
    with lifeline() as stdin, subprocess.Popen(command, stdin=stdin, stdout=2, start_new_session=True) as process:
        try:
            yield from _events({work.number for work in works}, folder, process, asked)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS if asked() else None)
        except BaseException:
            filesystem.write_over(folder / "stop", b"")
            raise
        finally:
            process.kill()  # what it may still wait for does nothing once a queue begins it


def _events(
    waiting: set[int], folder: Path, process: subprocess.Popen[bytes], asked: Callable[[], int]
) -> Generator[Event]:
    """Until nothing runs that was begun, and nothing is begun any more."""
    running: set[int] = set()
    while True:
        time.sleep(POLL_SECONDS)
        over = process.poll() is not None  # asked first: what was begun before it must be seen below
        for level, file in ((STOP, "stop"), (KILL, "kill")):
            if asked() >= level and not (folder / file).exists():
                filesystem.write_over(folder / file, b"")
        for number in sorted(waiting):
            if _said(folder / f"begun-{number}"):
                waiting.discard(number)
                running.add(number)
                yield Event(number, None)
        for number in sorted(running):
            gone = over and not run_lock.is_locked(folder / f"begun-{number}")  # asked first, for the same reason
            if (ended := folder / f"ended-{number}.json").exists():
                running.discard(number)
                yield Event(number, json.loads(ended.read_bytes()))
            elif gone:
                running.discard(number)
                yield Event(number, _failure(f"its process was ended; what it had saved is kept ({_why(folder)})"))
        if not running and (over or not waiting or asked()):
            return


def _why(folder: Path) -> str:
    return _said(folder / "problem") or "the launcher says nothing of it"


def _said(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _failure(message: str) -> dict[str, Any]:
    return {"error": ProcessFailed.__name__, "message": message, "exit_code": 1}
