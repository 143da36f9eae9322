"""One run on disk: its files, who may write to them, and in which order they come to be. How a crash is mended stands
in `recovery.py`. Knows nothing of training or of JAX.

    runs/<first 16 digits of the run hash>/
      run.json          canonical JSON {config_hash, dataset_state, seed, semantics_version}; its SHA-256: the run hash
      config.json       canonical JSON; its SHA-256 is config_hash
      manifest.json     canonical JSON; its SHA-256 is dataset_state
      environment.json  {"sessions": […], "sha256": of the canonical JSON of the sessions}; grows with each resume
      program.json      canonical JSON; its SHA-256 stands in each session, as "program"
      program/          what the steps ran, one file a function (archive.py); their SHA-256 stand in program.json
      chronicle.jsonl, chronicle.chain, chronicle.sums    (chronicle.py); chronicle.tail: what recovery set aside
      continuity.jsonl  (diagnostics/continuity.py); derived from the chronicle, written anew by each session
      checkpoints/      (checkpoint.py); `….chk.damaged`: what recovery set aside
      removed.json      {"removed": [file names of checkpoints], "sha256": of that list's canonical JSON}, where
                        `runtime.keep` or `crh-train gc` removed some
      signatures/       (signatures.py), where somebody signed the finished run
      reports/          SHA256SUMS comes last and makes the run a finished one
      .lock             locked with flock by the one writer, never removed; holds its process id

What is acknowledged as saved was written in this order: chronicle lines and chain synced; checkpoint written under a
temporary name and synced; renamed without replacing; its folder synced.
"""

import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from crh_train import checkpoint, filesystem, plain_json, run_lock
from crh_train.checkpoint import Checkpoint
from crh_train.checkpoint_header import CheckpointHeader, CheckpointName, parse_name
from crh_train.chronicle import LINES_NAME, ChronicleRecord
from crh_train.chronicle_audit import ChronicleAudit, read_chronicle
from crh_train.digest import canonical_json, digest_bytes, digest_json
from crh_train.errors import CorruptRun, UsageError
from crh_train.regular_file import read_regular
from crh_train.shape import Shape, misfit

NAME_DIGITS = 16
DEFAULT_ROOT = Path("runs")
SUMS_NAME = "SHA256SUMS"
REMOVED_NAME = "removed.json"
SIGNATURES_NAME = "signatures"
RUN_KEYS = ("config_hash", "dataset_state", "seed", "semantics_version")
MAX_DOCUMENT_BYTES = 256 << 20  # a manifest of a million files
DAMAGED_SUFFIX = ".damaged"
PROGRAM_SUFFIX = ".exported"

