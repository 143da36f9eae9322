"""`crh-train watch`: a run while it trains, in the terminal."""

import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crh_train.cli.output import JsonOption, RunsOption, command, emit, following, run_names, say
from crh_train.cli.verify import found_run

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from crh_train.live.signs import Signs
    from crh_train.live.state import RunState
    from crh_train.live.watched import Watched
    from crh_train.run_folder import RunFolder

PAUSE = 0.5  # seconds between two looks
LINES_A_LOOK = 20_000  # half a second's work, so that a long chronicle does not keep the screen from answering
ALL_LINES = sys.maxsize
SNAPSHOT_ROWS = 22
PICTURE_COLUMNS = 72
PREFIX = re.compile(r"[0-9a-fA-F]{1,64}")


@command
def watch(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[HASH]",
            help="A run's hash, or any unique beginning of it; without it, the one run that is running.",
            autocompletion=run_names,
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print how it is now, and end.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a run that is not there yet.")] = False,
    image: Annotated[
        bool | None,
        typer.Option(
            "--image/--no-image",
            help="Show a finished run's picture, or never; without it, where the terminal can.",
            show_default=False,
        ),
    ] = None,
    ascii_only: Annotated[bool, typer.Option("--ascii", help="Draw with ASCII instead of braille.")] = False,
    runs: RunsOption = Path("runs"),
    json_output: JsonOption = False,
) -> None:
    """Watch a run: loss, learning rate, gradient norm, pace, time left, what is saved.

    It only reads, and ends when the run is finished; Ctrl-C leaves it, and the run goes on. It prints how the run is
    now with `--once`, with `--json`, or where standard output is no terminal. Examples:

    crh-train watch

    crh-train watch 81e3 --once
    """
    from rich.console import Console

    from crh_train.errors import CorruptChronicle
    from crh_train.live.signs import ASCII, signs_for
    from crh_train.live.state import document
    from crh_train.live.watched import Watched

    folder = _found(run, runs, wait)
    watched, console = Watched(folder), Console(markup=False, emoji=False, highlight=False)
    signs = ASCII if ascii_only else signs_for(console.encoding, os.environ)
    if (
        console.is_terminal
        and not console.is_dumb_terminal
        and not (once or json_output or folder.status == "finished")
    ):
        _live(watched, console, signs)
    state = watched.look(ALL_LINES)
    if json_output:
        emit(document(state))
    else:
        _print(state, folder, console, signs, image)
    if state.problem is not None and state.status != "running":
        raise CorruptChronicle(f"run {folder.name}: {state.problem}; `crh-train verify {folder.argument}` says more")


def _found(named: str | None, runs: Path, wait: bool) -> "RunFolder":
    from crh_train.errors import RunNotFound
    from crh_train.run_store import RunStore

    if named is not None and not (wait and PREFIX.fullmatch(named)):
        return found_run(named, runs)
    while True:
        folders = RunStore(runs).list()
        if named is not None:
            if any(folder.name.startswith(named.lower()[: len(folder.name)]) for folder in folders):
                return found_run(named, runs)
        else:
            running = [folder for folder in folders if folder.status == "running"]
            if len(running) == 1:
                return running[0]
            if running or not wait:
                found = ", ".join(folder.name for folder in running) or "none"
                raise RunNotFound(
                    f"expected one run in {runs} that is running, found {found}; name one, or wait for it with --wait"
                )
        time.sleep(PAUSE)


def _live(watched: "Watched", console: "Console", signs: "Signs") -> None:
    """Show the run on a screen of its own, until it is finished or somebody leaves."""
    from rich.live import Live

    shown = None
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while (state := watched.look(LINES_A_LOOK)).status != "finished":
                if (rows := _drawn(state, console, signs)) != shown:
                    live.update(rows, refresh=True)
                    shown = rows
                time.sleep(0.0 if state.unread > LINES_A_LOOK else PAUSE)
    except KeyboardInterrupt:
        pass  # the run is somebody else's


def _drawn(state: "RunState", console: "Console", signs: "Signs", rows: int | None = None) -> "Text":
    from rich.text import Text

    from crh_train.live.screen import render

    width, height = console.size
    return Text("\n").join(Text(*row) for row in render(state, width, rows or height, signs))


def _print(state: "RunState", folder: "RunFolder", console: "Console", signs: "Signs", image: bool | None) -> None:
    from crh_train.cli.show import next_step, print_run
    from crh_train.run_summary import run_document

    console.print(_drawn(state, console, signs, SNAPSHOT_ROWS), soft_wrap=True)
    if state.problem is None:
        if state.status == "finished":
            print_run(run_document(folder))
            if image is not False:
                _show_picture(folder, console, forced=image is True)
        following(next_step(folder, state.status))


def _show_picture(folder: "RunFolder", console: "Console", forced: bool) -> None:
    """The held-out cases, where the terminal shows pictures or half blocks in 24-bit colour, or it is wished."""
    from crh_train.errors import CorruptRun
    from crh_train.live.picture import MAX_BYTES, escape, half_blocks, protocol
    from crh_train.regular_file import read_regular

    path = folder.path / "reports" / "cases.png"
    by = protocol(os.environ) if console.is_terminal else None
    coloured = console.is_terminal and console.color_system is not None and not console.no_color
    if not path.exists():
        return
    if by is None and not (coloured and (forced or console.color_system == "truecolor")):
        if forced:
            say(f"{path} cannot be shown: standard output is no terminal with pictures or colours")
        return
    png, columns = read_regular(path, MAX_BYTES, CorruptRun), min(console.width, PICTURE_COLUMNS)
    blocks = half_blocks(png, columns)  # also where it is shown otherwise: what is no PNG is not sent to a terminal
    if by is None:
        console.print(blocks, soft_wrap=True, end="")
    else:
        sys.stdout.write(escape(png, by, columns))
        sys.stdout.flush()
