"""`crh-train diff`: how two runs differ, and where their bits part."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crh_train.cli.output import (
    JsonOption,
    RunsOption,
    RuntimeArguments,
    command,
    emit,
    fields,
    following,
    run_names,
    table,
)
from crh_train.errors import Interrupted
from crh_train.promises import depends_on_machine
from crh_train.visible import visible

if TYPE_CHECKING:
    from crh_train.divergence import ArrayDifference
    from crh_train.first_operation import FirstOperation
    from crh_train.run_difference import RunDifference
    from crh_train.run_folder import RunFolder

LISTED = 8
SHOWN_CHARACTERS = 80
SHOWN_DIGITS = 12

Row = tuple[str, str, str, str]
"""Key, A's value, B's value, remark."""


@command
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A run's hash, or its beginning.", autocompletion=run_names)],
    b: Annotated[str, typer.Argument(metavar="B", help="The other run's.", autocompletion=run_names)],
    overrides: RuntimeArguments = None,
    operation: Annotated[
        bool,
        typer.Option("--operation", help="Do both again from the last state that they share, and name the operation."),
    ] = False,
    runs: RunsOption = Path("runs"),
    runs_b: Annotated[
        Path | None, typer.Option("--runs-b", metavar="DIR", help="Folder of B, where that is another one.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Show how two runs differ, and nothing else: configuration, data, environment, program, then the first step and
    the first checkpoint of which the bits part.

    Exit code 0 where no bit of chronicle and checkpoints differs, 1 where one does.

    crh-train diff 81e3 b7a1

    crh-train diff 81e3 81e3 --runs-b /from/the/other/machine --operation
    """
    from crh_train import first_operation, run_difference
    from crh_train.run_store import RunStore

    folders = RunStore(runs).find(a), RunStore(runs if runs_b is None else runs_b).find(b)
    found = run_difference.compare(*folders)
    first = _first_operation(folders, found, overrides or []) if operation and found.parted_by is not None else None
    if json_output:
        shown = None if first is None else first_operation.document(first)
        emit({**run_difference.document(found), "operation": shown})
    else:
        _print(folders, found, first)
        following(_next(folders, found, first))
    if not found.identical:
        raise typer.Exit(1)


def _first_operation(
    folders: "tuple[RunFolder, RunFolder]", found: "RunDifference", overrides: Sequence[str]
) -> "FirstOperation":
    from crh_train.cli.rerun_processes import rerun_both
    from crh_train.first_operation import find

    assert found.parted_by is not None
    try:
        with rerun_both(*folders, overrides) as ask:
            return find(ask, found.equal_after, found.parted_by)
    except KeyboardInterrupt as stop:
        raise Interrupted("the search for the operation was stopped; no run was touched: give it again") from stop


def _next(folders: "tuple[RunFolder, RunFolder]", found: "RunDifference", first: "FirstOperation | None") -> str:
    if found.parted_by is not None and first is None:
        a, b = folders
        where = a.argument.removeprefix(a.name)
        other = "" if b.path.parent == a.path.parent else f" --runs-b {shlex.quote(str(b.path.parent))}"
        return f"crh-train diff {a.name} {b.name}{where}{other} --operation"
    if first is not None and not all(first.reproduced):
        return f"crh-train replay {folders[first.reproduced.index(False)].argument}"
    return f"crh-train show {folders[1].argument}"


def _print(folders: "tuple[RunFolder, RunFolder]", found: "RunDifference", first: "FirstOperation | None") -> None:
    rows: list[tuple[str, ...]] = [("run", "", *(folder.name for folder in folders), "")]
    for part in ("configuration", "data", "environment", "program"):
        entries = [(each.key, each.text("a"), each.text("b"), "") for each in getattr(found, part)]
        rows += _section(part, entries)
    rows += _section(
        "chronicle",
        [(f"step {each.step}: {each.field}", each.recorded, each.replayed, _ulp(each.ulp)) for each in found.chronicle],
    )
    if found.state is not None:
        rows += _section("state", [_array(f"step {found.state.step}: ", each) for each in found.state.arrays])
    table(["", "", "A", "B", ""], [[_short(cell) for cell in row] for row in rows])
    fields(_verdict(folders, found, first))


