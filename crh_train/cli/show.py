"""`crh-train show`: one run, with its identity, its result and what to do with it."""

import json
from pathlib import Path
from typing import Any

from crh_train.chronicle import LINES_NAME, audit
from crh_train.cli.output import HashArgument, JsonOption, RunsOption, command, emit, fields, following
from crh_train.run_store import RunFolder, RunStore

SHOWN = ("loss", "psnr", "baseline_psnr", "ssim", "nmse", "mse", "accuracy", "f1")


@command
def show(run: HashArgument, runs: RunsOption = Path("runs"), json_output: JsonOption = False) -> None:
    """Show a run: configuration, data, progress, result, proof."""
    folder = RunStore(runs).find(run)
    if json_output:
        emit(run_document(folder))
        return
    print_run(folder)
    following(next_step(folder))


def next_step(folder: RunFolder) -> str:
    commands = {"finished": "replay", "unfinished": "resume", "running": "show"}
    return f"crh-train {commands[folder.status]} {folder.name}"


def run_document(folder: RunFolder) -> dict[str, Any]:
    """What is known of a run, as JSON. Numbers of the result are null until it is finished."""
    run, session = folder.run_document(), folder.sessions()[0]
    audited = audit(folder.path, folder.run_hash)
    last = audited.records[-1] if audited.records else None
    stored = folder.checkpoints()
    return {
        "run": folder.name,
        "run_hash": folder.run_hash,
        "status": folder.status,
        "conf": session["command"]["conf"],
        "overrides": session["command"]["overrides"],
        **run,
        "config": folder.config_document()["config"],
        "steps": 0 if last is None else last.step,
        "epochs": 0 if last is None else last.epoch + 1,
        "last_loss": None if last is None else str(last.loss),
        "validation": validation_of(folder),
        "checkpoint": str(stored[-1].path) if stored else None,
        "checkpoint_hash": stored[-1].name.hash if stored else None,
        "chronicle": str(folder.path / LINES_NAME),
        "chronicle_head": audited.good.head,
        "report": str(folder.path / "reports" / "session_summary.md") if folder.finished else None,
    }


def validation_of(folder: RunFolder) -> dict[str, Any] | None:
    """The metrics of a finished run, name to number or null; `verify` checks the file they come from."""
    path = folder.path / "reports" / "validation_metrics.json"
    if not folder.finished:
        return None
    metrics: dict[str, Any] = json.loads(path.read_bytes())["metrics"]
    return {name: entry["value"] for name, entry in metrics.items()}


def print_run(folder: RunFolder) -> None:
    """The run for a person."""
    document = run_document(folder)
    config, validation = document["config"], document["validation"]
    choices = " · ".join(config[part]["name"] for part in ("data", "task", "model", "loss", "optimizer", "scheduler"))
    rows = [
        ("run", f"{document['run']}  ({document['status']})"),
        ("configuration", " ".join([document["conf"], *document["overrides"]])),
        ("parts", choices),
        ("seed", str(document["seed"])),
        ("progress", f"{document['steps']} steps, epoch {document['epochs']} of {config['engine']['epochs']}"),
        ("last loss", "–" if document["last_loss"] is None else document["last_loss"]),
    ]
    if validation is not None:
        shown = [f"{name} {validation[name]:.4f}" for name in SHOWN if validation[name] is not None]
        rows.append(("held out", " · ".join(shown)))
    rows += [
        ("run hash", document["run_hash"]),
        ("config hash", document["config_hash"]),
        ("dataset state", document["dataset_state"]),
        ("checkpoint", document["checkpoint"] or "–"),
        ("chronicle head", document["chronicle_head"]),
        ("report", document["report"] or "–"),
    ]
    fields(rows)
