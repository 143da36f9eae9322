"""What a run has to tell another tool: the numbers of every step, the result, the settings, and what it is."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from crh_train.chronicle import ChronicleRecord
from crh_train.chronicle_audit import audit
from crh_train.errors import CorruptChronicle, UsageError
from crh_train.run_store import RunFolder
from crh_train.run_summary import validation_of

SERIES = ("loss", "coherence", "lr", "grad_norm")
"""Fields of a chronicle's record that are curves; exported as `train/<name>`, float32."""

PICTURE = "reports/cases.png"
"""Of a finished run, where its task has one."""


class Contents(NamedTuple):
    """Of a run, finished or not. All names are sorted."""

    records: Sequence[ChronicleRecord]
    metrics: Mapping[str, float]  # held_out/<metric>; empty before the end
    settings: Mapping[str, str | bool | float]  # every value of the configuration by its dotted name, and the seed
    identity: Mapping[str, str]  # hashes, command and version, by what they are called


def contents_of(folder: RunFolder) -> Contents:
    """Raises `CorruptChronicle` where a line is damaged; one that is being written is left out."""
    records: list[ChronicleRecord] = []
    audited = audit(folder.path, folder.run_hash, records.append)
    if audited.problem is not None and (folder.finished or not audited.torn):
        raise CorruptChronicle(
            f"{folder.path}: {audited.problem}; nothing was written. `crh-train verify {folder.argument}` says more"
        )
    measured = validation_of(folder) or {}
    metrics = {f"held_out/{name}": float(measured[name]) for name in sorted(measured) if measured[name] is not None}
    return Contents(records, metrics, _settings(folder), _identity(folder, audited.good.head))


def whole_run_only(target: str, which: str | None) -> None:
    """Raises `UsageError` where one checkpoint is asked for."""
    if which is not None:
        raise UsageError(f"--to {target} writes the whole run; --checkpoint is for --to safetensors")


def _settings(folder: RunFolder) -> dict[str, str | bool | float]:
    flat: dict[str, str | bool | float] = {"engine.seed": folder.run_document()["seed"]}

    def visit(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key in value:
                visit(f"{name}.{key}" if name else key, value[key])
        else:
            flat[name] = value if isinstance(value, str | bool | int | float) else str(value)

    visit("", folder.config_document()["config"])
    return {name: flat[name] for name in sorted(flat)}


def _identity(folder: RunFolder, head: str) -> dict[str, str]:
    session, run = folder.sessions()[0], folder.run_document()
    command = shlex.join([f"conf={session['command']['conf']}", *session["command"]["overrides"]])
    return {
        "run hash": folder.run_hash,
        "config hash": run["config_hash"],
        "dataset state": run["dataset_state"],
        "seed": str(run["seed"]),
        "chronicle head": head,
        "command": f"crh-train run {command}",
        "crh-train": session["version"],
    }
