"""What every command prints: tables or one JSON document on standard output, errors on standard error, exit codes."""

import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crh_train.errors import CrhTrainError, Interrupted, UsageError
from crh_train.stop_signals import interrupting
from crh_train.visible import visible

if TYPE_CHECKING:
    from crh_train.run_store import RunStore


def run_names(context: typer.Context, incomplete: str) -> list[str]:
    folder = Path(context.params["runs"]) if "runs" in context.params else Path("runs")
    return sorted(path.name for path in folder.glob(f"{incomplete}*") if (path / "run.json").is_file())


RunsOption = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder of the runs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

HashArgument = Annotated[
    str, typer.Argument(metavar="HASH", help="A run's hash, or any unique beginning of it.", autocompletion=run_names)
]
RuntimeArguments = Annotated[
    list[str] | None, typer.Argument(metavar="[runtime.KEY=VALUE]...", help="What to change of where and how it runs.")
]


def store_at(runs: Path) -> "RunStore":
    """All runs in the folder that was given. Raises `UsageError` where that is not there: a name mistyped has no runs,
    which is no answer. The default one may have to be made yet."""
    from crh_train.run_folder import DEFAULT_ROOT
    from crh_train.run_store import RunStore

    if runs != DEFAULT_ROOT and not runs.exists():
        raise UsageError(f"--runs {runs}: there is no such folder; give the one that has the runs")
    return RunStore(runs)


EXIT_CODES = (
    "Exit codes: 0 done · 1 the check failed or the bits differ · 2 usage or configuration · "
    "3 unreadable or corrupt input, or a disk or output that refuses a write · 130 interrupted · "
    "141 nobody reads the output."
)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Let `function`, which has a `json_output` option, end on an error of ours, or on a signal, as the exit codes say.

    While it trains, signals are `stop_signals.asked_to_stop`'s matter.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> None:
        with interrupting() as signals:
            try:
                try:
                    signals.within(functools.partial(function, *args, **options))
                except (CrhTrainError, typer.Exit):
                    raise
                except BaseException as stop:
                    if not signals.came:  # an extension module's import, for one, turns a signal into its own error
                        raise
                    raise Interrupted(
                        "stopped by a signal; what was saved before is kept: `crh-train list` shows the runs and "
                        "`crh-train resume HASH` goes on with one"
                    ) from stop
            except CrhTrainError as error:
                if isinstance(error, Interrupted):
                    signals.ignore()
                    # Else CPython ends by SIGINT where the signal came in an exec'd string, as every dataclass has one;
                    # each such string begins by forgetting that of the one before.
                    exec("")
                if options["json_output"]:
                    name = type(error).__name__
                    emit({"error": name, "message": str(error), "exit_code": error.exit_code})
                else:
                    say(f"error: {error}", err=True)
                raise typer.Exit(error.exit_code) from error

    return wrapped


def emit(document: Mapping[str, Any]) -> None:
    """`document` as one line of JSON on standard output."""
    json.dump(document, sys.stdout, allow_nan=False)  # in ASCII, so that no locale can break it
    sys.stdout.write("\n")


def say(line: str, err: bool = False) -> None:
    """One line on standard output, or error; names from anywhere do not steer the terminal."""
    typer.echo(visible(line), err=err)


def fields(rows: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair a line, values aligned."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"{name:<{width}}  {value}")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """A table as wide as its content; the columns named in `right` are aligned to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def plain(cell: str) -> Text:  # rich reads a `str` as markup, of which a list in brackets is a tag
        return Text(visible(cell))

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        grid.add_column(plain(name), justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*map(plain, row))
    # Wide enough for any row: a cut cell would hide what a script or a person came for.
    Console(width=1000).print(grid)


def following(hint: str) -> None:
    """The last line of a command: what to do next."""
    say(f"next: {hint}")