_RUN = {"config_hash": str, "dataset_state": str, "seed": int, "semantics_version": int}
_CONFIG = {"config": {"engine": dict, ...: dict}, "optimizer": object, "scheduler": object}
_MANIFEST = {
    "files": [{"name": str, "sha256": str}],
    "preprocessing": dict,
    "samples": [{"id": str, "volume": str, "split": str, "first_slice": int}],
    "source": str,
    "volumes": [{"id": str, ...: object}],
}
_SESSION = {
    "command": {"conf": str, "overrides": [str]},
    "fingerprint": {"threads": int, ...: object},
    "first_step": int,
    "program": str,
    "runtime": dict,
    "version": str,
}
_ENVIRONMENT = {"sessions": [_SESSION], "sha256": str}
_PROGRAM = {"functions": {...: {"sha256": str, ...: object}}, "steps_per_epoch": int, ...: object}
_REMOVED = {"removed": [str], "sha256": str}
_FUNCTION_NAME = re.compile(r"[a-z0-9_]+", re.ASCII)
_REPORT_NAME = re.compile(r"reports/[A-Za-z0-9_-][A-Za-z0-9._-]*", re.ASCII)


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
        """How a command names this run, quoted for a shell: with `--runs` where that is not the default."""
        return f"{self.name}{runs_option(self.path.parent)}"

    # --- identity ---

    @property
    def run_hash(self) -> str:
        return digest_bytes(self._run_json())

    def run_document(self) -> dict[str, Any]:
        """`{config_hash, dataset_state, seed, semantics_version}`."""
        data = self._run_json()
        document = _parsed(self.path / "run.json", data, _RUN)
        if _canonical(document) != data:
            raise CorruptRun(f"{self.path / 'run.json'}: expected canonical JSON of the keys {', '.join(RUN_KEYS)}")
        return document

    def config_document(self) -> dict[str, Any]:
        return self._hashed_document("config.json", self.run_document()["config_hash"], _CONFIG)

    def manifest(self) -> dict[str, Any]:
        return self._hashed_document("manifest.json", self.run_document()["dataset_state"], _MANIFEST)

    def identity(self) -> Identity:
        return Identity(self.config_document(), self.manifest(), self.run_document())

    def sessions(self) -> list[dict[str, Any]]:
        """What `environment.json` holds of each session, the first one first."""
        path = self.path / "environment.json"
        data = read_regular(path, MAX_DOCUMENT_BYTES, CorruptRun)
        sessions: list[dict[str, Any]] = _parsed(path, data, _ENVIRONMENT)["sessions"]
        canonical = _canonical(sessions)
        if not sessions or canonical is None or data != environment_bytes(sessions):
            raise CorruptRun(f"{path}: the sessions do not have their SHA-256; restore the file from a copy")
        return sessions

    def program_document(self) -> dict[str, Any]:
        """`program.json`: what it says of each archived function."""
        stated = self.sessions()[0]["program"]
        document = self._hashed_document("program.json", stated, _PROGRAM, "environment.json")
        for name in document["functions"]:
            if not _FUNCTION_NAME.fullmatch(name):
                raise CorruptRun(f"{self.path / 'program.json'}: expected plain names of functions, found {name!r:.80}")
        return document

    def program_file(self, name: str) -> bytes:
        """The archived function `name`, which `program.json` lists."""
        path = self.path / program_path(name)
        data = read_regular(path, MAX_DOCUMENT_BYTES, CorruptRun)
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
        data = read_regular(path, MAX_DOCUMENT_BYTES, CorruptRun)
        if not digest_bytes(data).startswith(self.name):
            raise CorruptRun(
                f"{path}: expected the SHA-256 to begin {self.name}, as the folder's name does, found "
                f"{digest_bytes(data)[:NAME_DIGITS]}; restore the file from a copy"
            )
        return data

    def _hashed_document(self, name: str, expected: str, shape: Shape, stated_in: str = "run.json") -> dict[str, Any]:
        path = self.path / name
        data = read_regular(path, MAX_DOCUMENT_BYTES, CorruptRun)
        if (found := digest_bytes(data)) != expected:
            raise CorruptRun(
                f"{path}: expected the SHA-256 {expected}, which {stated_in} states, found {found}; "
                "restore the file from a copy"
            )
        return _parsed(path, data, shape)

    # --- state ---

    @property
    def finished(self) -> bool:
        return (self.path / "reports" / SUMS_NAME).exists()

    @property
    def status(self) -> str:
        """`running` (a process writes to it now), `finished`, or `unfinished`."""
        if run_lock.is_locked(self.path / ".lock"):
            return "running"
        return "finished" if self.finished else "unfinished"

    @property
    def untouched(self) -> bool:
        """Whether no step of it was logged."""
        return (self.path / LINES_NAME).stat().st_size == 0

    def chronicle(self) -> Sequence[ChronicleRecord]:
        """Every line, checked against the chain. Raises `CorruptChronicle`."""
        return read_chronicle(self.path, self.run_hash)

    def checkpoints(self) -> list[StoredCheckpoint]:
        """All checkpoints by their file names, the oldest first; nothing is opened."""
        folder = self.path / "checkpoints"
        found = [(parsed, name) for name in listed(folder) if (parsed := parse_name(name)) is not None]
        return [StoredCheckpoint(folder / name, parsed) for parsed, name in sorted(found)]

    def removed(self) -> list[CheckpointName]:
        """The checkpoints that were removed to save space, the oldest first. A name may be there all the same: it is
        written down here before the file goes."""
        path = self.path / REMOVED_NAME
        if not path.exists():
            return []
        data = read_regular(path, MAX_DOCUMENT_BYTES, CorruptRun)
        names = _parsed(path, data, _REMOVED)["removed"]
        if data != _removed_bytes(names):
            raise CorruptRun(f"{path}: the list does not have its SHA-256; restore the file from a copy")
        parsed = [parse_name(name) for name in names]
        found = [name for name in parsed if name is not None]
        if len(found) != len(parsed) or found != sorted(set(found)):
            raise CorruptRun(f"{path}: expected the names of checkpoints in the order of training")
        return found

    def disagreements(self, found: Checkpoint | CheckpointHeader, audited: ChronicleAudit) -> list[str]:
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

    def identity_disagreements(self, found: Checkpoint | CheckpointHeader) -> list[str]:
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

    def lock(self) -> AbstractContextManager[None]:
        """Be the only writer. Raises `RunBusy` naming the process that is."""
        return run_lock.locked(self.path / ".lock", f"run {self.name}")

    def save_checkpoint(self, state: Checkpoint) -> StoredCheckpoint:
        """Publish a checkpoint, as `checkpoint.write`. The chronicle MUST have been synced up to its offset."""
        path = checkpoint.write(self.path / "checkpoints", state)
        name = parse_name(path.name)
        assert name is not None
        return StoredCheckpoint(path, name)

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

    def confirm_finished(self) -> None:
        """Make durable that the run is finished: its process may have been killed before that was."""
        filesystem.fsync_folder(self.path / "reports")

    def remove_checkpoints(self, names: Sequence[CheckpointName]) -> None:
        """Remove checkpoints to save space. Each is written down in `removed.json` first, so that none is missed."""
        if names:
            self.write_removed({*self.removed(), *names})
            for name in names:
                filesystem.remove(self.path / "checkpoints" / name.text)
            filesystem.fsync_folder(self.path / "checkpoints")

    def write_removed(self, names: Collection[CheckpointName]) -> None:
        filesystem.write_over(self.path / REMOVED_NAME, _removed_bytes([name.text for name in sorted(names)]))


