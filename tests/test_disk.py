"""There is one place that changes what is on disk, so that a test that takes its place sees everything."""

import ast
import os
from pathlib import Path

import pytest

import crh_train
from crh_train import disk

PACKAGE = Path(crh_train.__file__).parent
ELSEWHERE = {
    "disk.py": "the one place",
    "compilation_cache.py": "compiled code, which may be deleted at any moment",
    "compose.py": "a temporary folder for Hydra",
    "cli/replay.py": "a scratch folder for the replay",
    "cli/streams.py": "the null device, for standard streams that are closed",
    "scratch.py": "which folder is the temporary one; Python tries it once",
    "data/cache.py": "prepared arrays, which may be deleted at any moment",
}

OF_OS = {
    *("write", "pwrite", "writev", "pwritev", "sendfile", "truncate", "ftruncate", "fsync", "fdatasync", "sync"),
    *(
        "link",
        "symlink",
        "rename",
        "renames",
        "replace",
        "unlink",
        "remove",
        "removedirs",
        "rmdir",
        "mkdir",
        "makedirs",
    ),
    *("mkfifo", "mknod", "chmod", "chown", "utime", "copy_file_range", "posix_fallocate"),
}
OF_PATHS = {
    *("write_text", "write_bytes", "unlink", "mkdir", "touch", "rmdir", "rename", "symlink_to", "hardlink_to"),
    *("chmod", "lchmod"),
}
MODULES = {"shutil", "tempfile"}


def changes(source: str) -> list[int]:
    """The lines of `source` that change something on disk."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if _changes(call)]


def _changes(call: ast.Call) -> bool:
    name = call.func
    if isinstance(name, ast.Name):
        return name.id == "open" and _mode(call, 1)
    if not isinstance(name, ast.Attribute):
        return False
    owner = name.value.id if isinstance(name.value, ast.Name) else ""
    if owner == "disk":
        return False
    if owner == "os":
        return name.attr in OF_OS or (name.attr == "open" and "O_RDONLY" not in ast.unparse(call))
    if owner in MODULES or (name.attr == "open" and _mode(call, 0)):
        return True
    # `text.replace` takes two, `dataclasses.replace` keywords; a path's takes one.
    return name.attr in OF_PATHS or (name.attr == "replace" and len(call.args) == 1 and not call.keywords)


def _mode(call: ast.Call, position: int) -> bool:
    modes = [each.value for each in call.keywords if each.arg == "mode"] + call.args[position : position + 1]
    return any(not isinstance(mode, ast.Constant) or set(str(mode.value)) & set("wax+") for mode in modes)


def test_nothing_but_one_file_changes_what_is_on_disk() -> None:
    files = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
    found = {name for name, source in files.items() if changes(source)}
    assert found == set(ELSEWHERE)


@pytest.mark.parametrize(
    "line",
    [
        *(
            "os.unlink(p)",
            "os.open(p, os.O_WRONLY)",
            "open(p, 'w')",
            "open(p, mode='ab')",
            "p.open('xb')",
            "open(p, m)",
        ),
        *("p.write_bytes(b'')", "p.rename(q)", "p.replace(q)", "shutil.rmtree(p)", "tempfile.mkdtemp()", "p.mkdir()"),
    ],
)
def test_a_line_that_changes_something_is_seen(line: str) -> None:
    assert changes(line) == [1]


@pytest.mark.parametrize("line", ["open(p)", "open(p, 'rb')", "os.open(p, os.O_RDONLY)", "t.replace('a', 'b')"])
def test_a_line_that_reads_is_none(line: str) -> None:
    assert changes(line) == []


def test_every_operation_is_listed() -> None:
    own = {
        name
        for name, value in vars(disk).items()
        if callable(value) and getattr(value, "__module__", "") == disk.__name__
    }
    assert own == set(disk.OPERATIONS)
    assert len(disk.OPERATIONS) == len(own)


def test_names_are_taken_once(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    os.close(disk.create(one))
    with pytest.raises(FileExistsError):
        disk.create(one)
    disk.link(one, two)
    with pytest.raises(FileExistsError):
        disk.link(one, two)


def test_links_are_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"kept")
    link.symlink_to(target)
    for operation in (disk.create, disk.open_append, disk.open_or_create):
        with pytest.raises(OSError, match="link"):
            operation(link)
    assert target.read_bytes() == b"kept"
