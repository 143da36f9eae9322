"""`crh-train list`: the runs of a store."""

from pathlib import Path
from typing import Any

from crh_train.cli.output import JsonOption, RunsOption, command, emit, following, say, store_at, table
from crh_train.cli.show import SHOWN


@command
def list_runs(runs: RunsOption = Path("runs"), json_output: JsonOption = False) -> None:
    """List all runs: status, seed, progress, last loss, held-out result."""
    from crh_train.errors import InputError
    from crh_train.run_summary import run_document

    folders = store_at(runs).list()
    documents: list[dict[str, Any]] = []
    for folder in folders:
        try:
            documents.append(run_document(folder))
        except InputError as error:  # one damaged run must not hide the others
            documents.append({"run": folder.name, "status": "damaged", "message": str(error)})
    if json_output:
        emit({"runs": documents})
        return
    if not documents:
        say(f"no runs in {runs}")
        following("crh-train run conf=mri_cosine")
        return
    table(
        ["run", "configuration", "seed", "status", "epoch", "loss", "held out"],
        [_row(document) for document in documents],
        right=["seed", "epoch", "loss"],
    )
    damaged = [folder for folder, each in zip(folders, documents, strict=True) if each["status"] == "damaged"]
    following(f"crh-train verify {damaged[0].argument}" if damaged else f"crh-train show {folders[-1].argument}")


def _row(document: dict[str, Any]) -> list[str]:
    if "conf" not in document:
        return [document["run"], "–", "–", "DAMAGED", "–", "–", document["message"]]
    about = [document["run"], " ".join([document["conf"], *document["overrides"]]), str(document["seed"])]
    if document["status"] == "damaged":
        return [*about, "DAMAGED", "–", "–", document["message"]]
    return [
        *about,
        document["status"],
        f"{document['epochs']}/{document['config']['engine']['epochs']}",
        document["last_loss"] or "–",
        _result(document["validation"]),
    ]


def _result(validation: dict[str, float | None] | None) -> str:
    if validation is None:
        return "–"
    there = {name: validation[name] for name in SHOWN[1:] if name in validation}
    found = [f"{name} {float(value):.3f}" for name, value in there.items() if value is not None]
    return " · ".join(found[:3])
