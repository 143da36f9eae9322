"""Loss of power at each moment of a session: whether a run survives what may be on disk afterwards.

`surviving.py` says what that is. A process that was killed before the power went has left what only memory held.
"""

import contextlib
import hashlib
import random
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from faults.disk_faults import WAYS
from faults.faulty_disk import KINDS, Disk, Killed, spread
from faults.laws import Undisturbed, damage_told, lost, undisturbed, unfinishable
from faults.row import Row, row
from faults.session import Way, go_on, operated_by, scratch
from faults.surviving import Moment, Recorder, State, least, states

SAMPLES = 6
"""Of the states of a moment, beside the extreme ones."""
RESUMES = 12
MOMENTS_OF_A_RESUME = 8
"""At these all of a moment's states are tried; at the others what was synced, and nothing more."""


class Recorded(NamedTuple):
    words: str
    expected: Undisturbed
    moments: Sequence[Moment]


def losses(limit: int | None = None, ways: Sequence[Way] = WAYS, seed: int = 0) -> list[Row]:
    """Loss of power in a run, in a resume after a kill, and in a resume after a loss of power; at `limit` moments of
    each session, and in as many resumes; None: at all of a run, and in some resumes."""
    return [losses_in_a_run(limit, ways, seed), *_losses_in_resumes(limit, ways, seed)]


def losses_in_a_run(limit: int | None = None, ways: Sequence[Way] = WAYS, seed: int = 0) -> Row:
    """Loss of power at `limit` moments of a run; None: at all."""
    with scratch() as base:
        return _row(base, "loss of power in a run", _runs(base, ways), limit, limit, random.Random(seed))


def losses_after_a_kill(kill_at: int, way: Way) -> Row:
    """Loss of power at each moment of the resume of a run that was killed at operation `kill_at`; what was synced is
    left, and nothing more."""
    with scratch() as base:
        session = Recorded("a resume", undisturbed(way), _moments(base, way, kill_at=kill_at))
        return _row(base, f"kill at operation {kill_at}, loss of power", [session], None, 0, random.Random(0))


def _losses_in_resumes(limit: int | None, ways: Sequence[Way], seed: int) -> Iterator[Row]:
    rng, thorough = random.Random(seed), limit or MOMENTS_OF_A_RESUME
    with scratch() as base:
        for words, resumes in (("a kill", _after_kills), ("a loss of power", _after_losses)):
            sessions = resumes(base, list(_runs(base, ways)), limit, rng)
            yield _row(base, f"loss of power in a resume after {words}", sessions, limit, thorough, rng)


def _runs(base: Path, ways: Sequence[Way]) -> Iterator[Recorded]:
    for way in ways:
        yield Recorded("a run", undisturbed(way), _moments(base, way))


def _after_kills(base: Path, runs: Sequence[Recorded], limit: int | None, rng: random.Random) -> Iterator[Recorded]:
    """Kills just before a folder is synced, when a name is there that is not durable, and some others."""
    for _, expected, moments in runs:
        if not expected.way.threaded:
            operations = [moment.operation for moment in moments]
            syncs = [number for number, name in enumerate(operations, 1) if name == "sync_folder"]
            others = rng.sample(range(1, len(operations)), limit or RESUMES)
            for at in sorted({*spread(syncs, limit), *others}):
                words = f"a resume after a kill at operation {at}, {operations[at - 1]}"
                yield Recorded(words, expected, _moments(base, expected.way, kill_at=at))


def _after_losses(base: Path, runs: Sequence[Recorded], limit: int | None, rng: random.Random) -> Iterator[Recorded]:
    for _, expected, moments in runs:
        for number in spread(range(len(moments)), limit or RESUMES):
            state = rng.choice(list(states(moments[number].root, SAMPLES, rng)))
            words = f"a resume after a loss of power before operation {number + 1}"
            yield Recorded(words, expected, _moments(base, expected.way, start=state))


def _moments(base: Path, way: Way, *, kill_at: int | None = None, start: State | None = None) -> list[Moment]:
    """Each moment of a session; of the one after, if it is killed at operation `kill_at`."""
    folder = base / "recorded"
    _materialise(folder, start or {})
    recorder = Recorder(folder)
    if kill_at is not None:
        with operated_by(recorder), operated_by(Disk(KINDS["kill"], kill_at)), contextlib.suppress(Killed):
            go_on(folder / "runs", way, recorder.tell)
    first = len(recorder.moments)
    with operated_by(recorder):
        go_on(folder / "runs", way, recorder.tell)
    recorder.now("the end")
    shutil.rmtree(folder)
    return recorder.moments[first:]


def _row(
    base: Path, fault: str, sessions: Iterable[Recorded], limit: int | None, thorough: int | None, rng: random.Random
) -> Row:
    """At `limit` moments of each session, at `thorough` of them with all their states."""
    cases: list[list[str]] = []
    seen, damaged = set[bytes](), 0
    for words, expected, moments in sessions:
        tried = spread(range(len(moments)), limit)
        all_states = {*spread(tried, thorough)}
        for number in tried:
            moment = moments[number]
            for state in states(moment.root, SAMPLES, rng) if number in all_states else [least(moment.root)]:
                if (digest := _digest(expected, moment, state)) not in seen:
                    seen.add(digest)
                    violations, told = _tried(base, expected, moment, state)
                    where = f"before {moment.operation} in {words}, {expected.way.words}"
                    cases.append([where, *violations] if violations else [])
                    damaged += told
    return row(fault, cases, f"different states; before resuming, verify called {damaged} damaged")


def _tried(base: Path, expected: Undisturbed, moment: Moment, state: State) -> tuple[list[str], bool]:
    """What is wrong after a loss of power that leaves `state`, and whether `verify` calls that damage."""
    folder = base / "left"
    _materialise(folder, state)
    runs = folder / "runs"
    told = bool(damage_told(runs))
    violations = [*lost(runs, moment.told, expected), *unfinishable(runs, expected)]
    shutil.rmtree(folder)
    return violations, told


def _digest(expected: Undisturbed, moment: Moment, state: State) -> bytes:
    """Equal where nothing can differ in what follows."""
    told = [each.name for each in moment.told]
    return hashlib.sha256(repr((expected.way, sorted(state.items()), told)).encode()).digest()


def _materialise(folder: Path, state: State) -> None:
    folder.mkdir()
    for name, content in sorted(state.items()):
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)
