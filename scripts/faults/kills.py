"""SIGKILL at random instants of the real program's life, again and again, until each run is finished all the same."""

import random
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from crh_train.run_store import RunFolder
from faults.program import CONFIGURATION, Program, acknowledged, differences, lost, make
from faults.row import Row, row

EPOCHS = 40
_EARLY = 0.2  # of the kills come before anything is saved: while it starts, recovers, or makes the run
_EARLY_SECONDS = 5.0
_LATE_SECONDS = 0.6  # after the first checkpoint of this life
KEEPS = ("null", "3")


class Life(NamedTuple):
    killed: bool
    saved: int  # checkpoints that were acknowledged
    problems: Sequence[str]


def kills(count: int, jobs: int, scratch: Path, seed: int = 0) -> list[Row]:
    """Kill the program at least `count` times, `jobs` runs at a time, each in a folder of its own below `scratch`."""
    references = {keep: undisturbed(scratch, keep) for keep in KEEPS}
    done: list[Life] = []

    def finish(number: int) -> None:
        if sum(life.killed for life in done) < count:
            keep = KEEPS[number % len(KEEPS)]
            program = make(scratch / f"killed-{number}", scratch)
            done.extend(until_finished(program, keep, references[keep], random.Random(f"{seed} {number}")))
            shutil.rmtree(program.folder)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(finish, range(count)))
    saved, finished = sum(life.saved for life in done), [life for life in done if not life.killed]
    note = f"{saved} acknowledged checkpoints, none lost"
    return [
        row("SIGKILL of the real program", [life.problems for life in done if life.killed], note),
        row("  and the finished run is as undisturbed", [life.problems for life in finished], ""),
    ]


def undisturbed(scratch: Path, keep: str) -> RunFolder:
    program = make(scratch / f"undisturbed-{keep}", scratch)
    done = program.do("run", *words(keep))
    assert done.returncode == 0, done.stderr
    return program.runs()[0]


def words(keep: str) -> list[str]:
    return [*CONFIGURATION, f"engine.epochs={EPOCHS}", f"runtime.keep={keep}"]


def until_finished(program: Program, keep: str, reference: RunFolder, random_: random.Random) -> list[Life]:
    """Start, kill, resume, kill …, until the run is finished."""
    lives: list[Life] = []
    names: list[str] = []
    while True:
        life, said = _life(program, keep, random_)
        names += said
        runs = program.runs()
        problems = [*life.problems, *(lost(runs[0], names) if runs else names)]
        if not life.killed and not problems:
            problems = differences(runs[0], reference)
        lives.append(life._replace(problems=problems))
        if not life.killed or problems:
            return lives


def _life(program: Program, keep: str, random_: random.Random) -> tuple[Life, list[str]]:
    early = random_.random() < _EARLY
    pause = random_.uniform(0, _EARLY_SECONDS if early else _LATE_SECONDS)
    with program.start(*program.next_words(words(keep))) as process:
        assert process.stderr is not None
        first = "" if early else process.stderr.readline()
        time.sleep(pause)
        process.kill()
        _, err = process.communicate()
    said = acknowledged(first + err)
    ended = process.returncode == 0
    problems = [] if ended or process.returncode == -9 else [f"it ended with {process.returncode}: {first}{err}"]
    return Life(process.returncode == -9, len(said), problems), said
