"""`crh-train show`: one run, with its identity, its result and what to do with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crh_train.cli.output import HashArgument, JsonOption, RunsOption, command, emit, fields, following

if TYPE_CHECKING:
    from crh_train.run_folder import RunFolder

SHOWN = ("loss", "psnr", "baseline_psnr", "ssim", "nmse", "dice", "hd95", "auc", "accuracy", "f1", "ece", "mse")
SPREAD = ("psnr", "ssim", "dice", "hd95", "auc", "accuracy")


@command
def show(run: HashArgument, runs: RunsOption = Path("runs"), json_output: JsonOption = False) -> None:
    """Show a run: configuration, data, progress, result, proof."""
    from crh_train.run_store import RunStore
    from crh_train.run_summary import run_document

    folder = RunStore(runs).find(run)
    document = run_document(folder)
    if json_output:
        emit(document)
        return
    print_run(document)
    following(next_step(folder, document["status"]))


def next_step(folder: "RunFolder", status: str) -> str:
    """The command that goes on with a run of that status."""
    commands = {"finished": "replay", "unfinished": "resume", "running": "watch", "damaged": "verify"}
    return f"crh-train {commands[status]} {folder.argument}"


def result_document(folder: "RunFolder") -> dict[str, Any]:
    """`run_document` of a run that was made or found. Raises `CorruptChronicle` where it is not a result to rely on."""
    from crh_train.errors import CorruptChronicle
    from crh_train.run_summary import run_document

    document = run_document(folder)
    if document["status"] == "damaged":
        raise CorruptChronicle(damaged(folder, document["message"]))
    return document


def damaged(folder: "RunFolder", message: str) -> str:
    """What an error says of a run that lost lines of its chronicle."""
    return f"run {folder.name} is DAMAGED: {message}; `crh-train verify {folder.argument}` says what can be trusted"


def _stop(document: Mapping[str, Any]) -> str:
    """Of a run that acts on its diagnoses, that they ended it."""
    early = document["status"] == "finished" and document["epochs"] < document["config"]["engine"]["epochs"]
    return ", stopped by its diagnosis" if early and "diagnostics" in document["config"] else ""


def _progress(document: Mapping[str, Any]) -> str:
    if document["status"] == "damaged":
        return f"not known: {document['message']}"
    epochs = f"epoch {document['epochs']} of {document['config']['engine']['epochs']}"
    return f"{document['steps']} steps, {epochs}{_stop(document)}"


def print_run(document: Mapping[str, Any]) -> None:
    """A `run_document` for a person."""
    config, validation = document["config"], document["validation"]
    choices = " · ".join(config[part]["name"] for part in ("data", "task", "model", "loss", "optimizer", "scheduler"))
    rows = [
        ("run", f"{document['run']}  ({'DAMAGED' if document['status'] == 'damaged' else document['status']})"),
        ("configuration", " ".join([document["conf"], *document["overrides"]])),
        ("parts", choices),
        ("seed", str(document["seed"])),
        ("progress", _progress(document)),
        ("last loss", "–" if document["last_loss"] is None else document["last_loss"]),
    ]
    if validation is not None:
        there = [name for name in SHOWN if name in validation and validation[name] is not None]
        shown = [f"{name} {float(validation[name]):.4f}" for name in there]
        rows.append(("held out", " · ".join(shown)))
        rows += _spread(document["statistics"])
    rows += [
        ("run hash", document["run_hash"]),
        ("config hash", document["config_hash"]),
        ("dataset state", document["dataset_state"]),
        ("program", document["program"]),
        ("checkpoint", document["checkpoint"] or "–"),
        ("chronicle head", document["chronicle_head"] or "–"),
        ("report", document["report"] or "–"),
    ]
    fields(rows)


def _spread(statistics: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Of several cases, what their numbers vary by; of one, or of a run that kept none, nothing."""
    if statistics is None:
        return []
    there = {name: statistics[name] for name in SPREAD if name in statistics}
    shown = [
        f"{name} {float(found['interval'][0]):.4f} to {float(found['interval'][1]):.4f}"
        for name, found in there.items()
        if found["interval"] is not None
    ]
    cases = max((found["n"] or 0 for found in there.values()), default=0)
    return [("95 % interval", f"{' · '.join(shown)} over {cases} cases")] if shown else []
