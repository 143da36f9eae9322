"""`crh-train list`: the runs of a store."""

from pathlib import Path

import typer

from crh_train.cli.output import JsonOption, RunsOption, command, emit, following, table
from crh_train.cli.show import SHOWN


@command
def list_runs(runs: RunsOption = Path("runs"), json_output: JsonOption = False) -> None:
    """List all runs: status, seed, progress, last loss, held-out result."""
    from crh_train.run_store import RunStore
    from crh_train.run_summary import run_document

    documents = [run_document(folder) for folder in RunStore(runs).list()]
    if json_output:
        emit({"runs": documents})
        return
    if not documents:
        typer.echo(f"no runs in {runs}")
        following("crh-train run conf=mri_cosine")
        return
    table(
        ["run", "configuration", "seed", "status", "epoch", "loss", "held out"],
        [
            [
                document["run"],
                " ".join([document["conf"], *document["overrides"]]),
                str(document["seed"]),
                document["status"],
                f"{document['epochs']}/{document['config']['engine']['epochs']}",
                document["last_loss"] or "–",
                _result(document["validation"]),
            ]
            for document in documents
        ],
        right=["seed", "epoch", "loss"],
    )
    following(f"crh-train show {documents[-1]['run']}")


def _result(validation: dict[str, float | None] | None) -> str:
    if validation is None:
        return "–"
    found = [f"{name} {value:.4g}" for name in SHOWN[1:] if (value := validation[name]) is not None]
    return " · ".join(found[:3])
