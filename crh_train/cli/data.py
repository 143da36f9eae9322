"""`crh-train data check`: what a configuration's data are, and every file of theirs that cannot be used."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crh_train.cli.output import EXIT_CODES, JsonOption, command, emit, fields, following, say, table

if TYPE_CHECKING:
    from crh_train.data.check import Examination
    from crh_train.data.volume import Source

data = typer.Typer(help="Look at data without training.", no_args_is_help=True)


@command
def check(
    arguments: Annotated[
        list[str], typer.Argument(metavar="conf=NAME [KEY=VALUE]...", help="A configuration and what to change in it.")
    ],
    json_output: JsonOption = False,
) -> None:
    """Open and decode every file of a configuration's data, without training.

    Shows what the files hold, and names each that cannot be used with the reason; then the exit code is 3. Examples:

    crh-train data check conf=mri_cosine data=dicom runtime.data_root=/data/study

    crh-train data check conf=tissue_linear data=nnunet runtime.data_root=/data/Dataset004_Hippocampus
    """
    from crh_train.compose import choices, compose, search_path
    from crh_train.data.check import examine
    from crh_train.errors import ConfigError, DataError

    folders = search_path(Path.cwd())
    names = [argument.removeprefix("conf=") for argument in arguments if argument.startswith("conf=")]
    overrides = [argument for argument in arguments if not argument.startswith("conf=")]
    if len(names) != 1:
        raise ConfigError(f"give exactly one conf=NAME, one of: {', '.join(choices(folders))}")
    config = compose(names[0], overrides, folders)
    found = examine(config)
    if json_output:
        emit(_document(config.data.name, found))
    else:
        _print(config.data.name, found)
        words = " ".join(shlex.quote(argument) for argument in arguments)
        following(
            f"mend what is named, then crh-train data check {words}" if found.problems else f"crh-train run {words}"
        )
    if found.problems:
        raise typer.Exit(DataError.exit_code)


data.command("check", epilog=EXIT_CODES)(check)


def _document(name: str, found: "Examination") -> dict[str, Any]:
    return {
        "source": name,
        "patients": len({case["patient"] for case in found.cases}),
        "channels": None if found.source is None else found.source.channels,
        "classes": None if found.source is None else found.source.classes,
        "samples": dict(found.samples),
        "shape": list(found.shape),
        "cases": [dict(case) for case in found.cases],
        "problems": list(found.problems),
    }


def _print(name: str, found: "Examination") -> None:
    if found.cases:
        columns = ["case", "patient", "split", "files", "shape", "spacing mm", "axes", "intensities", "labels"]
        table(columns, [_row(case) for case in found.cases], right=["files"])
        say("")
    rows = [
        ("source", name),
        ("cases", f"{len(found.cases)} of {_counted(len({case['patient'] for case in found.cases}), 'patient')}"),
    ]
    if found.source is not None:
        rows.append(("pictures", _pictures(found)))
        rows.append(("channels", str(found.source.channels)))
        rows.append(("classes", _classes(found.source)))
        rows.append(("samples", " · ".join(f"{split} {count}" for split, count in found.samples.items()) or "–"))
    rows.append(("verdict", _counted(len(found.problems), "problem") if found.problems else "every file can be used"))
    fields(rows)
    for problem in found.problems:
        say(f"problem: {problem}")


def _pictures(found: "Examination") -> str:
    """What becomes of them, which nobody should learn from the result."""
    cropped = sum(any(size > room for size, room in _sides(case, found)) for case in found.cases)
    padded = sum(any(size < room for size, room in _sides(case, found)) for case in found.cases)
    said = [f"{_counted(count, 'case')} {done}" for count, done in ((cropped, "cropped"), (padded, "padded")) if count]
    return f"data.shape={list(found.shape)}: {', '.join(said) or 'every case as it is'}"


def _sides(case: Mapping[str, Any], found: "Examination") -> Iterable[tuple[int, int]]:
    return zip(case["pictures"], found.shape, strict=True)


def _classes(source: "Source") -> str:
    if source.class_names:
        return f"{source.classes}: {', '.join(source.class_names)}"
    return str(source.classes) if source.classes else "no labels"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _row(case: Mapping[str, Any]) -> list[str]:
    labels = case["labels"]
    return [
        case["case"],
        case["patient"],
        case["split"] or "–",
        str(case["files"]),
        "×".join(map(str, case["shape"])),
        "×".join(f"{step:.4g}" for step in case["spacing"]),
        case["orientation"],
        " · ".join(f"{low:.6g} to {high:.6g}" for low, high in case["channels"]),
        "–" if labels is None else " ".join(map(str, labels if isinstance(labels, list) else [labels])),
    ]
