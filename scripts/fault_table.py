"""Does the run store lose nothing and hide nothing? Tries it with every fault that `faults/` knows and prints a table:
the fault, how often it was tried, how often it was survived. The exit status is 0 if that is always, and 1 if not.

What survived means stands in each module: nothing that was acknowledged is lost, the run that is gone on with ends in
the bytes of an undisturbed one, and damage and seeded bugs are found.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from faults import clocks, damage, disk_faults, kills, power, races, seeded_bugs, small_disks
from faults.row import Row
from rich.console import Console
from rich.table import Table

Trial = Callable[[Path, int], Sequence[Row]]
"""A folder of its own, and how many processes at a time -> lines of the table."""

TRIALS: dict[str, Trial] = {
    "operations": lambda scratch, jobs: disk_faults.operations(),
    "recovery": lambda scratch, jobs: disk_faults.crash_pairs(),
    "power": lambda scratch, jobs: power.losses(),
    "seeded-bugs": lambda scratch, jobs: seeded_bugs.seeded_bugs(),
    "damage": lambda scratch, jobs: damage.damage(scratch, flips=2000),
    "kills": lambda scratch, jobs: kills.kills(500, jobs, scratch),
    "races": lambda scratch, jobs: races.races(50, scratch),
    "real-races": lambda scratch, jobs: races.real_races(5, scratch),
    "small-disks": lambda scratch, jobs: small_disks.small_disks(scratch),
    "clocks": lambda scratch, jobs: clocks.clocks(5, scratch),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", nargs="*", help=f"of: {', '.join(TRIALS)}; all if none is named")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at a time")
    given = parser.parse_args()
    if unknown := sorted({*given.trials} - {*TRIALS}):
        parser.error(f"no trial {', '.join(unknown)}; there are {', '.join(TRIALS)}")
    rows: list[Row] = []
    for name in given.trials or TRIALS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="crh-train-faults-") as scratch:
            rows += TRIALS[name](Path(scratch) / name, given.jobs)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    _print(rows)
    return 0 if all(row.tried == row.survived for row in rows) else 1


def _print(rows: Sequence[Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("fault", "tried", "survived", ""):
        table.add_column(name, justify="left" if name in ("fault", "") else "right")
    for row in rows:
        table.add_row(row.fault, str(row.tried), str(row.survived), row.note)
    Console(width=160).print(table)


if __name__ == "__main__":
    sys.exit(main())
