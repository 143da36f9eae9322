"""A fault at every operation that changes something on disk, and crashes while a run is recovering from one."""

import itertools
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from crh_train.errors import StorageFailed
from crh_train.run_folder import RunFolder
from faults.faulty_disk import KINDS, Disk, Killed, Kind, session, spread
from faults.laws import Undisturbed, damage_told, lost, undisturbed, unfinishable
from faults.row import Row, row
from faults.session import NAME, Told, Way, scratch

WAYS = (Way(), Way(keep=2), Way(keep=2, threaded=True))
_AFTER_A_REFUSAL = {"unlink", "remove_folder", "write"}
"""What may still be done: unfinished files go, and the chronicle's waiting lines are handed over. Never a sync, nor
anything that gives a name."""


class Scenario(NamedTuple):
    """A session, each operation of which is tried."""

    words: str
    expected: Undisturbed
    start: Path | None = None  # what is on disk before it; None: nothing
    told: Sequence[Told] = ()  # what was acknowledged before it
    damaged: str | None = None  # the file in the run's folder that the disk damaged

    def begin(self, runs: Path) -> None:
        """Put in the new folder `runs` what is on disk before the session."""
        if self.start is None:
            runs.mkdir()
        else:
            shutil.copytree(self.start, runs)


def operations(kinds: Sequence[str] = tuple(KINDS), limit: int | None = None, ways: Sequence[Way] = WAYS) -> list[Row]:
    """Each of `kinds` at each operation of a run, and of a resume after a kill that left a torn chronicle and an
    unfinished checkpoint; at `limit` operations, picked at random, of each session. One row a kind."""
    with scratch() as base:
        scenarios = []
        for number, expected in enumerate(undisturbed(way) for way in ways):
            at = _numbers_of(_log(expected.way), "write_at")[-1]  # where the last checkpoint gets its header
            scenarios.append(Scenario(f"a run, {expected.way.words}", expected))
            scenarios.append(_stopped(base / f"stopped-{number}", expected, "half-write + kill", at))
        return [_row(base, f"{kind} at an operation", scenarios, (kind,), limit) for kind in kinds]


def crash_pairs(
    limit: int | None = None,
    ways: Sequence[Way] = WAYS[:2],
    first_crashes: Sequence[str] = ("kill", "half-write", "removal", "damage"),
) -> list[Row]:
    """A kill at each operation of a resume, and then a second resume; at `limit` operations of each. One row a kind of
    first crash, of which there are several in a run of each of `ways`."""
    kinds = {
        "kill": ("a kill", _kills),
        "half-write": ("half a write", _half_writes),
        "removal": ("a kill while checkpoints are removed", _kills_while_removing),
        "damage": ("damage to the newest checkpoint", _damages),
    }
    rows = []
    for name in first_crashes:
        words, scenarios_of = kinds[name]
        with scratch() as base:
            scenarios = list(scenarios_of(base, [undisturbed(way) for way in ways]))
            fault = f"kill while resuming after {words}"
            rows.append(_row(base, fault, scenarios, ("kill", "half-write + kill"), limit))
    return rows


def _row(base: Path, fault: str, scenarios: Sequence[Scenario], kinds: Sequence[str], limit: int | None) -> Row:
    rng = random.Random(fault)
    cases = []
    for scenario, kind in itertools.product(scenarios, kinds):
        numbers = _operations_of(base, scenario, KINDS[kind])
        some = numbers if limit is None else sorted(rng.sample(numbers, min(limit, len(numbers))))
        cases += [tried(base, scenario, kind, at) for at in some]
    return row(fault, cases, f"in {len(scenarios)} sessions")


def tried(base: Path, scenario: Scenario, kind: str, at: int) -> list[str]:
    """What was wrong after `kind` at operation `at`; `base` is a folder to work in."""
    runs, disk = base / "runs", Disk(KINDS[kind], at)
    scenario.begin(runs)
    error = session(runs, scenario.expected.way, disk)
    violations = [
        *_refusal_violations(disk, error, scenario.expected.way),
        *damage_told(runs, scenario.damaged),
        *lost(runs, [*scenario.told, *disk.told], scenario.expected),
        *unfinishable(runs, scenario.expected, scenario.damaged),
    ]
    shutil.rmtree(runs)
    return [f"{kind} at operation {at}, {disk.log[at - 1]}, of {scenario.words}", *violations] if violations else []


