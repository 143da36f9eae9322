"""`crh-train report`: a run as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from crh_train.cli.output import HashArgument, JsonOption, RunsOption, command, emit, fields, following
from crh_train.cli.show import next_step
from crh_train.cli.verify import found_run


@command
def report(
    run: HashArgument,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where it goes; default: beside the run, as HASH.html."),
    ] = None,
    runs: RunsOption = Path("runs"),
    json_output: JsonOption = False,
) -> None:
    """Write a run, finished or not, as one HTML page that needs no network: what was trained on what, result, proof.

    The run is verified meanwhile; damage is told on the page, and is exit code 1. The run's folder stays as it is, and
    the same folder gives the same bytes. Examples:

    crh-train report 81e3

    crh-train report 81e3 -o report.html
    """
    from crh_train import filesystem
    from crh_train.errors import UsageError
    from crh_train.page import read, render

    folder = found_run(run, runs)
    path = output if output is not None else folder.path.with_name(f"{folder.name}.html")
    if path.is_dir() or path.absolute().is_relative_to(folder.path.absolute()):
        raise UsageError(
            f"-o {path}: expected a file outside the run, whose folder stays as it is; nothing was written"
        )
    contents = read(folder)
    data = render(contents)
    with filesystem.advising("see to the disk, or put the page elsewhere with -o FILE"):
        filesystem.make_folders(path.parent)
        filesystem.write_over(path, data)
    found = contents.verification
    if json_output:
        emit({"run": folder.name, "path": str(path), "bytes": len(data), "status": found.status, "verified": found.ok})
    else:
        verdict = "good" if found.ok else "DAMAGED: the page says what"
        fields([("report", str(path)), ("bytes", str(len(data))), ("status", found.status), ("verified", verdict)])
        following(next_step(folder, found.status) if found.ok else f"crh-train verify {folder.argument}")
    if not found.ok:
        raise typer.Exit(1)
