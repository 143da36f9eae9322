"""What is wrong with a run's documents, its archived program and its reports: each against the hash that another
document states of it, and all of them present.
"""

import re
from functools import partial

from crh_train.digest import digest_bytes
from crh_train.errors import CorruptRun
from crh_train.filesystem import TEMPORARY_PREFIX
from crh_train.findings import Finding, damaged, failures
from crh_train.regular_file import read_regular
from crh_train.run_folder import MAX_DOCUMENT_BYTES, REMOVED_NAME, SUMS_NAME, RunFolder, listed, program_path

STRANGER = "no part of a run; nothing reads it"

_SUM_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_-][A-Za-z0-9._-]*)", re.ASCII)
_SUMS_PLACE = f"reports/{SUMS_NAME}"


def document_findings(folder: RunFolder) -> list[Finding]:
    """run.json, environment.json and removed.json hold their own hash; config.json's and manifest.json's stand in
    run.json."""
    findings = failures(
        {"run.json": folder.run_document, "environment.json": folder.sessions, REMOVED_NAME: folder.removed}
    )
    if not any(finding.place == "run.json" for finding in findings):
        findings += failures({"config.json": folder.config_document, "manifest.json": folder.manifest})
    return findings


def program_findings(folder: RunFolder) -> tuple[list[Finding], int]:
    """The archived functions and program.json, whose hash stands in environment.json, and the number of functions."""
    try:
        sessions, present = folder.sessions(), [f"program/{name}" for name in listed(folder.path / "program")]
    except CorruptRun as error:
        # What is wrong with environment.json is told of it already.
        return ([] if "environment.json" in str(error) else damaged("program", [str(error)])), 0
    try:
        functions = folder.program_document()["functions"]
    except CorruptRun as error:
        return damaged("program.json", [str(error)]), 0
    findings = failures(
        {
            program_path(name): partial(_check, folder, program_path(name), function["sha256"], "program.json")
            for name, function in functions.items()
        }
    )
    if any(session["program"] != sessions[0]["program"] for session in sessions):
        findings += damaged("environment.json", ["the sessions ran different programs"])
    expected = {program_path(name) for name in functions}
    findings += [Finding("note", name, STRANGER) for name in present if name not in expected]
    return findings, len(functions)


def report_findings(folder: RunFolder, status: str) -> tuple[list[Finding], int]:
    """Each report of a finished run against reports/SHA256SUMS, and the number that was checked."""
    try:
        present = [name for name in listed(folder.path / "reports") if not name.startswith(TEMPORARY_PREFIX)]
        if status != "finished":
            unsummed = bool(present) and status == "unfinished" and SUMS_NAME not in present
            message = f"there are {len(present)} without {SUMS_NAME}, which comes last: resuming makes them again"
            return [Finding("note", "reports", message)] if unsummed else [], 0
        lines = read_regular(folder.path / _SUMS_PLACE, MAX_DOCUMENT_BYTES, CorruptRun).decode("utf-8", "replace")
    except CorruptRun as error:
        return damaged(_SUMS_PLACE, [str(error)]), 0
    sums, findings = _sums(lines)
    findings += failures(
        {f"reports/{name}": partial(_check, folder, f"reports/{name}", sums[name], SUMS_NAME) for name in sums}
    )
    extra = [name for name in present if name not in sums and name != SUMS_NAME]
    findings += [
        Finding("damage", f"reports/{name}", f"is not listed in {SUMS_NAME}: one of the two was changed")
        for name in extra
    ]
    return findings, len(sums)


def _sums(text: str) -> tuple[dict[str, str], list[Finding]]:
    """Name -> SHA-256 of the lines that are well formed, and what is wrong with the others."""
    sums: dict[str, str] = {}
    findings: list[Finding] = []
    lines = text.split("\n")
    if lines.pop() != "" or not lines:
        findings += damaged(_SUMS_PLACE, ["expected lines, the last one with its line feed: the end is missing"])
    for number, line in enumerate(lines, 1):
        match = _SUM_LINE.fullmatch(line)
        if match is None or match[2] in sums:
            message = f"line {number}: expected `<SHA-256>  <name>`, each name once, found {line!r:.80}"
            findings += damaged(_SUMS_PLACE, [message])
        else:
            sums[match[2]] = match[1]
    return sums, findings


def _check(folder: RunFolder, name: str, expected: str, stated_in: str) -> None:
    found = digest_bytes(read_regular(folder.path / name, MAX_DOCUMENT_BYTES, CorruptRun))
    if found != expected:
        raise CorruptRun(
            f"expected the SHA-256 {expected}, which {stated_in} states, found {found}: one of the two was changed"
        )