def _refusal_violations(disk: Disk, error: BaseException | None, way: Way) -> list[str]:
    """What is wrong with how a session ended."""
    assert disk.kind is not None
    if disk.kind.error is None:
        return [] if error is None else [f"failed: {error!r}"]
    expected = StorageFailed if disk.kind.error else Killed
    violations = [] if isinstance(error, expected) else [f"expected {expected.__name__}, got {error!r}"]
    if way.threaded:
        return violations  # the other thread does not know yet
    if any(told.operations > disk.done_before for told in disk.told):
        violations.append("something was acknowledged after the refusal")
    after = {*disk.log[disk.done_before + 1 :]} - _AFTER_A_REFUSAL
    if disk.kind.error and after:
        violations.append(f"after the refusal came {', '.join(sorted(after))}")
    return violations


# --- sessions to try -----------------------------------------------------------------------------------------------


def _log(way: Way) -> list[str]:
    """The operations of an undisturbed run."""
    disk = Disk()
    with scratch() as runs:
        session(runs, way._replace(threaded=False), disk)
    return disk.log


def _numbers_of(log: Sequence[str], *names: str) -> list[int]:
    return [number for number, name in enumerate(log, 1) if name in names]


def _operations_of(base: Path, scenario: Scenario, kind: Kind) -> list[int]:
    """The operations of a session at which `kind` can happen."""
    runs, disk = base / "counted", Disk()
    scenario.begin(runs)
    session(runs, scenario.expected.way, disk)
    shutil.rmtree(runs)
    return [number for number, name in enumerate(disk.log, 1) if kind.fits(name)]


def _stopped(folder: Path, expected: Undisturbed, kind: str, at: int) -> Scenario:
    """The resume of a run that `kind` stopped at operation `at`, in the new folder `folder`."""
    folder.mkdir()
    disk = Disk(KINDS[kind], at)
    session(folder, expected.way._replace(threaded=False), disk)
    words = f"a resume after {kind} at operation {at}, {disk.log[at - 1]}, {expected.way.words}"
    return Scenario(words, expected, folder, tuple(disk.told))


def _all_stopped(
    base: Path, ends: Sequence[Undisturbed], kind: str, where: Callable[[Sequence[str]], Sequence[int]]
) -> Iterator[Scenario]:
    names = itertools.count()
    for expected in ends:
        for at in where(_log(expected.way)):
            yield _stopped(base / f"stopped-{next(names)}", expected, kind, at)


def _kills(base: Path, ends: Sequence[Undisturbed]) -> Iterator[Scenario]:
    """From the making of the run's folder on."""
    return _all_stopped(base, ends, "kill", lambda log: spread(range(50, len(log) + 1), 12))


def _half_writes(base: Path, ends: Sequence[Undisturbed]) -> Iterator[Scenario]:
    """Torn chronicles, checkpoints and reports."""
    return _all_stopped(base, ends, "half-write + kill", lambda log: _numbers_of(log, "write", "write_at")[-28::4])


def _kills_while_removing(base: Path, ends: Sequence[Undisturbed]) -> Iterator[Scenario]:
    """From the last checkpoint's name on, past `removed.json` and the checkpoint that goes."""
    keeping = [expected for expected in ends if expected.way.keep is not None]
    return _all_stopped(base, keeping, "kill", lambda log: range(_numbers_of(log, "link")[-1], len(log) - 15))


def _damages(base: Path, ends: Sequence[Undisturbed]) -> Iterator[Scenario]:
    """Of the newest checkpoint, which only its payload's SHA-256 shows, before and after others were removed."""
    for scenario in _all_stopped(base, ends, "kill", lambda log: [len(log) - 20, len(log) - 14]):
        assert scenario.start is not None
        *others, newest = RunFolder(scenario.start / NAME).checkpoints()
        data = bytearray(newest.path.read_bytes())
        data[-100] ^= 1
        newest.path.write_bytes(data)
        told = [told for told in scenario.told if told.name in {stored.name for stored in others}]
        yield scenario._replace(
            words=f"{scenario.words}, its newest checkpoint damaged",
            told=told,
            damaged=f"checkpoints/{newest.name.text}",
        )
