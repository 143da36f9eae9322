"""`crh-train diagnose`: how training goes or went, and what to do about it."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crh_train.cli.output import HashArgument, JsonOption, RunsOption, command, emit, fields, following, table
from crh_train.cli.show import damaged, next_step

if TYPE_CHECKING:
    from crh_train.run_folder import RunFolder


@command
def diagnose(run: HashArgument, runs: RunsOption = Path("runs"), json_output: JsonOption = False) -> None:
    """Say over which steps a run was stable, improving, degrading, oscillating or diverging, and what to do now.

    From the chronicle alone, so of a running or unfinished run too; the same on every machine. --json has every number.
    Examples:

    crh-train diagnose 81e3

    crh-train diagnose 81e3 --json
    """
    from crh_train.diagnosis_summary import diagnosis_document
    from crh_train.errors import CorruptChronicle
    from crh_train.run_store import RunStore

    folder = RunStore(runs).find(run)
    document = diagnosis_document(folder)
    if document["status"] == "damaged":
        raise CorruptChronicle(damaged(folder, document["message"]))
    if json_output:
        emit(document)
        return
    _print(document)
    following(_next(folder, document))


def _print(document: Mapping[str, Any]) -> None:
    present = document["present"]
    if present is not None:
        rows = [
            [
                f"{span['first_step']}–{span['last_step']}",
                span["class_name"],
                f"{span['confidence']:.2f}",
                span["reason"],
            ]
            for span in document["spans"]
        ]
        table(["steps", "class", "confidence", "because, in the end"], rows, right=["steps", "confidence"])
    steps = f"{document['steps']} steps"
    shown = [("run", f"{document['run']}  ({document['status']}, {steps})")]
    for change in document["changes"]:
        done = "the run was stopped" if change["change"] == "stop" else "the learning rate was lowered"
        factor = f", to {change['learning_rate_factor']:g} of the schedule's" if change["change"] == "lower" else ""
        shown.append(("done", f"after step {change['step']} {done}{factor}: {change['reason']}"))
    if present is None:
        shown.append(("now", f"nothing can be said yet: it takes {document['windows']['long']} steps"))
    else:
        since = document["spans"][-1]["first_step"]
        shown.append(("now", f"{present['class_name']} since step {since}: {present['reason']}"))
        shown.append(
            ("advice", f"{present['action_name']}, confidence {present['confidence']:.2f}: {present['advice']}")
        )
    fields(shown)


def _next(folder: "RunFolder", document: Mapping[str, Any]) -> str:
    """Where something is to be done and the run does not do it, a run that does."""
    from crh_train.run_folder import runs_option

    present = document["present"]
    if present is None or present["action_name"] == "hold" or document["acts"]:
        return next_step(folder, document["status"])
    asked = folder.sessions()[0]["command"]
    words = ["crh-train", "run", f"conf={asked['conf']}", *asked["overrides"], "diagnostics.act=true"]
    return f"{shlex.join(words)}{runs_option(folder.path.parent)}"
