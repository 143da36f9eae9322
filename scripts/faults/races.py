"""Several writers of one run at the same instant: one writes, and the others are told which process that is."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from crh_train.run_store import RunStore
from crh_train.verification import verify_run
from faults.kills import undisturbed, words
from faults.program import differences, make
from faults.row import Row, row

WRITERS = 4
_WRITER = Path(__file__).with_name("writer.py")


def races(count: int, scratch: Path) -> list[Row]:
    """`count` races of `WRITERS` processes that use the store alone, without JAX."""
    note = f"of {WRITERS} processes one wrote at a time, the others were told which"
    return [row("several writers at once", [_race(scratch / f"race-{number}") for number in range(count)], note)]


def real_races(count: int, scratch: Path) -> list[Row]:
    """The same with two real programs."""
    reference = undisturbed(scratch, "null")
    cases: list[list[str]] = []
    for number in range(count):
        program = make(scratch / f"real-race-{number}", scratch)
        both = [program.start("run", *words("null")) for _ in range(2)]
        said = [process.communicate() for process in both]
        codes = sorted(process.returncode for process in both)
        errors = "".join(err for _, err in said)
        named = any(f"process {process.pid} on" in errors or "exists already" in errors for process in both)
        problems = [] if codes == [0, 0] or (codes == [0, 2] and named) else [f"exit codes {codes}: {errors}"]
        cases.append([*problems, *differences(program.runs()[0], reference)])
    return [row("two real programs at once", cases, "one trained, the other was told so")]


def _race(folder: Path) -> Sequence[str]:
    folder.mkdir(parents=True)
    start = time.time() + 0.8  # all of them are up by then
    processes = [
        subprocess.Popen(
            [sys.executable, str(_WRITER), str(folder / "runs"), str(start)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(WRITERS)
    ]
    said = [process.communicate(timeout=60) for process in processes]
    codes = [process.returncode for process in processes]
    wrote = [process.pid for process, code in zip(processes, codes, strict=True) if code == 0]
    problems = [err for (_, err), code in zip(said, codes, strict=True) if code not in (0, 2)]
    for (_, err), code in zip(said, codes, strict=True):
        if code == 2 and not any(f"process {pid} on " in err for pid in wrote):
            problems.append(f"refused without naming the writer: {err}")
    (run,) = RunStore(folder / "runs").list()
    if not wrote or not verify_run(run).ok or len(run.chronicle()) != 2 * len(wrote):
        problems.append(f"{len(wrote)} writers, {len(run.chronicle())} lines; verify: {verify_run(run).findings}")
    return problems