def runs_option(root: Path) -> str:
    """What follows in a command, quoted for a shell, where its runs are in `root`."""
    return "" if root == DEFAULT_ROOT else f" --runs {shlex.quote(str(root))}"


def listed(folder: Path) -> Sequence[str]:
    """The names in a run's folder, sorted. A link to a folder is refused: what it points to is no part of the run."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return sorted(os.listdir(descriptor))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CorruptRun(f"{folder}: cannot be listed: {error.strerror}; restore the folder") from error


def program_path(name: str) -> str:
    """Where the archived function `name` lies, relative to the run's folder."""
    return f"program/{name}{PROGRAM_SUFFIX}"


def environment_bytes(sessions: Sequence[Mapping[str, Any]]) -> bytes:
    """What `environment.json` holds."""
    return canonical_json({"sessions": list(sessions), "sha256": digest_json(list(sessions))})


def _removed_bytes(names: Sequence[Any]) -> bytes:
    return canonical_json({"removed": list(names), "sha256": digest_json(list(names))})


def _parsed(path: Path, data: bytes, shape: Shape) -> dict[str, Any]:
    try:
        document: dict[str, Any] = plain_json.parse(data)
    except ValueError as error:
        raise CorruptRun(f"{path}: expected JSON: {error}; restore the file from a copy") from error
    if (message := misfit(document, shape)) is not None:
        raise CorruptRun(f"{path}: {message}; restore the file from a copy")
    return document


def _canonical(document: Any) -> bytes | None:
    """Canonical JSON of what was read, or None where it holds what canonical JSON cannot."""
    try:
        return canonical_json(document)
    except (ValueError, RecursionError):
        return None
