"""`crh-train export`: a run for the tools of others."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from crh_train.cli.output import HashArgument, JsonOption, RunsOption, command, emit, fields, following
from crh_train.cli.verify import found_run


def _offered(incomplete: str) -> list[str]:
    from crh_train.exports import targets

    return [name for name in targets() if name.startswith(incomplete)]


@command
def export(
    run: HashArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="TARGET", help="Which tool: mlflow, safetensors, tensorboard.", autocompletion=_offered
        ),
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="PATH", help="Where it goes; of MLflow also a server's address.")
    ],
    checkpoint: Annotated[
        str | None, typer.Option(metavar="last|best|EPOCH", help="Whose weights; the last checkpoint's, unless given.")
    ] = None,
    runs: RunsOption = Path("runs"),
    json_output: JsonOption = False,
) -> None:
    """Write a run, finished or not, for another tool; the run stays as it is, and the same run gives the same files.

    crh-train export 81e3 --to tensorboard -o logs
    crh-train export 81e3 --to safetensors --checkpoint best -o weights.safetensors
    crh-train export 81e3 --to mlflow -o mlflow.db
    """
    from crh_train import filesystem
    from crh_train.errors import UsageError
    from crh_train.exports import TARGETS, targets

    if to not in TARGETS:
        raise UsageError(f"--to {to} is unknown; expected one of: {', '.join(targets())}; nothing was written")
    folder = found_run(run, runs)
    with filesystem.advising("see to the disk, or give another -o"):
        exported = import_module(TARGETS[to]).export(folder, output, checkpoint)
    if json_output:
        emit({"run": folder.name, "to": to, "path": exported.path, **exported.facts})
        return
    fields(
        [
            ("exported", f"{folder.name} to {to}"),
            ("server" if "://" in exported.path else "file", exported.path),
            *exported.facts.items(),
        ]
    )
    following(exported.hint)
