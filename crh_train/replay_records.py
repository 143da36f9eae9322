"""What replays of a run found, kept beside it: `<run>.replays/<first 16 digits of the file's SHA-256>.json`.

    {"format": 1, "report": the replay's report as JSON, with the machine and the version that replayed}

1. The text MUST be canonical JSON (RFC 8785). It holds no clock: a replay that finds what one before it found on the
   same machine has the same bytes, and adds nothing.
2. The files are no part of the run: a replay touches nothing in its folder, and no hash and no signature covers them.
   Whoever can write here can write one, so a record says what was found on this machine, and only a replay shows it.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from crh_train import filesystem, plain_json
from crh_train.digest import canonical_json, digest_bytes
from crh_train.errors import CorruptRun
from crh_train.regular_file import read_regular
from crh_train.replay_report import ReplayReport, document, parsed
from crh_train.run_folder import RunFolder, listed
from crh_train.shape import Shape, misfit

FORMAT = 1
MAX_RECORD_BYTES = 1 << 20

_DIGITS = 16
_NAME = re.compile(r"[0-9a-f]{16}\.json", re.ASCII)
_REPORT: Shape = {
    **dict.fromkeys(("run_hash", "program", "promise", "version"), str),
    **dict.fromkeys(("first_step", "last_step", "steps_compared", "checkpoints_compared", "segments"), int),
    **dict.fromkeys(("identical", "promised"), bool),
    **{name: [str] for name in ("program_differs", "arrays")},
    "fingerprint": {...: object},
    "difference": object,
    "final_state": object,
}
_DIFFERENCE = {"step": int, "field": str, "recorded": str, "replayed": str, "ulp": object}


def records_path(folder: RunFolder) -> Path:
    return folder.path.with_name(f"{folder.name}.replays")


def record(folder: RunFolder, report: ReplayReport) -> Path:
    """Keep `report`. Raises `StorageFailed` where the runs' folder cannot be written to."""
    data = canonical_json({"format": FORMAT, "report": document(report)})
    path = records_path(folder) / f"{digest_bytes(data)[:_DIGITS]}.json"
    filesystem.make_folders(path.parent)
    with filesystem.NewFile(path.parent) as file:
        file.write(data)
        file.publish(path.name)  # or it is there already, with these bytes
    return path


def records(folder: RunFolder) -> Sequence[ReplayReport]:
    """All that are kept of this run, by the steps that they replayed. Raises `CorruptRun` for what is no record."""
    inside = records_path(folder)
    names = [name for name in (listed(inside) if inside.exists() else []) if _NAME.fullmatch(name)]
    found = [(name, _read(folder, inside / name)) for name in names]
    return [report for _, report in sorted(found, key=lambda each: (each[1].first_step, -each[1].last_step, each[0]))]


def _read(folder: RunFolder, path: Path) -> ReplayReport:
    data = read_regular(path, MAX_RECORD_BYTES, CorruptRun)
    if not digest_bytes(data).startswith(path.stem):
        raise CorruptRun(f"{path}: expected a SHA-256 that begins as its name does; remove it and replay the run again")
    try:
        found = plain_json.parse(data)
        if (message := misfit(found, {"format": int, "report": _REPORT})) is not None:
            raise ValueError(message)
        report = found["report"]
        if report["difference"] is not None and (message := misfit(report["difference"], _DIFFERENCE)) is not None:
            raise ValueError(message)
        if found["format"] != FORMAT or report["run_hash"] != folder.run_hash:
            raise ValueError(f"expected format {FORMAT} and run {folder.name}")
        if canonical_json(found) != data:
            raise ValueError("it is not canonical JSON")
    except ValueError as error:
        raise CorruptRun(f"{path}: expected what `crh-train replay` writes: {error}; remove it") from error
    return parsed(report)
