"""One run on disk: its files, who may write to them, in which order they come to be, and how a crash is mended.
Knows nothing of training or of JAX.

    runs/<first 16 digits of the run hash>/
      run.json          canonical JSON {config_hash, dataset_state, seed, semantics_version}; its SHA-256: the run hash
      config.json       canonical JSON; its SHA-256 is config_hash
      manifest.json     canonical JSON; its SHA-256 is dataset_state
      environment.json  {"sessions": […], "sha256": of the canonical JSON of the sessions}; grows with each resume
      program.json      canonical JSON; its SHA-256 stands in each session, as "program"
      program/          what the steps ran, one file a function (archive.py); their SHA-256 stand in program.json
      chronicle.jsonl, chronicle.chain    (chronicle.py); chronicle.tail: what recovery set aside
      checkpoints/      (checkpoint.py); `….chk.damaged`: what recovery set aside
      reports/          SHA256SUMS comes last and makes the run a finished one
      .lock             locked with flock by the one writer, never removed; holds its process id

What is acknowledged as saved was written in this order: chronicle lines and chain synced; checkpoint written under a
temporary name and synced; renamed without replacing; its folder synced.
"""

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from crh_train import checkpoint, chronicle_writer, filesystem
from crh_train.checkpoint import Checkpoint
from crh_train.checkpoint_header import CheckpointName, parse_name
from crh_train.chronicle import (
    CHAIN_NAME,
    CHAIN_RECORD,
    LINES_NAME,
    ChronicleAudit,
    ChronicleRecord,
    audit,
    genesis,
    read_chronicle,
)
from crh_train.digest import canonical_json, digest_bytes, digest_json
from crh_train.errors import (
    CorruptCheckpoint,
    CorruptChronicle,
    CorruptRun,
    RunBusy,
    UsageError,
)

NAME_DIGITS = 16
DEFAULT_ROOT = Path("runs")
SUMS_NAME = "SHA256SUMS"
RUN_KEYS = ("config_hash", "dataset_state", "seed", "semantics_version")
MAX_DOCUMENT_BYTES = 256 << 20  # a manifest of a million files
DAMAGED_SUFFIX = ".damaged"
PROGRAM_SUFFIX = ".exported"

_FUNCTION_NAME = re.compile(r"[a-z0-9_]+", re.ASCII)
_REPORT_NAME = re.compile(r"reports/[A-Za-z0-9_-][A-Za-z0-9._-]*", re.ASCII)
_LOCK_TRIES = 10
_LOCK_PAUSE = 0.02  # seconds; `status` holds the lock for a moment, which must not look like a writer


class StoredCheckpoint(NamedTuple):
    """A checkpoint's file and what its name says; nothing of its content has been checked."""

    path: Path
    name: CheckpointName


class Identity(NamedTuple):
    """What makes a run the run that it is: three documents, each known by the SHA-256 of its canonical JSON."""

    config: dict[str, Any]
    manifest: dict[str, Any]
    run: dict[str, Any]

    @property
    def run_hash(self) -> str:
        return digest_json(self.run)


class StoredProgram(NamedTuple):
    """The functions that a run is made of, as bytes that any machine can run; what they are says `archive.py`.

    `document["functions"][name]["sha256"]` is that of `files[name]`. No part of a run's identity, which must be known
    before anything is compiled, but of its record.
    """

    document: Mapping[str, Any]  # program.json
    files: Mapping[str, bytes]  # by the function's name

    @property
    def digest(self) -> str:
        return digest_json(self.document)


class Recovered(NamedTuple):
    """Where a run can go on."""

    checkpoint: Checkpoint | None  # the newest good one; None: from the start
    notes: tuple[str, ...]  # what was skipped or set aside, in words


