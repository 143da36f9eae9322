"""What lies below a run's folder, whatever it is, and the SHA-256 of its files. No link is followed."""

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from crh_train.cores import thread_pool
from crh_train.errors import CorruptRun
from crh_train.regular_file import opened_regular

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class RunFiles(NamedTuple):
    """Names are relative to the run's folder, parted by `/`, sorted."""

    regular: Sequence[str]
    irregular: Mapping[str, str]  # name -> in words, why no byte of it is read


def files_in(folder: Path) -> RunFiles:
    """All that is below `folder`. Folders are looked into and not named themselves; nothing else is opened."""
    regular: list[str] = []
    irregular: dict[str, str] = {}
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            with os.scandir(folder / inside) as entries:
                found = [(entry.name, entry.stat(follow_symlinks=False).st_mode) for entry in entries]
        except OSError as error:
            irregular[inside or "."] = f"cannot be listed: {error.strerror}; see to the disk"
            continue
        for last, mode in found:
            name = f"{inside}/{last}" if inside else last
            if not _is_text(last):
                irregular[name] = "expected a name in UTF-8; nothing was read"
            elif stat.S_ISDIR(mode):
                waiting.append(name)
            elif stat.S_ISREG(mode):
                regular.append(name)
            else:
                irregular[name] = (
                    f"expected a regular file or folder, found {_KINDS[stat.S_IFMT(mode)]}; nothing was read"
                )
    return RunFiles(sorted(regular), dict(sorted(irregular.items())))


def file_digests(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each of these files. Raises `CorruptRun` where one cannot be read."""
    with thread_pool() as pool:
        return dict(zip(names, pool.map(partial(_file_digest, folder), names), strict=True))


def _file_digest(folder: Path, name: str) -> str:
    with opened_regular(folder / name, CorruptRun) as (descriptor, _), open(descriptor, "rb", closefd=False) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
