"""`crh-train compare`: finished runs beside one another, over seeds."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crh_train.cli.output import JsonOption, RunsOption, command, emit, following, run_names, say, store_at, table
from crh_train.errors import UsageError

if TYPE_CHECKING:
    from crh_train.comparison import Comparison, Group, Result
    from crh_train.run_store import RunStore
    from crh_train.sweep import Spread


@command
def compare(
    hashes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HASH]...", help="Runs to compare; none: all finished ones.", autocompletion=run_names),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="NAME", help="A held-out metric to show; may be repeated.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="METRIC", help="The best first; -METRIC: the worst first.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV (RFC 4180) in full precision.")] = False,
    runs: RunsOption = Path("runs"),
    json_output: JsonOption = False,
) -> None:
    """Compare finished runs: mean ± sd over the seeds of each configuration, and the parameters that differ.

    Runs on other data, or of another task, are never averaged together. The deviation is that of a sample.

    crh-train compare

    crh-train compare --sort ssim --metric ssim --metric psnr

    crh-train compare --csv > results.csv
    """
    from crh_train import comparison

    if as_csv and json_output:
        raise UsageError("--csv and --json each print one document: give one of the two")
    store = store_at(runs)
    results, left_out = _given(store, hashes) if hashes else _all(store)
    found = comparison.compare(results, metric or [], sort)
    for name, why in left_out:
        say(f"left out: {name}: {why}", err=True)
    if as_csv:
        _print_csv(found)
    elif json_output:
        emit(
            {
                "parameters": found.parameters,
                "metrics": found.metrics,
                "groups": [_document(group) for group in found.groups],
                "left_out": [{"run": name, "why": why} for name, why in left_out],
            }
        )
    elif not found.groups:
        say(f"no finished runs in {runs}")
        following("crh-train run conf=mri_cosine")
    else:
        _print(found)
        following(f"crh-train show {store.find(found.groups[0].runs[0]).argument}")


def _given(store: "RunStore", hashes: Sequence[str]) -> "tuple[list[Result], list[tuple[str, str]]]":
    from crh_train.comparison import result_of

    results = {}
    for prefix in hashes:
        folder = store.find(prefix)
        result = result_of(folder)
        if result is None:
            raise UsageError(f"run {folder.name} is {folder.status}: only finished runs are compared; leave it out")
        results[result.run_hash] = result
    return list(results.values()), []


def _all(store: "RunStore") -> "tuple[list[Result], list[tuple[str, str]]]":
    """Every finished run; the others with the reason."""
    from crh_train.comparison import result_of
    from crh_train.errors import InputError

    results, left_out = [], []
    for folder in store.list():
        try:
            result = result_of(folder)
        except InputError as error:  # one damaged run must not hide the others
            left_out.append((folder.name, str(error)))
            continue
        if result is None:
            left_out.append((folder.name, folder.status))
        else:
            results.append(result)
    return results, left_out


def _document(group: "Group") -> dict[str, Any]:
    metrics = {name: None if found is None else found._asdict() for name, found in group.metrics.items()}
    return {**group._asdict(), "metrics": metrics}


def _print(found: "Comparison") -> None:
    rows = [
        [
            *(_short(_text(group.parameters[key])) if key in group.parameters else "–" for key in found.parameters),
            str(len(group.seeds)),
            *(_spread(group.metrics[name]) for name in found.metrics),
        ]
        for group in found.groups
    ]
    columns = [*found.parameters, "seeds", *found.metrics]
    table(columns, rows, right=["seeds"])


def _print_csv(found: "Comparison") -> None:
    writer = csv.writer(sys.stdout)  # whose lines end in CR LF, as RFC 4180 has them
    spreads = [f"{name}_{part}" for name in found.metrics for part in ("mean", "sd")]
    writer.writerow([*found.parameters, "seeds", *spreads])
    for group in found.groups:
        numbers = [
            "" if spread is None or value is None else repr(value)
            for spread in (group.metrics[name] for name in found.metrics)
            for value in (spread or (None, None))
        ]
        parameters = [_text(group.parameters[key]) if key in group.parameters else "" for key in found.parameters]
        writer.writerow([*parameters, len(group.seeds), *numbers])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    return text[:12] if len(text) == 64 else text  # a hash


def _spread(found: "Spread | None") -> str:
    if found is None:
        return "–"
    return f"{found.mean:.6g}" if found.sd is None else f"{found.mean:.6g} ± {found.sd:.2g}"
