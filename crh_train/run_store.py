"""All runs under one folder: make one, find one by the beginning of its hash, list them. What is in a run's folder
stands in `run_folder.py`.
"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crh_train import chronicle_writer, filesystem, plain_json
from crh_train.digest import canonical_json, digest_bytes
from crh_train.errors import CorruptRun, RunNotFound, UsageError
from crh_train.run_folder import NAME_DIGITS, RUN_KEYS, RunFolder, StoredProgram, environment_bytes, program_path

__all__ = ["RunFolder", "RunStore"]

_FOLDER_NAME = re.compile(r"[0-9a-f]{16}", re.ASCII)
_PREFIX = re.compile(r"[0-9a-f]{1,64}", re.ASCII)


@dataclass(frozen=True)
class RunStore:
    """All runs under one folder."""

    root: Path

    def create(
        self,
        run_document: Mapping[str, Any],
        config_document: Any,
        manifest_document: Any,
        first_session: Mapping[str, Any],
        program: StoredProgram,
    ) -> RunFolder:
        """Make a run's folder, whole or not at all. Where the run exists already, it is returned as it is.

        Raises `CorruptRun` where the documents do not have the hashes that `run_document` states, or the program those
        that `first_session` and its own document do.
        """
        files: dict[str, bytes] = {
            "run.json": canonical_json(dict(run_document)),
            "config.json": canonical_json(config_document),
            "manifest.json": canonical_json(manifest_document),
            "environment.json": environment_bytes([first_session]),
            "program.json": canonical_json(program.document),
            ".lock": b"",
        }
        files |= {program_path(name): data for name, data in program.files.items()}
        hashes = {"config_hash": files["config.json"], "dataset_state": files["manifest.json"]}
        if tuple(sorted(run_document)) != RUN_KEYS or any(
            run_document[key] != digest_bytes(data) for key, data in hashes.items()
        ):
            raise CorruptRun(
                f"expected a run document of {', '.join(RUN_KEYS)} with the SHA-256 of its configuration and manifest, "
                f"got {dict(run_document)}; nothing was written"
            )
        stated = {name: function["sha256"] for name, function in program.document["functions"].items()}
        if first_session["program"] != digest_bytes(files["program.json"]) or stated != {
            name: digest_bytes(data) for name, data in program.files.items()
        }:
            raise CorruptRun(
                f"expected a program of the functions {', '.join(stated)} with the SHA-256 that the first session and "
                f"its document state, got {', '.join(program.files)}; nothing was written"
            )
        for name, data in files.items():
            _expect_readable(name, data)
        run_hash = digest_bytes(files["run.json"])
        if (existing := self.get(run_hash)) is not None:
            filesystem.fsync_folder(self.root)  # its name may be in its maker's memory only
            return existing
        filesystem.make_folders(self.root)
        if not self.list():  # its name may not be durable, where a process was killed that had just made it
            filesystem.fsync_folder(self.root.absolute().parent)
        with filesystem.NewFolder(self.root) as folder:
            for name in ("checkpoints", "program", "reports"):
                filesystem.make_folder(folder.path / name)
            for name, data in files.items():
                filesystem.write_over(folder.path / name, data)
            chronicle_writer.create(folder.path)
            if not folder.publish(run_hash[:NAME_DIGITS]):  # another process has just made the same folder
                filesystem.fsync_folder(self.root)
        return RunFolder(self.root / run_hash[:NAME_DIGITS])

    def get(self, run_hash: str) -> RunFolder | None:
        """The run of that full hash, or None. Raises `CorruptRun` where its folder holds another run."""
        for folder in self.list():
            if folder.name == run_hash[:NAME_DIGITS]:
                if folder.run_hash != run_hash:
                    raise CorruptRun(
                        f"{folder.path}: expected run {run_hash}, found {folder.run_hash}; use another --runs"
                    )
                return folder
        return None

    def find(self, prefix: str) -> RunFolder:
        """The one run whose hash begins with `prefix`, hexadecimal digits. Raises `RunNotFound` for none or several."""
        wanted = prefix.lower()
        if not _PREFIX.fullmatch(wanted):
            raise RunNotFound(f"expected the beginning of a run hash, 1 to 64 hexadecimal digits, got {prefix!r}")
        folders = self.list()
        found = [folder for folder in folders if folder.name.startswith(wanted[:NAME_DIGITS])]
        if len(found) > 1:
            raise RunNotFound(
                f"'{prefix}' is the beginning of {len(found)} runs: {', '.join(folder.name for folder in found)}; "
                "give more digits"
            )
        if not found or (len(wanted) > NAME_DIGITS and not found[0].run_hash.startswith(wanted)):
            raise RunNotFound(
                f"no run in {self.root} begins with '{prefix}'; `crh-train list --runs {shlex.quote(str(self.root))}` "
                f"shows the "
                f"{len(folders)} that there are"
            )
        return found[0]

    def list(self) -> Sequence[RunFolder]:
        """All runs, by name. A store that does not exist has none."""
        return [RunFolder(self.root / name) for name in self._folders() if _FOLDER_NAME.fullmatch(name)]

    def unfinished(self) -> Sequence[Path]:
        """Folders in which a run is being made, or was when its process was killed."""
        return [self.root / name for name in self._folders() if name.startswith(filesystem.TEMPORARY_PREFIX)]

    def _folders(self) -> Sequence[str]:
        try:
            with os.scandir(self.root) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunNotFound(f"{self.root}: cannot be listed: {error.strerror}; give the right --runs") from error


def _expect_readable(name: str, data: bytes) -> None:
    """Refuse to write a document that the limits on hostile ones would keep us from reading."""
    if name.endswith(".json"):
        try:
            plain_json.parse(data)
        except ValueError as error:
            raise UsageError(f"{name} of {len(data)} bytes cannot be stored: {error}; nothing was written") from error
