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
    if json_output:
        emit(run_document(folder))
        return
    print_run(folder)
    following(next_step(folder))


def next_step(folder: "RunFolder") -> str:
    commands = {"finished": "replay", "unfinished": "resume", "running": "watch"}
    return f"crh-train {commands[folder.status]} {folder.argument}"


def _stop(document: Mapping[str, Any]) -> str:
    """Of a run that acts on its diagnoses, that they ended it."""
    early = document["status"] == "finished" and document["epochs"] < document["config"]["engine"]["epochs"]
    return ", stopped by its diagnosis" if early and "diagnostics" in document["config"] else ""


def print_run(folder: "RunFolder") -> None:
    """The run for a person."""
    from crh_train.run_summary import run_document

    document = run_document(folder)
    config, validation = document["config"], document["validation"]
    choices = " · ".join(config[part]["name"] for part in ("data", "task", "model", "loss", "optimizer", "scheduler"))
    rows = [
        ("run", f"{document['run']}  ({document['status']})"),
        ("configuration", " ".join([document["conf"], *document["overrides"]])),
        ("parts", choices),
        ("seed", str(document["seed"])),
        (
            "progress",
            f"{document['steps']} steps, epoch {document['epochs']} of {config['engine']['epochs']}{_stop(document)}",
        ),
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
        ("chronicle head", document["chronicle_head"]),
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
