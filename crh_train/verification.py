"""Checks what is on disk against everything that it states about itself: a checkpoint alone, or a whole run.

Reads only, prints nothing, and does not train: that the recorded numbers are what training gives, a replay shows. A
rewrite of a whole run with every hash recomputed is consistent, and is caught only by what is kept elsewhere: the
public key of who signed it, or the run hash, the newest checkpoint's hash and the chronicle's head that `crh-train run`
printed.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crh_train.checkpoint_file import check
from crh_train.checkpoint_header import CheckpointName, parse_name
from crh_train.chronicle import CHAIN_NAME, LINES_NAME, SUMS_NAME, TAIL_NAME, genesis
from crh_train.chronicle_audit import ChronicleAudit, audit
from crh_train.continuity_findings import Rederived
from crh_train.diagnostics.continuity import CONTINUITY_NAME
from crh_train.document_findings import STRANGER, document_findings, program_findings, report_findings
from crh_train.errors import CorruptChronicle, CorruptRun, InputError
from crh_train.filesystem import TEMPORARY_PREFIX
from crh_train.findings import Finding, damaged
from crh_train.progress_findings import checkpoint_findings, chronicle_findings
from crh_train.run_files import RunFiles, files_in
from crh_train.run_folder import DAMAGED_SUFFIX, REMOVED_NAME, SIGNATURES_NAME, RunFolder, StoredCheckpoint, listed
from crh_train.signatures import signature_findings
from crh_train.signing_key import PublicKey

_KNOWN = {
    *("run.json", "config.json", "manifest.json", "environment.json", "program.json", REMOVED_NAME),
    *(
        LINES_NAME,
        CHAIN_NAME,
        SUMS_NAME,
        TAIL_NAME,
        CONTINUITY_NAME,
        "checkpoints",
        "program",
        "reports",
        SIGNATURES_NAME,
        ".lock",
    ),
}


@dataclass(frozen=True)
class Verification:
    """What was checked, what is wrong, and what can be trusted all the same."""

    subject: str  # the path
    status: str  # checkpoint, finished, unfinished or running
    findings: Sequence[Finding]  # damage first
    run_hash: str | None  # None: run.json cannot be trusted
    checkpoints_checked: int
    program_files_checked: int
    reports_checked: int
    newest_good_checkpoint: str | None  # file name
    newest_good_hash: str | None
    last_good_line: int | None  # of the chronicle; None: not looked at
    chronicle_head: str | None  # after that line
    signed_by: Sequence[str]  # ids of the given keys that have signed the run as it is

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
        found = check(path)
        run_path = path.absolute().parent.parent
        if path.absolute().parent.name == "checkpoints" and (run_path / "run.json").exists():
            findings += damaged(path.name, RunFolder(run_path).identity_disagreements(found))
    except InputError as error:
        findings += damaged(path.name, [str(error)])
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
        signed_by=(),
    )


def verify_run(folder: RunFolder, keys: Sequence[PublicKey] = ()) -> Verification:
    """Check all files of a run, each against its hash and all against one another, and that `keys` have signed it."""
    files = files_in(folder.path)
    # A lock that is no file cannot be held; that it is none is told below.
    status = _status_at_rest(folder) if ".lock" in files.irregular else folder.status
    return _verified(folder, files, status, keys)


def verify_held(folder: RunFolder) -> Verification:
    """As `verify_run`, of a run whose lock the caller holds: it is locked, and nobody writes to it."""
    return _verified(folder, files_in(folder.path), _status_at_rest(folder), ())


def _status_at_rest(folder: RunFolder) -> str:
    return "finished" if folder.finished else "unfinished"


def _verified(folder: RunFolder, files: RunFiles, status: str, keys: Sequence[PublicKey]) -> Verification:
    findings = document_findings(folder)
    program, program_files_checked = program_findings(folder)
    findings += program
    run_hash = None if any(finding.place == "run.json" for finding in findings) else folder.run_hash
    stored: Sequence[StoredCheckpoint] = []
    good: list[CheckpointName] = []
    try:
        findings += _strangers(folder)
        stored = folder.checkpoints()
    except CorruptRun as error:
        findings += damaged("checkpoints", [str(error)])
    # After the checkpoints are listed: what a running process adds meanwhile can only be more lines.
    rederived = Rederived(folder) if run_hash is not None else None
    audited = None if rederived is None or run_hash is None else _audited(folder, run_hash, rederived)
    if audited is not None:
        findings += chronicle_findings(audited, stored, status)
        removed = [] if any(finding.place == REMOVED_NAME for finding in findings) else folder.removed()
        checked, good = checkpoint_findings(folder, stored, removed, audited, status)
        findings += checked
        if rederived is not None:
            findings += rederived.findings(status, whole=audited.problem is None)
    reports, reports_checked = report_findings(folder, status)
    signatures, signed_by = signature_findings(folder, files.regular, keys)
    return Verification(
        subject=str(folder.path),
        status=status,
        findings=_told(folder, [*findings, *reports, *signatures], files.irregular),
        run_hash=run_hash,
        checkpoints_checked=0 if audited is None else len(stored),
        program_files_checked=program_files_checked,
        reports_checked=reports_checked,
        newest_good_checkpoint=good[-1].text if good else None,
        newest_good_hash=good[-1].hash if good else None,
        last_good_line=None if audited is None else audited.good.records,
        chronicle_head=None if audited is None else audited.good.head,
        signed_by=signed_by,
    )


def _audited(folder: RunFolder, run_hash: str, rederived: Rederived) -> ChronicleAudit:
    """What of the chronicle holds together: no line, where one of its files cannot be read."""
    try:
        return audit(folder.path, run_hash, rederived.visit)
    except CorruptChronicle as error:
        start = genesis(run_hash)
        problem = str(error).removeprefix(f"{folder.path}{os.sep}")
        return ChronicleAudit(start, start, last=None, chain=b"", problem=problem, torn=False, unsummed=None)


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
            what = STRANGER
        findings.append(Finding("note", name, what))
    return findings


def _told(folder: RunFolder, findings: Sequence[Finding], irregular: Mapping[str, str]) -> list[Finding]:
    """The findings, damage first, each place named once; of what is no regular file, only that."""
    told = [Finding("damage", place, message) for place, message in irregular.items()]
    for finding in findings:
        if finding.place not in irregular:
            message = finding.message.removeprefix(f"{folder.path / finding.place}: ")
            told.append(dataclasses.replace(finding, message=message))
    return sorted(told, key=lambda finding: finding.severity)  # stable: damage, then note
