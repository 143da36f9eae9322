"""`crh-train replay`: run a run again and compare every bit."""

import os
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    say,
)
from crh_train.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from crh_train.config import RunConfig
    from crh_train.replay_report import ReplayReport
    from crh_train.run_folder import RunFolder
    from crh_train.segments import Segment

LISTED_ARRAYS = 8


@command
def replay(
    run: HashArgument,
    overrides: RuntimeArguments = None,
    from_epoch: Annotated[
        int | None, typer.Option("--from", min=0, help="Begin with the checkpoint saved after so many epochs.")
    ] = None,
    to_epoch: Annotated[int | None, typer.Option("--to", min=1, help="Stop after so many epochs.")] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            min=1,
            metavar="N",
            help="Cut it at checkpoints into N segments, replayed at the same time with runtime.threads threads each.",
        ),
    ] = 1,
    source: Annotated[
        bool, typer.Option("--source", help="By today's code, and say whether it still makes the same program.")
    ] = False,
    runs: RunsOption = Path("runs"),
    json_output: JsonOption = False,
    segment: Annotated[
        tuple[int, int] | None, typer.Option("--segment", hidden=True, help="Of --jobs: first and last step.")
    ] = None,
) -> None:
    """Run it again from its configuration, data and seed, in a scratch folder, and compare every bit.

    It runs the program that was archived with the run, whatever has become of the code since.
    Every value of the chronicle and the state at every checkpoint must be the same; else the first step that differs
    is named and the exit code is 1. The scratch folder is removed, unless bits differ. The verdict is kept
    beside the run, in `HASH.replays`, where `crh-train report` finds it.
    """
    from crh_train import compilation_cache
    from crh_train.cli.lifeline import end_with_parent
    from crh_train.environment import configure
    from crh_train.process_group import devices_here
    from crh_train.replay_report import document
    from crh_train.run_store import RunStore
    from crh_train.scratch import named
    from crh_train.segments import Segment, asked_for, cut
    from crh_train.stored import stored_config

    folder = RunStore(runs).find(run)
    config = stored_config(folder, overrides or [])
    if jobs > 1 and config.runtime.processes > 1:
        raise UsageError(
            f"--jobs {jobs} replays segments in processes of its own, each by itself, and runtime.processes="
            f"{config.runtime.processes} shares every step out: give one of the two"
        )
    configure(os.environ, config.runtime.threads, devices_here(config.runtime))
    if config.runtime.process:
        compilation_cache.use(os.environ, config.runtime)
        follow(config, folder, json_output, source)
        return
    if segment is not None:
        end_with_parent()

    def whole() -> Segment:
        return asked_for(folder, from_epoch, to_epoch) if segment is None else Segment(*segment)

    segments = cut(whole(), {each.name.step for each in folder.checkpoints()}, jobs) if jobs > 1 else []
    # Named before it is made, so that a signal at any moment finds what to remove.
    with named():
        scratch = Path(tempfile.gettempdir(), f"crh-train-replay-{secrets.token_hex(8)}")
    kept: Path | None = None  # unless bits differ: an error leaves nothing worth keeping
    try:
        with named():
            scratch.mkdir(mode=0o700)
        if len(segments) > 1:
            words = [folder.run_hash, "--runs", str(runs), *(["--source"] if source else []), *(overrides or [])]
            report, kept = _in_processes(folder, config, segments, words, scratch)
        else:
            report = _here(folder, config, whole, scratch, source)
            kept = None if report.identical else scratch
    finally:
        if kept is None and scratch.exists():
            shutil.rmtree(scratch)
    recorded, unrecorded = _recorded(folder, report) if segment is None else (None, None)
    if json_output:
        emit({**document(report), "scratch": None if kept is None else str(kept), "record": recorded})
    else:
        if unrecorded is not None:
            say(f"note: the verdict is not kept: {unrecorded}", err=True)
        _print(folder.name, report, kept, _shares(config, len(segments), jobs) if jobs > 1 else None)
        following(
            f"crh-train verify {folder.argument}"
            if kept is None
            else f"crh-train doctor; look into {shlex.quote(str(kept))}"
        )
    if kept is not None:
        raise typer.Exit(1)


