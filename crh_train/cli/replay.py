"""`crh-train replay`: run a run again and compare every bit."""

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crh_train.cli.follow import follow
from crh_train.cli.output import (
    HashArgument,
    JsonOption,
    RunsOption,
    RuntimeArguments,
    command,
    emit,
    fields,
    following,
)

if TYPE_CHECKING:
    from crh_train.replay import ReplayReport

LISTED_ARRAYS = 8


@command
def replay(
    run: HashArgument,
    overrides: RuntimeArguments = None,
    from_epoch: Annotated[
        int | None, typer.Option("--from", min=0, help="Begin with the checkpoint saved after so many epochs.")
    ] = None,
    to_epoch: Annotated[int | None, typer.Option("--to", min=1, help="Stop after so many epochs.")] = None,
    source: Annotated[
        bool, typer.Option("--source", help="By today's code, and say whether it still makes the same program.")
    ] = False,
    runs: RunsOption = Path("runs"),
    json_output: JsonOption = False,
) -> None:
    """Run it again from its configuration, data and seed, in a scratch folder, and compare every bit.

    It runs the program that was archived with the run, whatever has become of the code since.
    Every value of the chronicle and the state at every checkpoint must be the same; else the first step that differs
    is named and the exit code is 1. The scratch folder is removed, unless bits differ.
    """
    from crh_train import compilation_cache
    from crh_train.environment import configure
    from crh_train.process_group import devices_here
    from crh_train.run_store import RunStore
    from crh_train.stored import stored_config

    folder = RunStore(runs).find(run)
    config = stored_config(folder, overrides or [])
    configure(os.environ, config.runtime.threads, devices_here(config.runtime))
    compilation_cache.use(os.environ, config.runtime)
    if config.runtime.process:
        follow(config, folder, json_output, source)
        return

    from crh_train.distribution import joined
    from crh_train.replay import replay as replay_run

    scratch = Path(tempfile.mkdtemp(prefix="crh-train-replay-"))
    identical = True  # unless the comparison says otherwise: an error leaves nothing worth keeping
    try:
        with joined(config) as group:
            report = replay_run(folder, config, from_epoch, to_epoch, scratch, group, source)
        identical = report.identical
    finally:
        if identical:
            shutil.rmtree(scratch)
    kept = None if identical else str(scratch)
    if json_output:
        emit({**dataclasses.asdict(report), "difference": _difference(report), "scratch": kept})
    else:
        _print(folder.name, report, kept)
        following(f"crh-train verify {folder.argument}" if identical else f"crh-train doctor; look into {scratch}")
    if not identical:
        raise typer.Exit(1)


def _difference(report: "ReplayReport") -> dict[str, Any] | None:
    return None if report.difference is None else report.difference._asdict()


def _program(report: "ReplayReport") -> str:
    if report.program == "archived":
        return "the one that was archived with the run"
    if report.program_differs:
        return f"today's code; it differs from the archived one in: {', '.join(report.program_differs)}"
    return "today's code; it is the same as the archived one"


def _print(name: str, report: "ReplayReport", kept: str | None) -> None:
    rows = [
        ("replayed", f"{name}, steps {report.first_step + 1} to {report.first_step + report.steps_compared}"),
        ("compared", f"{report.steps_compared} chronicle lines, {report.checkpoints_compared} checkpoints"),
        ("program", _program(report)),
        ("promise", report.promise),
    ]
    if report.final_state is not None:
        rows.append(("state", report.final_state))
    if report.difference is not None:
        rows.append(("differs", str(report.difference)))
    rows += [("differs", line) for line in report.arrays[:LISTED_ARRAYS]]
    if len(report.arrays) > LISTED_ARRAYS:
        rows.append(("differs", f"and {len(report.arrays) - LISTED_ARRAYS} arrays more"))
    if kept is not None:
        rows.append(("scratch", kept))
    rows.append(("verdict", "identical: every bit is the same" if report.identical else "DIFFERENT"))
    fields(rows)
