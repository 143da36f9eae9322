"""The real program on file systems that are too small: it says so, loses nothing, and goes on once there is room."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from faults.kills import undisturbed, words
from faults.program import acknowledged, differences, lost, make
from faults.row import Row, row

SIZES_KIB = (16, 64, 128, 256, 512, 1024, 2048, 3072, 4096, 5120)
ENOUGH = "64m"


def small_disks(scratch: Path) -> list[Row]:
    """One run on a tmpfs of each size, which is enlarged when the run has failed. Needs the right to mount."""
    fault = "tmpfs too small, then enlarged"
    scratch.mkdir(parents=True, exist_ok=True)
    probe = scratch / "probe"
    probe.mkdir()
    try:
        with _mounted(probe, "64k"):
            pass
    except subprocess.CalledProcessError as error:
        return [Row(fault, 0, 0, f"not possible here: {error.stderr.strip()}")]
    reference = undisturbed(scratch, "null")
    cases: list[list[str]] = []
    refused = 0
    for size in SIZES_KIB:
        program = make(scratch / f"disk-{size}", scratch)
        (program.folder / "runs").mkdir()
        with _mounted(program.folder / "runs", f"{size}k"):
            first = program.do("run", *words("null"))
            refused += first.returncode == 3
            problems = [*_said_so(first)]
            runs = program.runs()
            problems += lost(runs[0], acknowledged(first.stderr)) if runs else acknowledged(first.stderr)
            _mount("-o", f"remount,size={ENOUGH}", str(program.folder / "runs"))
            again = program.do(*program.next_words(words("null")))
            problems += [again.stderr] if again.returncode else differences(program.runs()[0], reference)
        cases.append([f"{size} KiB: {problem}" for problem in problems])
    return [row(fault, cases, f"{refused} ended with exit code 3 and went on later")]


def _said_so(done: subprocess.CompletedProcess[str]) -> Sequence[str]:
    lines = [line for line in done.stderr.splitlines() if not line.startswith("saved step ")]
    if done.returncode == 0:
        return []
    if done.returncode != 3 or len(lines) != 1 or "No space left on device" not in lines[0]:
        return [f"exit code {done.returncode}: {done.stderr}"]
    return []


@contextmanager
def _mounted(folder: Path, size: str) -> Iterator[None]:
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True, text=True)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
