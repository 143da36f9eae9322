"""Clocks that jump: the wall clock by years at every look, the monotonic one between sessions, as after a reboot, and
the files' times.
"""

import os
import random
from pathlib import Path

from faults.kills import undisturbed, words
from faults.program import differences, make
from faults.row import Row, row

_DRIVER = Path(__file__).with_name("jumping_clock.py")
_YEARS = 30 * 365.25 * 86_400  # seconds
LIVES = 5


def clocks(count: int, scratch: Path) -> list[Row]:
    """`count` runs, each stopped some times by SIGTERM and resumed under other clocks."""
    reference = undisturbed(scratch, "null")
    cases: list[list[str]] = []
    for number in range(count):
        random_ = random.Random(number)
        program = make(scratch / f"clock-{number}", scratch)
        problems: list[str] = []
        for life in range(LIVES):
            begin = str(random_.uniform(1.0, 1e8))
            with program.start(*program.next_words(words("null")), driver=(str(_DRIVER), begin, str(life))) as process:
                assert process.stderr is not None
                process.stderr.readline()
                if life < LIVES - 1:
                    process.terminate()
                _, err = process.communicate()
            if process.returncode not in (0, 130):
                problems.append(f"ended with {process.returncode}: {err}")
            for path in program.runs()[0].path.rglob("*"):
                moment = random_.uniform(0, 2 * _YEARS)
                os.utime(path, (moment, moment))
        # A checkpoint saved on SIGTERM amid an epoch is one more than an undisturbed run has.
        cases.append([*problems, *_same_end(differences(program.runs()[0], reference))])
    note = f"{LIVES} sessions each; timestamps never run backwards, and the end is that of an undisturbed run"
    return [row("clocks that jump", cases, note)]


def _same_end(found: list[str]) -> list[str]:
    return [line for line in found if not line.startswith("checkpoints/")]
