"""What in a store of runs is not needed any more: what interrupted writes left, and checkpoints that may go.

The proof of a run (its documents, program, chronicle, reports, best and last checkpoint) always stays. A run that is
being written to, that is damaged, or that somebody signed, is left as it is: of a damaged run any checkpoint may be the
last good one, so a run is verified, whole, before it loses anything.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from crh_train import filesystem, retention
from crh_train.chronicle import LINES_NAME
from crh_train.errors import CorruptRun, InputError, RunBusy
from crh_train.run_folder import SIGNATURES_NAME, RunFolder, StoredCheckpoint, listed
from crh_train.run_store import RunStore
from crh_train.shape import misfit
from crh_train.verification import Verification, verify_held, verify_run

DAY = 86_400.0  # seconds


class Garbage(NamedTuple):
    """One thing that is not needed."""

    path: Path
    bytes: int
    reason: str


class Passed(NamedTuple):
    """A run that is left as it is, though it may hold what is not needed."""

    run: str
    reason: str


class Found(NamedTuple):
    garbage: Sequence[Garbage]
    passed: Sequence[Passed]


def find(store: RunStore, keep: int | None, now: float) -> Found:
    """What can be removed. Changes nothing.

    Args:
      keep: how many checkpoints stay of every run, at least two; None: all, but where the run's own retention period
        is over: there the best and the last.
      now: seconds since 1970. A run's age counts from its last chronicle line; one from the future is not old.
    """
    garbage, passed = list(_abandoned_folders(store)), []
    for folder in store.list():
        try:
            if folder.status == "running":
                passed.append(Passed(folder.name, "is being written to"))
            elif _signed(folder):
                passed.append(Passed(folder.name, "is signed"))
            else:
                garbage += _dispensable(folder, keep, now, verify_run)
        except InputError as error:
            passed.append(Passed(folder.name, f"is damaged: {error}"))
    return Found(garbage, passed)


def remove(store: RunStore, keep: int | None, now: float) -> Found:
    """Remove what `find` finds, each run's under its lock. Raises `StorageFailed`."""
    removed, passed = list(_abandoned_folders(store)), []
    for each in removed:
        filesystem.remove_folder(each.path)
    for folder in store.list():
        try:
            with folder.lock():
                if _signed(folder):
                    passed.append(Passed(folder.name, "is signed"))
                else:
                    removed += _removed(folder, keep, now)
        except RunBusy:
            passed.append(Passed(folder.name, "is being written to"))
        except InputError as error:
            passed.append(Passed(folder.name, f"is damaged: {error}"))
    return Found(removed, passed)


def _signed(folder: RunFolder) -> bool:
    return (folder.path / SIGNATURES_NAME).exists()


def _removed(folder: RunFolder, keep: int | None, now: float) -> list[Garbage]:
    found = _dispensable(folder, keep, now, verify_held)
    names = {stored.path: stored.name for stored in folder.checkpoints()}
    for each in found:
        if each.path not in names:
            filesystem.remove(each.path)
    folder.remove_checkpoints([names[each.path] for each in found if each.path in names])
    return found


def _dispensable(
    folder: RunFolder, keep: int | None, now: float, verify: Callable[[RunFolder], Verification]
) -> list[Garbage]:
    """What of a run can be removed. Raises `CorruptRun` where that is something, and the run is damaged."""
    found = [*_unfinished_writes(folder), *_checkpoints(folder, keep, now)]
    damage = [each for each in verify(folder).findings if each.severity == "damage"] if found else []
    if damage:
        raise CorruptRun(
            f"{damage[0].place}: {damage[0].message}; `crh-train verify {folder.argument}` lists all that is wrong"
        )
    return found


def _abandoned_folders(store: RunStore) -> Iterator[Garbage]:
    for path in store.unfinished():
        if filesystem.abandoned(path):
            size = sum(file.lstat().st_size for file in path.rglob("*"))
            yield Garbage(path, size, "a run that was not finished being made")


def _unfinished_writes(folder: RunFolder) -> Iterator[Garbage]:
    for inside in (folder.path, folder.path / "checkpoints", folder.path / "reports"):
        for name in listed(inside):
            if name.startswith(filesystem.TEMPORARY_PREFIX):
                yield Garbage(inside / name, (inside / name).lstat().st_size, "a write that was not finished")


def _checkpoints(folder: RunFolder, keep: int | None, now: float) -> list[Garbage]:
    wanted, reason = _wanted(folder, keep, now)
    if wanted is None:
        return []
    stored = {each.name: each for each in folder.checkpoints()}
    scored = retention.scores(folder.chronicle(), {name.step for name in stored})
    return [_garbage(stored[name], reason) for name in retention.surplus([*stored], scored, wanted)]


def _wanted(folder: RunFolder, keep: int | None, now: float) -> tuple[int | None, str]:
    """How many checkpoints stay, or None for all, and why."""
    if keep is not None:
        return keep, f"neither the best nor among the newest of {keep}"
    runtime = folder.sessions()[-1]["runtime"]
    if (message := misfit(runtime, {"retention_days": object, ...: object})) is not None:
        raise CorruptRun(f"{folder.path / 'environment.json'}: {message}")
    days = runtime["retention_days"]
    if not (days is None or type(days) in (int, float)):
        raise CorruptRun(f"{folder.path / 'environment.json'}: expected days of retention, found {days!r:.80}")
    age = (now - (folder.path / LINES_NAME).stat().st_mtime) / DAY
    if days is None or age < days:
        return None, ""
    return retention.SMALLEST_KEEP, f"neither the best nor the last, and older than runtime.retention_days={days:g}"


def _garbage(stored: StoredCheckpoint, reason: str) -> Garbage:
    return Garbage(stored.path, stored.path.stat().st_size, reason)
