"""`crh-train verify`: a checkpoint alone, or a run with all that it holds and who signed it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crh_train.cli.output import JsonOption, RunsOption, command, emit, fields, following, say

if TYPE_CHECKING:
    from crh_train.run_folder import RunFolder
    from crh_train.verification import Verification

LISTED_FINDINGS = 10


@command
def verify(
    subject: Annotated[
        str, typer.Argument(metavar="FILE.chk|HASH", help="A checkpoint file, or a run's hash or folder.")
    ],
    key: Annotated[
        list[Path] | None,
        typer.Option(metavar="PUBLIC", help="Ed25519 key that must have signed the run; may be given several times."),
    ] = None,
    runs: RunsOption = Path("runs"),
    json_output: JsonOption = False,
) -> None:
    """Check every byte of a checkpoint, or of a run: documents, checkpoints, chronicle, reports, their agreement.

    With --key also that the run was signed with that key, and is what was signed: no file changed, missing or added.
    Damage is exit code 1; a checkpoint or key that is not there or cannot be read is 3.
    """
    from crh_train.errors import CorruptCheckpoint, UsageError
    from crh_train.regular_file import opened_regular
    from crh_train.signing_key import read_public_key
    from crh_train.verification import verify_checkpoint, verify_run

    if subject.endswith(".chk"):
        if key:
            raise UsageError(f"{subject}: a run is signed, not one checkpoint; give the run's hash with --key")
        with opened_regular(Path(subject), CorruptCheckpoint):
            pass
        found, hint = verify_checkpoint(Path(subject)), "crh-train list"
    else:
        folder = found_run(subject, runs)
        found = verify_run(folder, [read_public_key(path) for path in key or []])
        hint = f"crh-train {'replay' if found.status == 'finished' else 'resume'} {folder.argument}"
    if json_output:
        emit(found.document())
    else:
        _print(found)
        following(hint if found.ok else "go on with what is good, or restore the damaged files from a copy")
    if not found.ok:
        raise typer.Exit(1)


def found_run(named: str, runs: Path) -> "RunFolder":
    """The run whose hash begins so, or whose folder that is, as a shell completes it."""
    from crh_train.run_store import RunStore

    if os.sep in named:
        return RunStore(Path(named).parent).find(Path(named).name)
    return RunStore(runs).find(named)


def _print(found: "Verification") -> None:
    for finding in found.findings[:LISTED_FINDINGS]:
        say(f"{finding.severity}: {finding.place}: {finding.message}")
    if len(found.findings) > LISTED_FINDINGS:
        say(f"and {len(found.findings) - LISTED_FINDINGS} findings more; --json lists all")
    rows = [("verified", found.subject), ("status", found.status), ("run hash", found.run_hash or "not to be trusted")]
    rows.append(("checkpoints", f"{found.checkpoints_checked} checked"))
    if found.status != "checkpoint":
        rows.append(("chronicle", f"{found.last_good_line} good lines" if found.last_good_line is not None else "–"))
        rows.append(("chronicle head", found.chronicle_head or "–"))
        rows.append(("program", f"{found.program_files_checked} functions checked"))
        rows.append(("reports", f"{found.reports_checked} checked"))
    rows += [("signed by", key_id) for key_id in found.signed_by]
    rows.append(("newest good", found.newest_good_checkpoint or "none"))
    rows.append(("verdict", "good: every byte is what was written" if found.ok else "DAMAGED"))
    fields(rows)
