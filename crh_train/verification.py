"""Checks what is on disk against everything that it states about itself: a checkpoint alone, or a whole run.

Reads only, prints nothing, and does not train: that the recorded numbers are what training gives, a replay shows. A
rewrite of a whole run with every hash recomputed is consistent, and is caught only by a hash kept elsewhere: compare
the run hash, the newest checkpoint's hash and the chronicle's head with the ones that `crh-train run` printed.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from crh_train import checkpoint
from crh_train.checkpoint_header import CheckpointName, parse_name
from crh_train.chronicle import CHAIN_NAME, LINES_NAME, TAIL_NAME, ChronicleAudit, audit
from crh_train.digest import digest_bytes
from crh_train.errors import CorruptCheckpoint, CorruptChronicle, CorruptRun, InputError
from crh_train.filesystem import TEMPORARY_PREFIX, read_regular
from crh_train.run_folder import (
    DAMAGED_SUFFIX,
    MAX_DOCUMENT_BYTES,
    SUMS_NAME,
    RunFolder,
    StoredCheckpoint,
    listed,
    program_path,
)

_DOCUMENTS = ("run.json", "config.json", "manifest.json", "environment.json", "program.json")
_KNOWN = {*_DOCUMENTS, LINES_NAME, CHAIN_NAME, TAIL_NAME, "checkpoints", "program", "reports", ".lock"}
_STRANGER = "no part of a run; nothing reads it"
_SUM_LINE = re.compile(r"([0-9a-f]{64})  ([^/\0]+)", re.ASCII)


@dataclass(frozen=True)
class Finding:
    """One thing worth telling. `damage` means that the files are not what was written; `note` does not."""

    severity: str  # damage or note
    place: str  # the file, relative to what is verified
    message: str


@dataclass(frozen=True)
class Verification:
    """What was checked, what is wrong, and what can be trusted all the same."""

    subject: str  # the path
    status: str  # checkpoint, finished, unfinished or running
    findings: Sequence[Finding]
    run_hash: str | None  # None: run.json cannot be trusted
    checkpoints_checked: int
    program_files_checked: int
    reports_checked: int
    newest_good_checkpoint: str | None  # file name
    newest_good_hash: str | None
    last_good_line: int | None  # of the chronicle; None: not looked at
    chronicle_head: str | None  # after that line

    @property
    def ok(self) -> bool:
        return all(finding.severity != "damage" for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**dataclasses.asdict(self), "findings": [dataclasses.asdict(f) for f in self.findings], "ok": self.ok}


def verify_checkpoint(path: Path) -> Verification:
    """Check one checkpoint: every byte, its hash, and the identity of the run in whose folder it stands, if it does."""
    findings: list[Finding] = []
    found = None
    try:
        found = checkpoint.read(path)
        run_path = path.absolute().parent.parent
        if path.absolute().parent.name == "checkpoints" and (run_path / "run.json").exists():
            findings += _damaged(path.name, RunFolder(run_path).identity_disagreements(found))
    except InputError as error:
        findings += _damaged(path.name, [str(error)])
    name = parse_name(path.name) if found is not None and not findings else None
    return Verification(
        subject=str(path),
        status="checkpoint",
        findings=findings,
        run_hash=None if found is None else found.run_hash,
        checkpoints_checked=1,
        program_files_checked=0,
        reports_checked=0,
        newest_good_checkpoint=None if name is None else name.text,
        newest_good_hash=None if name is None else name.hash,
        last_good_line=None,
        chronicle_head=None,
    )


def verify_run(folder: RunFolder) -> Verification:
    """Check all files of a run, each against its hash and all against one another."""
    status = folder.status
    findings = _documents(folder)
    program, program_files_checked = _program(folder)
    findings += program
    run_hash = None if any(finding.place == "run.json" for finding in findings) else folder.run_hash
    stored: Sequence[StoredCheckpoint] = []
    good: list[CheckpointName] = []
    audited = None
    try:
        findings += _strangers(folder)
        stored = folder.checkpoints()
        # After the checkpoints are listed: what a running process adds meanwhile can only be more lines.
        audited = None if run_hash is None else audit(folder.path, run_hash)
    except CorruptChronicle as error:
        findings += _damaged(LINES_NAME, [str(error)])
    except CorruptRun as error:
        findings += _damaged(".", [str(error)])
    if audited is not None:
        findings += _chronicle(audited, stored, status)
        checked, good = _checkpoints(folder, stored, audited)
        findings += checked
    reports, reports_checked = _reports(folder) if status == "finished" else ([], 0)
    return Verification(
        subject=str(folder.path),
        status=status,
        findings=[*findings, *reports],
        run_hash=run_hash,
        checkpoints_checked=0 if audited is None else len(stored),
        program_files_checked=program_files_checked,
        reports_checked=reports_checked,
        newest_good_checkpoint=good[-1].text if good else None,
        newest_good_hash=good[-1].hash if good else None,
        last_good_line=None if audited is None else audited.good.records,
        chronicle_head=None if audited is None else audited.good.head,
    )


def _damaged(place: str, messages: Sequence[str]) -> list[Finding]:
    return [Finding("damage", place, message) for message in messages]


def _documents(folder: RunFolder) -> list[Finding]:
    """The hashes of four JSON files. Those of config.json and manifest.json stand in run.json."""
    checks: dict[str, Callable[[], object]] = {"run.json": folder.run_document, "environment.json": folder.sessions}
    findings = _failures(checks)
    if not any(finding.place == "run.json" for finding in findings):
        findings += _failures({"config.json": folder.config_document, "manifest.json": folder.manifest})
    return findings


def _program(folder: RunFolder) -> tuple[list[Finding], int]:
    """The archived functions and program.json, whose hash stands in environment.json, and the number of functions."""
    try:
        sessions, present = folder.sessions(), [f"program/{name}" for name in listed(folder.path / "program")]
    except CorruptRun as error:
        # What is wrong with environment.json is told of it already.
        return ([] if "environment.json" in str(error) else _damaged("program", [str(error)])), 0
    findings = _failures({"program.json": folder.program_document})
    if findings:
        return findings, 0
    functions = folder.program_document()["functions"]
    findings = _failures({program_path(name): partial(folder.program_file, name) for name in functions})
    if any("program" not in session or session["program"] != sessions[0]["program"] for session in sessions):
        findings += _damaged("environment.json", ["the sessions ran different programs"])
    expected = {program_path(name) for name in functions}
    findings += [Finding("note", name, _STRANGER) for name in present if name not in expected]
    return findings, len(functions)


def _failures(checks: dict[str, Callable[[], object]]) -> list[Finding]:
    findings: list[Finding] = []
    for place, check in checks.items():
        try:
            check()
        except CorruptRun as error:
            findings += _damaged(place, [str(error)])
    return findings


def _strangers(folder: RunFolder) -> list[Finding]:
    """Names that are no part of a run. Nothing reads them, so they do no harm."""
    names = [name for name in listed(folder.path) if name not in _KNOWN]
    names += [f"checkpoints/{name}" for name in listed(folder.path / "checkpoints") if parse_name(name) is None]
    findings: list[Finding] = []
    for name in names:
        last = name.rpartition("/")[2]
        if last.startswith(TEMPORARY_PREFIX):
            what = "a write that was not finished; resuming removes it"
        elif last.endswith(DAMAGED_SUFFIX):
            what = "a checkpoint that a resume could not use and set aside"
        else:
            what = _STRANGER
        findings.append(Finding("note", name, what))
    return findings


def _chronicle(audited: ChronicleAudit, stored: Sequence[StoredCheckpoint], status: str) -> list[Finding]:
    lines = audited.good.records
    acknowledged = stored[-1].name.step if stored else 0
    if audited.problem is not None:
        # A crash can leave a torn end, but only after the last line that a checkpoint points to.
        if audited.torn and status != "finished" and lines >= acknowledged:
            return [Finding("note", LINES_NAME, f"{audited.problem}: an interrupted write; resuming sets it aside")]
        return _damaged(LINES_NAME, [f"{audited.problem}; the {lines} lines before it are good"])
    if status == "finished" and lines != acknowledged:
        message = (
            f"ends at step {lines}, the newest checkpoint is of step {acknowledged}: a checkpoint or lines are missing"
        )
        return _damaged(LINES_NAME, [message])
    if lines > acknowledged:
        message = (
            f"{lines - acknowledged} lines after the newest checkpoint, step {acknowledged}; resuming makes them again"
        )
        return [Finding("note", LINES_NAME, message)]
    return []


def _checkpoints(
    folder: RunFolder, stored: Sequence[StoredCheckpoint], audited: ChronicleAudit
) -> tuple[list[Finding], list[CheckpointName]]:
    """What is wrong with the checkpoints, and those that can be resumed from, oldest first."""
    findings: list[Finding] = []
    good: list[CheckpointName] = []
    before: CheckpointName | None = None
    for path, name in stored:
        place = f"checkpoints/{path.name}"
        try:
            found = checkpoint.read(path)
            problems = folder.disagreements(found, audited)
            if not problems:
                good.append(name)
            expected = None if before is None else before.hash
            if found.previous != expected:
                problems.append(
                    f"states that the checkpoint before it is {found.previous}, here it is {expected}: "
                    "one is missing, or does not belong"
                )
            if before is not None and name.step <= before.step:
                problems.append(f"is of step {name.step}, and so is or is later the one before it ({before.text})")
        except CorruptCheckpoint as error:
            problems = [str(error)]
        findings += _damaged(place, problems)
        before = name
    return findings, good


def _reports(folder: RunFolder) -> tuple[list[Finding], int]:
    """Each report against reports/SHA256SUMS, and the number that was checked."""
    findings: list[Finding] = []
    sums: dict[str, str] = {}
    place = f"reports/{SUMS_NAME}"
    try:
        present = listed(folder.path / "reports")
        lines = read_regular(folder.path / place, MAX_DOCUMENT_BYTES, CorruptRun).decode("utf-8", "replace")
    except CorruptRun as error:
        return _damaged(place, [str(error)]), 0
    for number, line in enumerate(lines.removesuffix("\n").split("\n"), 1):
        match = _SUM_LINE.fullmatch(line)
        if match is None or match[2] in sums:
            findings += _damaged(
                place, [f"line {number}: expected `<SHA-256>  <name>`, each name once, found {line!r:.80}"]
            )
        else:
            sums[match[2]] = match[1]
    for name, expected in sums.items():
        try:
            found = digest_bytes(read_regular(folder.path / "reports" / name, MAX_DOCUMENT_BYTES, CorruptRun))
        except CorruptRun as error:
            findings += _damaged(f"reports/{name}", [str(error)])
            continue
        if found != expected:
            findings += _damaged(f"reports/{name}", [f"expected the SHA-256 {expected}, found {found}: it was changed"])
    extra = [
        name for name in present if name not in sums and name != SUMS_NAME and not name.startswith(TEMPORARY_PREFIX)
    ]
    findings += [Finding("damage", f"reports/{name}", f"is not listed in {SUMS_NAME}: it was put in") for name in extra]
    return findings, len(sums)
