"""What a folder holds, in a fixed order, with links to folders followed: a file is given, or it is named as a problem.

`Path.rglob` follows no link to a folder and passes over what it cannot list, so that a patient could be missing without
a word.
"""

import os
import stat
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

from crh_train.data.problems import Problems
from crh_train.errors import DataError


def files(root: Path, wanted: Callable[[Path], bool], problems: Problems) -> list[Path]:
    """Every path below `root` that is `wanted`, folder by folder, in the order of the names. A folder is given too
    where it is wanted, so that reading it says what it is, and is entered all the same.

    Added to `problems`: a link that leads nowhere, where it is wanted or may have led to a folder; a folder that is
    met twice, whose files would count twice; a link to a folder around it, which would never end; a folder that cannot
    be listed; a pipe or a device that is wanted.
    """
    entered: dict[str, Path] = {}
    found: list[Path] = []
    pending = [root]
    while pending:
        path = pending.pop()
        with problems.collected():
            mode = _mode(path)
            if mode is None and (wanted(path) or _may_be_folder(path)):
                raise DataError(_unreachable(path))
            if mode is None:
                continue
            is_folder = stat.S_ISDIR(mode)
            if path != root and wanted(path):
                if not (is_folder or stat.S_ISREG(mode)):  # reading a pipe would never end
                    raise DataError(f"{path}: expected a file, found a pipe or a device; move it away")
                found.append(path)
            if is_folder:
                _enter(path, root, entered)
                pending += reversed(listed(path))
    return found


def subfolders(parent: Path, pattern: str, problems: Problems) -> list[Path]:
    """The folders directly in `parent` whose names match `pattern`, by name. A link of such a name that leads nowhere
    is added to `problems`."""
    found = []
    with problems.collected():
        for path in listed(parent):
            if fnmatchcase(path.name, pattern):
                mode = _mode(path)
                if mode is None:
                    problems.add(_unreachable(path))
                elif stat.S_ISDIR(mode):
                    found.append(path)
    return found


def listed(path: Path) -> list[Path]:
    """What is directly in a folder, by name. Raises `DataError` where that cannot be said."""
    try:
        return [path / name for name in sorted(os.listdir(path))]
    except OSError as error:
        raise DataError(f"{path}: cannot be listed: {error.strerror}; see to its permissions") from error


def _mode(path: Path) -> int | None:
    """What `path`, or what it leads to, is; None where nothing can be reached there."""
    try:
        return path.stat().st_mode
    except OSError:
        return None


def _unreachable(path: Path) -> str:
    if os.path.islink(path):  # `Path.is_symlink` raises where a path cannot be reached
        return f"{path}: a link that leads nowhere, to {os.readlink(path)}; mend it, or remove it"
    return f"{path}: cannot be reached; see to its permissions, and to the length of its path"


def _may_be_folder(path: Path) -> bool:
    """Whether a name with nothing behind it looks like a folder's."""
    return not path.suffix and not path.name.startswith(".")


def _enter(path: Path, root: Path, entered: dict[str, Path]) -> None:
    real = os.path.realpath(path)
    if real in entered:
        raise DataError(f"{path}: the same folder as {entered[real]}, whose files would count twice; remove the link")
    # Of the folders around `root`, only the link shows that they lead back to it: all else in them would come first.
    if path != root and Path(os.path.realpath(root)).is_relative_to(real):
        raise DataError(f"{path}: a link to a folder that holds it, {real}; remove the link")
    entered[real] = path
