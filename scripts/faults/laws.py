"""What must hold after any fault: nothing that was acknowledged is lost, and the run that is gone on with ends in the
bytes of an undisturbed one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from crh_train import checkpoint
from crh_train.checkpoint_header import CheckpointName
from crh_train.chronicle import TAIL_NAME
from crh_train.chronicle_audit import audit, read_tail
from crh_train.errors import CrhTrainError
from crh_train.findings import Finding
from crh_train.run_folder import DAMAGED_SUFFIX, RunFolder
from crh_train.verification import verify_run
from faults.session import NAME, Told, Way, go_on, scratch

_OF_THE_SESSIONS = ("environment.json", ".lock", TAIL_NAME)


class Undisturbed(NamedTuple):
    """What a run is to be in the end."""

    way: Way
    files: Mapping[str, bytes]
    lines: Sequence[object]  # the chronicle's records
    removed: frozenset[CheckpointName]


def undisturbed(way: Way) -> Undisturbed:
    with scratch() as base:
        go_on(base, way, lambda name: None)
        folder = RunFolder(base / NAME)
        return Undisturbed(way, _files(folder), folder.chronicle(), frozenset(folder.removed()))


def damage_told(runs: Path, damaged: str | None = None) -> list[str]:
    """What `verify` calls damage, but of the file `damaged`, which really is. A crash is to leave notes only."""
    folder = RunFolder(runs / NAME)
    findings = verify_run(folder).findings if folder.path.exists() else ()
    return [_words(each) for each in findings if each.severity == "damage" and each.place != damaged]


def lost(runs: Path, told: Sequence[Told], expected: Undisturbed) -> list[str]:
    """What was acknowledged and is not there, whole, with its part of the chronicle; but for what an undisturbed run
    removes too, if it is written down."""
    saved = sorted(each.name for each in told if each.name is not None)
    finished = any(each.name is None for each in told)
    folder = RunFolder(runs / NAME)
    if not folder.path.exists():
        return [f"the run is gone with {len(saved)} acknowledged checkpoints"] if told else []
    violations = ["acknowledged as finished, and is not"] if finished and not folder.finished else []
    if not saved:
        return violations
    try:
        audited, removed = audit(folder.path, folder.run_hash), expected.removed & {*folder.removed()}
        for name in saved:
            path = folder.path / "checkpoints" / name.text
            if not path.exists() and name in removed and any(stored.name > name for stored in folder.checkpoints()):
                continue
            violations += [
                f"step {name.step} is lost: {problem}"
                for problem in folder.disagreements(checkpoint.read(path), audited)
            ]
    except CrhTrainError as error:
        violations.append(f"an acknowledged checkpoint cannot be read: {error}")
    return violations


def unfinishable(runs: Path, expected: Undisturbed, damaged: str | None = None) -> list[str]:
    """Go on to the end; in what that differs from an undisturbed run. Only the file `damaged` may be set aside."""
    folder = RunFolder(runs / NAME)
    try:
        go_on(runs, expected.way, lambda name: None)
        found, lines, tail = _files(folder), folder.chronicle(), read_tail(folder.path)
        sessions, verified = folder.sessions(), verify_run(folder)
    except Exception as error:  # whatever it is, the user cannot go on
        return [f"cannot go on: {type(error).__name__}: {error}"]
    aside = f"{damaged}{DAMAGED_SUFFIX}"
    found.pop(aside, None)
    violations = [f"{name} is missing" for name in sorted(expected.files.keys() - found.keys())]
    for name, data in found.items():
        if name not in expected.files:
            violations.append(f"{name} is too many")
        elif data != expected.files[name]:
            violations.append(f"{name} has other bytes")
    if any(logged not in lines for logged in tail):
        violations.append(f"{TAIL_NAME} holds other lines")
    if sessions[0]["first_step"] != 0:
        violations.append("environment.json lost its first session")
    if verified.status != "finished":
        violations.append(f"the run is {verified.status}")
    return violations + [_words(each) for each in verified.findings if each.place != aside]


def _words(finding: Finding) -> str:
    return f"verify: {finding.place}: {finding.message}"


def _files(folder: RunFolder) -> dict[str, bytes]:
    paths = {str(path.relative_to(folder.path)): path for path in sorted(folder.path.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in paths.items() if name not in _OF_THE_SESSIONS}