@dataclass(frozen=True)
class RunFolder:
    """One run on disk. Whatever is read is checked against the hash that names it; `CorruptRun` names the file."""

    path: Path

    @property
    def name(self) -> str:
        """The first 16 digits of the run hash."""
        return self.path.name

    @property
    def argument(self) -> str:
        """How a command names this run: with `--runs` where that is not the default."""
        root = self.path.parent
        return self.name if root == DEFAULT_ROOT else f"{self.name} --runs {root}"

    # --- identity ---

    @property
    def run_hash(self) -> str:
        return digest_bytes(self._run_json())

    def run_document(self) -> dict[str, Any]:
        """`{config_hash, dataset_state, seed, semantics_version}`."""
        data = self._run_json()
        document = _parsed(self.path / "run.json", data)
        if not isinstance(document, dict) or tuple(document) != RUN_KEYS or _canonical(document) != data:
            raise CorruptRun(f"{self.path / 'run.json'}: expected canonical JSON of the keys {', '.join(RUN_KEYS)}")
        return document

    def config_document(self) -> Any:
        return self._hashed_document("config.json", self.run_document()["config_hash"])

    def manifest(self) -> Any:
        return self._hashed_document("manifest.json", self.run_document()["dataset_state"])

    def identity(self) -> Identity:
        return Identity(self.config_document(), self.manifest(), self.run_document())

    def sessions(self) -> list[dict[str, Any]]:
        """What `environment.json` holds of each session, the first one first."""
        path = self.path / "environment.json"
        document = _parsed(path, filesystem.read_regular(path, MAX_DOCUMENT_BYTES, CorruptRun))
        if not isinstance(document, dict) or sorted(document) != ["sessions", "sha256"]:
            raise CorruptRun(f"{path}: expected the keys sessions, sha256")
        sessions: list[dict[str, Any]] = document["sessions"]
        canonical = _canonical(sessions)
        if not sessions or canonical is None or document["sha256"] != digest_bytes(canonical):
            raise CorruptRun(f"{path}: the sessions do not have their SHA-256; restore the file from a copy")
        return sessions

    def program_document(self) -> dict[str, Any]:
        """`program.json`: what it says of each archived function."""
        path, session = self.path / "program.json", self.sessions()[0]
        if "program" not in session:
            raise CorruptRun(f"{self.path / 'environment.json'}: expected the program of the first session, found none")
        document = self._hashed_document("program.json", session["program"], "environment.json")
        if not isinstance(document, dict) or "functions" not in document:
            raise CorruptRun(f"{path}: expected the functions of a program")
        for name, function in document["functions"].items():
            if not _FUNCTION_NAME.fullmatch(name) or "sha256" not in function:
                raise CorruptRun(f"{path}: expected a plain name and a SHA-256 of each function, found {name!r}")
        return document

    def program_file(self, name: str) -> bytes:
        """The archived function `name`, which `program.json` lists."""
        path = self.path / program_path(name)
        data = filesystem.read_regular(path, MAX_DOCUMENT_BYTES, CorruptRun)
        expected = self.program_document()["functions"][name]["sha256"]
        if (found := digest_bytes(data)) != expected:
            raise CorruptRun(
                f"{path}: expected the SHA-256 {expected}, which program.json states, found {found}; "
                "restore the file from a copy"
            )
        return data

    def program(self) -> StoredProgram:
        document = self.program_document()
        return StoredProgram(document, {name: self.program_file(name) for name in document["functions"]})

    def _run_json(self) -> bytes:
        path = self.path / "run.json"
        data = filesystem.read_regular(path, MAX_DOCUMENT_BYTES, CorruptRun)
        if not digest_bytes(data).startswith(self.name):
            raise CorruptRun(
                f"{path}: expected the SHA-256 to begin {self.name}, as the folder's name does, found "
                f"{digest_bytes(data)[:NAME_DIGITS]}; restore the file from a copy"
            )
        return data

    def _hashed_document(self, name: str, expected: str, stated_in: str = "run.json") -> Any:
        path = self.path / name
        data = filesystem.read_regular(path, MAX_DOCUMENT_BYTES, CorruptRun)
        if (found := digest_bytes(data)) != expected:
            raise CorruptRun(
                f"{path}: expected the SHA-256 {expected}, which {stated_in} states, found {found}; "
                "restore the file from a copy"
            )
        return _parsed(path, data)

    # --- state ---

    @property
    def finished(self) -> bool:
        return (self.path / "reports" / SUMS_NAME).exists()

    @property
    def status(self) -> str:
        """`running` (a process writes to it now), `finished`, or `unfinished`."""
        if self._locked():
            return "running"
        return "finished" if self.finished else "unfinished"

    def chronicle(self) -> Sequence[ChronicleRecord]:
        """Every line, checked against the chain. Raises `CorruptChronicle`."""
        return read_chronicle(self.path, self.run_hash)

    def checkpoints(self) -> list[StoredCheckpoint]:
        """All checkpoints by their file names, the oldest first; nothing is opened."""
        folder = self.path / "checkpoints"
        found = [(parsed, name) for name in listed(folder) if (parsed := parse_name(name)) is not None]
        return [StoredCheckpoint(folder / name, parsed) for parsed, name in sorted(found)]

    def newest_good_checkpoint(self) -> Recovered:
        """The newest checkpoint that is whole, belongs to this run, and whose part of the chronicle is whole."""
        notes: list[str] = []
        audited = audit(self.path, self.run_hash)
        for stored in reversed(self.checkpoints()):
            try:
                good = checkpoint.read(stored.path)
            except CorruptCheckpoint as error:
                notes.append(f"skipped: {error}")
                continue
            problems = self.disagreements(good, audited)
            if not problems:
                return Recovered(good, tuple(notes))
            notes.append(f"skipped {stored.path}: {'; '.join(problems)}")
        return Recovered(None, tuple(notes))

    def disagreements(self, found: Checkpoint, audited: ChronicleAudit) -> list[str]:
        """In words, where a checkpoint contradicts this run's identity or chronicle; empty where it does not."""
        problems = self.identity_disagreements(found)
        offset = found.chronicle_offset
        if offset.records != found.step:
            problems.append(f"it is of step {found.step}, but points to chronicle line {offset.records}")
        elif offset.records > audited.good.records:
            why = audited.problem if audited.problem is not None else "lines were cut off, which no crash does"
            problems.append(f"it acknowledges {offset.records} chronicle lines, {audited.good.records} are good: {why}")
        elif not audited.covers(offset):
            problems.append(f"its chronicle offset is not the chain's at line {offset.records}")
        return problems

    def identity_disagreements(self, found: Checkpoint) -> list[str]:
        """In words, which hashes and seed of a checkpoint are not this run's."""
        run = self.run_document()
        return [
            f"expected the run's {name} {expected}, found {getattr(found, name)}"
            for name, expected in (
                ("config_hash", run["config_hash"]),
                ("dataset_state", run["dataset_state"]),
                ("run_hash", self.run_hash),
                ("seed", run["seed"]),
            )
            if getattr(found, name) != expected
        ]

    # --- writing; the caller holds the lock ---

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only writer. Raises `RunBusy` naming the process that is."""
        descriptor = filesystem.open_lock(self.path / ".lock")
        try:
            for attempt in range(_LOCK_TRIES):
                if _try_flock(descriptor, fcntl.LOCK_EX):
                    break
                if attempt == _LOCK_TRIES - 1:
                    holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
                    raise RunBusy(f"run {self.name}: process {holder} is writing to it; wait for its end or stop it")
                time.sleep(_LOCK_PAUSE)
            filesystem.rewrite_lock(descriptor, f"{os.getpid()}\n".encode(), self.path / ".lock")
            yield
        finally:
            os.close(descriptor)

    def _locked(self) -> bool:
        path = self.path / ".lock"
        if not path.exists():  # a copy of a run, made without it
            return False
        with filesystem.opened_regular(path, CorruptRun) as (descriptor, _):
            return not _try_flock(descriptor, fcntl.LOCK_SH)

    def recover(self) -> Recovered:
        """Make the run fit to go on after any crash: remove unfinished files, cut the chronicle back to the newest good
        checkpoint (the tail goes to `chronicle.tail`), and set checkpoints aside that cannot be used.

        Can itself be interrupted and done again. Raises `CorruptRun` where there are checkpoints and none can be used.
        """
        for folder in (self.path, self.path / "checkpoints", self.path / "reports"):
            for name in listed(folder):
                if name.startswith(filesystem.TEMPORARY_PREFIX):
                    filesystem.remove(folder / name)
        recovered = self.newest_good_checkpoint()
        found = recovered.checkpoint
        if found is None and recovered.notes:
            raise CorruptRun(
                f"run {self.name}: none of its {len(recovered.notes)} checkpoints can be used; to start from the "
                f"beginning, move {self.path / 'checkpoints'} away and make an empty one. {' | '.join(recovered.notes)}"
            )
        offset = genesis(self.run_hash) if found is None else found.chronicle_offset
        notes = list(recovered.notes)
        for stored in self.checkpoints():
            if found is not None and stored.name.step > found.step:
                filesystem.replace(stored.path, stored.path.with_name(stored.path.name + DAMAGED_SUFFIX))
                notes.append(f"set aside: {stored.path.name}{DAMAGED_SUFFIX}")
        filesystem.fsync_folder(self.path / "checkpoints")
        if tail := chronicle_writer.truncate_to(self.path, offset):
            notes.append(f"set aside: {tail} bytes of the chronicle after step {offset.records}, in chronicle.tail")
        return Recovered(found, tuple(notes))

    def save_checkpoint(self, state: Checkpoint) -> Path:
        """Publish a checkpoint, as `checkpoint.write`. The chronicle MUST have been synced up to its offset."""
        return checkpoint.write(self.path / "checkpoints", state)

    def add_session(self, session: Mapping[str, Any]) -> None:
        """Append to `environment.json`, atomically."""
        filesystem.write_over(self.path / "environment.json", environment_bytes([*self.sessions(), session]))

    def publish(self, relative_name: str, data: bytes) -> None:
        """Put a report in place, atomically and durably, over an older one of that name.

        Raises `UsageError` for a name that is not `reports/<plain file name>`.
        """
        if not _REPORT_NAME.fullmatch(relative_name):
            raise UsageError(f"expected a plain file name under reports/, got {relative_name!r}; nothing was written")
        filesystem.write_over(self.path / relative_name, data)

    def copy_prefix(self, target: "RunFolder", until: Checkpoint) -> None:
        """Fill the empty chronicle of `target` with this run's lines up to `until`, so that a segment can be run."""
        sizes = {
            LINES_NAME: until.chronicle_offset.bytes,
            CHAIN_NAME: until.chronicle_offset.records * CHAIN_RECORD.size,
        }
        for name, size in sizes.items():
            with filesystem.opened_regular(self.path / name, CorruptChronicle) as (descriptor, _):
                filesystem.write_over(target.path / name, os.pread(descriptor, size, 0))


def listed(folder: Path) -> Sequence[str]:
    """The names in a run's folder, sorted."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise CorruptRun(f"{folder}: cannot be listed: {error.strerror}; restore the folder") from error


def program_path(name: str) -> str:
    """Where the archived function `name` lies, relative to the run's folder."""
    return f"program/{name}{PROGRAM_SUFFIX}"


def environment_bytes(sessions: Sequence[Mapping[str, Any]]) -> bytes:
    """What `environment.json` holds."""
    return canonical_json({"sessions": list(sessions), "sha256": digest_json(list(sessions))})


def _parsed(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptRun(f"{path}: expected JSON: {error}; restore the file from a copy") from error


def _canonical(document: Any) -> bytes | None:
    """Canonical JSON of what was read, or None where it holds what canonical JSON cannot."""
    try:
        return canonical_json(document)
    except (ValueError, RecursionError):
        return None


def _try_flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