def _section(name: str, rows: Sequence[Row]) -> list[tuple[str, ...]]:
    shown: list[tuple[str, ...]] = [(name if i == 0 else "", *row) for i, row in enumerate(rows[:LISTED])]
    more = len(rows) - LISTED
    return [*shown, ("", f"and {more} more, which --json shows", "", "", "")] if more > 0 else shown


def _array(prefix: str, found: "ArrayDifference") -> Row:
    if found.value_a is None or found.value_b is None:
        return f"{prefix}{found.name}", found.a or "–", found.b or "–", ""
    element = list(found.element) if found.element else ""
    remark = [] if found.ulp is None else [f"{found.ulp} ulp"]
    if found.elements != 1:
        remark.append(f"{found.differing} of {found.elements} elements")
        remark += [] if found.largest_ulp is None else [f"at most {found.largest_ulp} ulp"]
    return f"{prefix}{found.name}{element}", found.value_a, found.value_b, ", ".join(remark)


def _verdict(
    folders: "tuple[RunFolder, RunFolder]", found: "RunDifference", first: "FirstOperation | None"
) -> list[tuple[str, str]]:
    steps = f"{found.steps_compared} steps, {found.checkpoints_compared} checkpoints"
    rows = [("compared", steps)]
    if found.parted_by is not None:
        shared = f"the checkpoint of step {found.equal_after}" if found.equal_after else "no checkpoint"
        rows.append(("parted", f"by step {found.parted_by}; before it they share {shared}"))
    elif not found.identical:
        rows.append(("parted", f"nowhere: A goes on to step {found.steps[0]}, B to step {found.steps[1]}"))
    if first is not None:
        rows += told(first)
        levels = [folder.config_document()["config"]["determinism"]["name"] for folder in folders]
        if first.kind in ("operation", "program") and any(map(depends_on_machine, levels)):
            rows.append(
                ("caution", "without portable arithmetic, XLA fuses operations: in the whole step others may part")
            )
    verdict = "identical: no bit of chronicle and checkpoints differs" if found.identical else "DIFFERENT"
    return [*rows, ("verdict", verdict)]


def told(first: "FirstOperation") -> list[tuple[str, str]]:
    """What was found by doing both runs again."""
    rows: list[tuple[str, str]] = []
    if first.kind == "none":
        others = " and ".join(name for name, same in zip("AB", first.reproduced, strict=True) if not same)
        rows.append(("operation", f"none: done again here, both give the same bits, which are not those of {others}"))
        return rows
    when = "before the first step" if first.step == 0 else f"in step {first.step}"
    if first.kind == "input":
        rows.append(("operation", f"none yet: {when} the input differs"))
    elif first.kind == "program":
        rows.append(("operation", f"{when}, none by itself: the operations of both give the same bits one by one"))
    else:
        each = first.b if first.a is None else first.a
        assert each is not None
        inside = f", {each.within}" if each.within else ""
        place = f"{each.where or 'a place that JAX does not tell'}{inside}"
        rows.append(("operation", f"{when}, number {first.number} of {first.function}: {each.primitive} at {place}"))
        if first.b is not None and first.b.where != each.where:
            rows.append(("in B", f"{first.b.primitive} at {first.b.where}"))
        rows += [("is not", f"{each.key}: {each.text('a')} in A, {each.text('b')} in B") for each in first.causes]
        if not first.causes:
            rows.append(("is", "the same operation of the same operands: only how it was computed differs"))
    if first.result is not None:
        key, a, b, remark = _array("", first.result)
        rows.append(
            ("gives" if first.kind == "operation" else "input", f"{key}: {a} in A, {b} in B{remark and f' ({remark})'}")
        )
    for name, functions in zip("AB", first.made_otherwise, strict=True):
        if functions:
            rows.append(
                ("caution", f"operations are today's code's; {name} was archived with another {', '.join(functions)}")
            )
    return rows


def _ulp(distance: int | None) -> str:
    return "" if distance is None else f"{distance} ulp"


def _short(text: str) -> str:
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return text[:SHOWN_DIGITS]
    text = visible(text)  # before it is cut, so that no more is shown than it says
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
