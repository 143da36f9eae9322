"""The ledger of a sweep: what became of each of its combinations, one line of JSON after another, only appended to.

    runs/sweeps/<first 16 digits of the sweep's hash>.jsonl
      line 1    {"record": "sweep", "format": 1, "sweep": the hash, "combinations": [{"combination", "words"}], "sum"}
      later     {"record", "combination", "run", …, "sum"}, with as "record"
        begun        a process was started for it
        finished     and "metrics", the held-out ones by name
        failed       and "error", "message", "exit_code"
        interrupted  `crh-train resume` goes on with "run"
    runs/sweeps/<…>.lock       held by the one process that drives the sweep
    runs/sweeps/<…>.workers    held together by the processes of its runs, so that a sweep that is started again can
                               wait until those that a killed one left have saved
    runs/sweeps/<…>.launcher/  what a Hydra launcher leaves (cli/launcher_runs.py)

"combination" is the hash that `combinations.py` gives it; "run" the run's hash, null where no run was made. "sum" is
the SHA-256 of the canonical JSON of the other members. A line is appended whole and synced before anything builds on
it. So only the last line can be torn, by a crash: it is cut off. Any other that is not as it was written is
`CorruptLedger`. Where the ledger and the runs disagree, the runs are right: see `combinations.state`.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crh_train import filesystem, plain_json, run_lock
from crh_train.digest import canonical_json, digest_json
from crh_train.errors import CorruptLedger
from crh_train.regular_file import read_regular
from crh_train.shape import Shape, misfit

FOLDER_NAME = "sweeps"
NAME_DIGITS = 16
FORMAT = 1
MAX_BYTES = 256 << 20  # ten thousand combinations, each begun many times

_HEADER: Shape = {
    "record": str,
    "format": int,
    "sweep": str,
    "combinations": [{"combination": str, "words": [str]}],
    "sum": str,
}
_BEGUN: Shape = {"record": str, "combination": str, "run": object, "sum": str}
_RECORDS: Mapping[str, Shape] = {
    "begun": _BEGUN,
    "finished": {**_BEGUN, "metrics": dict},
    "failed": {**_BEGUN, "error": str, "message": str, "exit_code": int},
    "interrupted": _BEGUN,
}


class Place(NamedTuple):
    """Where the files of a sweep are."""

    folder: Path
    sweep: str  # the hash of the sweep

    @property
    def name(self) -> str:
        return self.sweep[:NAME_DIGITS]

    @property
    def ledger(self) -> Path:
        return self.folder / f"{self.name}.jsonl"

    @property
    def workers(self) -> Path:
        return self.folder / f"{self.name}.workers"

    @property
    def launcher(self) -> Path:
        return self.folder / f"{self.name}.launcher"


class Ledger:
    """The ledger at `place`, open to be appended to; `last` is each combination's last record, where it has one."""

    def __init__(self, place: Place, descriptor: int, last: dict[str, dict[str, Any]]) -> None:
        self._path = place.ledger
        self._descriptor = descriptor
        self.last = last

    def append(self, record: str, combination: str, run: str | None, **more: Any) -> None:
        """Add a record, durably."""
        document = {"record": record, "combination": combination, "run": run, **more}
        filesystem.write(self._descriptor, _line(document), self._path)
        filesystem.fdatasync(self._descriptor, self._path)
        self.last[combination] = document


@contextlib.contextmanager
def owned(root: Path, sweep: str) -> Iterator[Place]:
    """Be the only process that drives the sweep. Raises `RunBusy` naming the one that does."""
    place = Place(root / FOLDER_NAME, sweep)
    filesystem.make_folders(place.folder)
    with run_lock.locked(place.folder / f"{place.name}.lock", f"sweep {place.name}"):
        yield place


@contextlib.contextmanager
def opened(place: Place, combinations: Mapping[str, Sequence[str]]) -> Iterator[Ledger]:
    """The ledger of the sweep of `combinations`, hash to words; made if it is not there. Raises `CorruptLedger`."""
    if not place.ledger.exists():
        listed = [{"combination": each, "words": list(words)} for each, words in combinations.items()]
        header = {"record": "sweep", "format": FORMAT, "sweep": place.sweep, "combinations": listed}
        with filesystem.NewFile(place.folder) as file:
            file.write(_line(header))
            file.publish(place.ledger.name)
    descriptor = filesystem.open_append(place.ledger)
    try:
        records, whole = read(place)
        if place.ledger.stat().st_size > whole:
            filesystem.truncate(place.ledger, whole)
        yield Ledger(place, descriptor, {record["combination"]: record for record in records})
    finally:
        os.close(descriptor)


def read(place: Place) -> tuple[list[dict[str, Any]], int]:
    """All records after the first line, the oldest first, and the bytes that whole lines take; changes nothing.

    Raises `CorruptLedger` naming the line that is not as it was written.
    """
    data = read_regular(place.ledger, MAX_BYTES, CorruptLedger)
    *lines, _ = data.split(b"\n")  # what follows the last line's end was being written
    records: list[dict[str, Any]] = []
    whole = 0
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_parsed(line, number == 1))
        except ValueError as error:
            if number == len(lines) > 1:
                break
            raise CorruptLedger(
                f"{place.ledger}: line {number} is not as it was written: {error}; restore the file from a copy, or "
                "remove it: finished runs are not done twice without it either"
            ) from error
        whole += len(line) + 1
    if not records or records[0]["sweep"] != place.sweep:
        raise CorruptLedger(
            f"{place.ledger}: expected the ledger of sweep {place.sweep}, found another one's; remove the file: "
            "finished runs are not done twice without it either"
        )
    return records[1:], whole


def _line(document: Mapping[str, Any]) -> bytes:
    return canonical_json({**document, "sum": digest_json(dict(document))}) + b"\n"


def _parsed(line: bytes, first: bool) -> dict[str, Any]:
    """Raises `ValueError` with the reason."""
    document = plain_json.parse(line)
    if (message := misfit(document, {"record": str, "sum": str, ...: object})) is not None:
        raise ValueError(message)
    stated = document["sum"]
    content = {key: value for key, value in document.items() if key != "sum"}
    if stated != digest_json(content):
        raise ValueError("its SHA-256 is not the one that it states")
    kind = document["record"]
    shape = _HEADER if first else _RECORDS[kind] if kind in _RECORDS else None
    if shape is None:
        raise ValueError(f"expected a record {', '.join(_RECORDS)}, found {kind!r:.40}")
    if (message := misfit(document, shape)) is not None:
        raise ValueError(message)
    if first and document["format"] != FORMAT:
        raise ValueError(f"expected format {FORMAT}, found {document['format']}; another crh-train wrote it")
    return content
