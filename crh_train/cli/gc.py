"""`crh-train gc`: remove what is not needed any more."""

import time
from pathlib import Path
from typing import Annotated

import typer

from crh_train.cli.output import JsonOption, RunsOption, command, emit, following, say, store_at


@command
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    keep: Annotated[
        int | None, typer.Option(min=2, help="Checkpoints that stay of every run: the best and the newest.")
    ] = None,
    runs: RunsOption = Path("runs"),
    json_output: JsonOption = False,
) -> None:
    """Remove what interrupted writes left, and checkpoints that may go.

    Of a run whose `runtime.retention_days` are over, the best and the last checkpoint stay; with `--keep`, so many of
    every run. Documents, program, chronicle and reports always stay, and so does all of a run that is running, damaged
    or signed.
    """
    from crh_train import filesystem, garbage
    from crh_train.run_folder import runs_option

    with filesystem.advising("what is gone is written down; see to the disk, then give the command again"):
        found = (garbage.find if dry_run else garbage.remove)(store_at(runs), keep, time.time())
    total = sum(each.bytes for each in found.garbage)
    if json_output:
        listed = [{**each._asdict(), "path": str(each.path)} for each in found.garbage]
        passed = [each._asdict() for each in found.passed]
        emit({"removed": [] if dry_run else listed, "would_remove": listed if dry_run else [], "passed": passed})
        return
    groups: dict[tuple[Path, str], list[int]] = {}
    for each in found.garbage:
        groups.setdefault((each.path.parent, each.reason), []).append(each.bytes)
    for (folder, reason), sizes in groups.items():
        say(f"{folder}  {len(sizes)} of {_size(sum(sizes))}: {reason}")
    for left in found.passed:
        say(f"left: run {left.run} {left.reason}")
    say(f"{'would remove' if dry_run else 'removed'} {len(found.garbage)} files and folders, {_size(total)}")
    at = runs_option(runs)
    wish = "" if keep is None else f" --keep {keep}"
    following(f"crh-train gc{wish}{at}" if dry_run and found.garbage else f"crh-train list{at}")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
