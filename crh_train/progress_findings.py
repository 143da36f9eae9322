"""What is wrong with a run's chronicle and its checkpoints, each of itself and with one another."""

from collections.abc import Sequence

from crh_train.checkpoint_file import check
from crh_train.checkpoint_header import CheckpointHeader, CheckpointName
from crh_train.chronicle import CHAIN_NAME, LINES_NAME, SUMS_NAME
from crh_train.chronicle_audit import ChronicleAudit
from crh_train.errors import CorruptCheckpoint
from crh_train.findings import Finding, damaged
from crh_train.run_folder import REMOVED_NAME, RunFolder, StoredCheckpoint


def lost_lines(audited: ChronicleAudit, stored: Sequence[StoredCheckpoint], status: str) -> str | None:
    """Why the good lines of a chronicle are not all that its run wrote, so that nothing may be counted from them; None
    where they are. What a crash or a running process leaves after the last line that a checkpoint points to is no loss.

    `status` and `stored` MUST be from before the audit: what a running process adds meanwhile can only be more lines.
    """
    lines, acknowledged = audited.good.records, _acknowledged(stored)
    found = [each for each in _line_findings(audited, acknowledged, status) if each.severity == "damage"]
    if found:
        return f"{found[0].place}: {found[0].message}"
    if lines < acknowledged:
        return f"{LINES_NAME} ends at step {lines}, the newest checkpoint is of step {acknowledged}: lines are missing"
    return None


def chronicle_findings(audited: ChronicleAudit, stored: Sequence[StoredCheckpoint], status: str) -> list[Finding]:
    """What is wrong with the three files of the chronicle. What a crash leaves, after the last line that a checkpoint
    points to, is a note unless the run is finished."""
    acknowledged = _acknowledged(stored)
    return [*_unsummed(audited, acknowledged, status), *_line_findings(audited, acknowledged, status)]


def _acknowledged(stored: Sequence[StoredCheckpoint]) -> int:
    return stored[-1].name.step if stored else 0


def _line_findings(audited: ChronicleAudit, acknowledged: int, status: str) -> list[Finding]:
    lines = audited.good.records
    if audited.problem is not None:
        place = next((name for name in (CHAIN_NAME, SUMS_NAME) if audited.problem.startswith(name)), LINES_NAME)
        problem = audited.problem.removeprefix(place).lstrip(": ")
        if audited.torn and status != "finished" and lines >= acknowledged:
            return [Finding("note", place, f"{problem}: an interrupted write; resuming sets it aside")]
        return damaged(place, [f"{problem}; the {lines} lines before it are good"])
    if status == "finished" and lines != acknowledged:
        message = (
            f"ends at step {lines}, the newest checkpoint is of step {acknowledged}: a checkpoint or lines are missing"
        )
        return damaged(LINES_NAME, [message])
    if lines > acknowledged:
        message = (
            f"{lines - acknowledged} lines after the newest checkpoint, step {acknowledged}; resuming makes them again"
        )
        return [Finding("note", LINES_NAME, message)]
    return []


def _unsummed(audited: ChronicleAudit, acknowledged: int, status: str) -> list[Finding]:
    line = audited.unsummed
    if line is None or (line > acknowledged and status != "finished"):
        return []  # what an interrupted or a running write leaves
    if line > audited.good.records:
        return damaged(SUMS_NAME, [f"has more than the {audited.good.records} records of {LINES_NAME}"])
    message = (
        f"record {line} is not the SHA-256 of line {line} of {LINES_NAME}: the record or the line's timestamp was "
        "changed, and nothing else of that line"
    )
    return damaged(SUMS_NAME, [message])


def checkpoint_findings(
    folder: RunFolder,
    stored: Sequence[StoredCheckpoint],
    removed: Sequence[CheckpointName],
    audited: ChronicleAudit,
    status: str,
) -> tuple[list[Finding], list[CheckpointName]]:
    """What is wrong with the checkpoints, and those that can be resumed from, oldest first.

    Each names the one before it, which is on disk or in removed.json.
    """
    findings: list[Finding] = []
    good: list[CheckpointName] = []
    unlogged: list[CheckpointName] = []  # whole, but of lines that are not good
    paths = {name: path for path, name in stored}
    names = sorted({*paths, *removed})
    for before, name in zip([None, *names], names, strict=False):
        if name not in paths:
            continue
        try:
            found = check(paths[name])
        except CorruptCheckpoint as error:
            findings += damaged(_place(name), [str(error)])
            continue
        if found.chronicle_offset.records == found.step > audited.good.records:
            problems = folder.identity_disagreements(found)
            unlogged.append(name)
        else:
            problems = folder.disagreements(found, audited)
            if not problems:
                good.append(name)
        findings += damaged(_place(name), [*problems, *_out_of_order(found, name, before)])
    findings += damaged(REMOVED_NAME, _removed_problems(names, removed, stored if status == "finished" else []))
    return [*findings, *_unlogged_findings(unlogged, audited)], good


def _out_of_order(found: CheckpointHeader, name: CheckpointName, before: CheckpointName | None) -> list[str]:
    problems: list[str] = []
    expected = None if before is None else before.hash
    if found.previous != expected:
        problems.append(
            f"states that the checkpoint before it is {found.previous}, here it is {expected}: "
            "one is missing, or does not belong"
        )
    if before is not None and name.step <= before.step:
        problems.append(f"is of step {name.step}, and so is or is later the one before it ({before.text})")
    return problems


def _removed_problems(
    names: Sequence[CheckpointName], removed: Sequence[CheckpointName], stored: Sequence[StoredCheckpoint]
) -> list[str]:
    if stored and removed and removed[-1] > stored[-1].name:
        return [f"lists {removed[-1].text}, which is newer than the newest one there is; that is never removed"]
    if len({name.hash for name in names}) < len(names):
        return ["lists a checkpoint with the hash of another one; a hash is of one step only"]
    return []


def _unlogged_findings(unlogged: Sequence[CheckpointName], audited: ChronicleAudit) -> list[Finding]:
    """One finding for all the checkpoints after the last good line: there is one cause."""
    if not unlogged:
        return []
    first, others, lines = unlogged[0], len(unlogged) - 1, audited.good.records
    after = f"; so do the {others} after it" if others else ""
    why = (
        "lines were cut off, which no crash does"
        if audited.problem is None
        else "no run can go on from here until the chronicle is restored"
    )
    return damaged(
        _place(first), [f"acknowledges {first.step} chronicle lines, of which {lines} are good{after}: {why}"]
    )


def _place(name: CheckpointName) -> str:
    return f"checkpoints/{name.text}"