def _recorded(folder: "RunFolder", report: "ReplayReport") -> tuple[str | None, str | None]:
    """Where the verdict is kept, or why it is not: runs that may only be read are replayed all the same."""
    from crh_train.errors import StorageFailed
    from crh_train.replay_records import record

    try:
        return str(record(folder, report)), None
    except StorageFailed as error:
        return None, str(error)


def _here(
    folder: "RunFolder", config: "RunConfig", whole: "Callable[[], Segment]", scratch: Path, source: bool
) -> "ReplayReport":
    from crh_train import compilation_cache

    compilation_cache.use(os.environ, config.runtime)

    from crh_train.distribution import joined
    from crh_train.replay import replay as replay_run

    with joined(config) as group:  # what `whole` refuses, the other processes of the run must hear of
        return replay_run(folder, config, whole(), scratch, group, source)


def _in_processes(
    folder: "RunFolder", config: "RunConfig", segments: "Sequence[Segment]", words: Sequence[str], scratch: Path
) -> "tuple[ReplayReport, Path | None]":
    """The report of all `segments`, and what is kept in `scratch`: that of the first segment that differs."""
    from crh_train.cli.segment_processes import replay_each
    from crh_train.replay_report import joined, parsed
    from crh_train.segments import Segment

    done = 0

    def told(segment: Segment, identical: bool) -> None:
        nonlocal done
        done += identical
        if config.runtime.progress:
            say(f"{segment}: {'identical' if identical else 'DIFFERENT'}", err=True)

    try:
        documents = replay_each(segments, [*words, "runtime.progress=false"], scratch, told)
    except KeyboardInterrupt as stop:
        raise Interrupted(
            f"the replay of run {folder.name} was stopped; {done} of its {len(segments)} segments were compared and "
            "are the same. The run itself was not touched: replay it again"
        ) from stop
    report = joined(
        Segment(segments[0].first, segments[-1].last), len(segments), [parsed(found) for found in documents]
    )
    kept = None if report.identical else Path(documents[-1]["scratch"])
    for other in scratch.iterdir():  # of a segment after it that differs too, or was killed
        if other != kept:
            shutil.rmtree(other)
    return report, kept


def _shares(config: "RunConfig", segments: int, jobs: int) -> str:
    """How a replay in several processes was shared out."""
    from crh_train.cores import available
    from crh_train.environment import thread_count

    threads = config.runtime.threads or thread_count(os.environ)
    of = "" if segments == jobs else f", of --jobs {jobs}: its checkpoints allow no shorter ones"
    return f"{segments} at the same time, {_counted(threads, 'thread')} each, on {_counted(available(), 'core')}{of}"


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _program(report: "ReplayReport") -> str:
    if report.program == "archived":
        return "the one that was archived with the run"
    if report.program_differs:
        return f"today's code; it differs from the archived one in: {', '.join(report.program_differs)}"
    return "today's code; it is the same as the archived one"


def _print(name: str, report: "ReplayReport", kept: Path | None, shares: str | None) -> None:
    rows = [
        ("replayed", f"{name}, steps {report.first_step + 1} to {report.first_step + report.steps_compared}"),
        ("compared", f"{report.steps_compared} chronicle lines, {report.checkpoints_compared} checkpoints"),
        ("program", _program(report)),
        ("promise", report.promise),
    ]
    if shares is not None:
        rows.insert(1, ("segments", shares))
    if report.final_state is not None:
        rows.append(("state", report.final_state))
    if report.difference is not None:
        rows.append(("differs", str(report.difference)))
    rows += [("differs", line) for line in report.arrays[:LISTED_ARRAYS]]
    if len(report.arrays) > LISTED_ARRAYS:
        rows.append(("differs", f"and {len(report.arrays) - LISTED_ARRAYS} arrays more"))
    if kept is not None:
        rows.append(("scratch", str(kept)))
    rows.append(("verdict", "identical: every bit is the same" if report.identical else "DIFFERENT"))
    fields(rows)
