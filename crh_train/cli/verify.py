"""`crh-train verify`: a checkpoint alone, or a run with all that it holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crh_train.cli.output import JsonOption, RunsOption, command, emit, fields, following

if TYPE_CHECKING:
    from crh_train.verification import Verification

LISTED_FINDINGS = 3  # one broken chronicle line makes a finding of every checkpoint after it


@command
def verify(
    subject: Annotated[str, typer.Argument(metavar="FILE.chk|HASH", help="A checkpoint file, or a run's hash.")],
    runs: RunsOption = Path("runs"),
    json_output: JsonOption = False,
) -> None:
    """Check every byte of a checkpoint, or of a run: documents, checkpoints, chronicle, reports, their agreement.

    Damage is exit code 1; a checkpoint that is not there or cannot be opened is 3.
    """
    from crh_train.errors import CorruptCheckpoint
    from crh_train.filesystem import opened_regular
    from crh_train.run_store import RunStore
    from crh_train.verification import verify_checkpoint, verify_run

    if subject.endswith(".chk"):
        with opened_regular(Path(subject), CorruptCheckpoint):
            pass
        found, hint = verify_checkpoint(Path(subject)), "crh-train list"
    else:
        folder = RunStore(runs).find(subject)
        found = verify_run(folder)
        hint = f"crh-train {'replay' if found.status == 'finished' else 'resume'} {folder.argument}"
    if json_output:
        emit(found.document())
    else:
        _print(found)
        following(hint if found.ok else "go on with what is good, or restore the damaged files from a copy")
    if not found.ok:
        raise typer.Exit(1)


def _print(found: "Verification") -> None:
    for finding in found.findings[:LISTED_FINDINGS]:
        typer.echo(f"{finding.severity}: {finding.place}: {finding.message}")
    if len(found.findings) > LISTED_FINDINGS:
        typer.echo(f"and {len(found.findings) - LISTED_FINDINGS} findings more; --json lists all")
    rows = [("verified", found.subject), ("status", found.status), ("run hash", found.run_hash or "not to be trusted")]
    rows.append(("checkpoints", f"{found.checkpoints_checked} checked"))
    if found.status != "checkpoint":
        rows.append(("chronicle", f"{found.last_good_line} good lines" if found.last_good_line is not None else "–"))
        rows.append(("chronicle head", found.chronicle_head or "–"))
        rows.append(("program", f"{found.program_files_checked} functions checked"))
        rows.append(("reports", f"{found.reports_checked} checked"))
    rows.append(("newest good", found.newest_good_checkpoint or "none"))
    rows.append(("verdict", "good: every byte is what was written" if found.ok else "DAMAGED"))
    fields(rows)
