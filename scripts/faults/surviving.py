"""What may be on disk after a loss of power, by what was synced before.

The model is of the least that POSIX promises. A file's content is durable once the file is synced; a name, once its
folder is. What is not may be there or not: of a content, nothing, all, the beginning, its length without its data, or
some of its sectors; of the changes to a folder's names, the first few (a journal keeps their order) or any.
"""

import copy
import itertools
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from crh_train.checkpoint_header import CheckpointName
from faults.session import Told

SECTOR = 512  # bytes


@dataclass(eq=False)
class File:
    durable: bytes = b""
    pending: list[tuple[int, bytes] | int] = field(default_factory=list)  # offset and data, or a new length

    def content(self) -> bytes:
        """What a reader sees while the power is on."""
        return _applied(self.durable, self.pending)

    def sync(self) -> None:
        self.durable, self.pending = self.content(), []


@dataclass(eq=False)
class Folder:
    durable: dict[str, "Node"] = field(default_factory=dict)
    pending: list["Change"] = field(default_factory=list)

    def names(self) -> dict[str, "Node"]:
        return _changed(self.durable, self.pending)

    def sync(self) -> None:
        self.durable, self.pending = self.names(), []


Node = File | Folder


class Change(NamedTuple):
    """To the names of a folder, whole or not at all."""

    removed: str | None
    added: tuple[str, Node] | None


def _applied(content: bytes, operations: Sequence[tuple[int, bytes] | int]) -> bytes:
    data = bytearray(content)
    for operation in operations:
        if isinstance(operation, int):
            del data[operation:]
            data.extend(bytes(operation - len(data)))
        else:
            offset, written = operation
            data.extend(bytes(max(0, offset + len(written) - len(data))))
            data[offset : offset + len(written)] = written
    return bytes(data)


def _changed(names: Mapping[str, Node], changes: Sequence[Change]) -> dict[str, Node]:
    changed = dict(names)
    for change in changes:
        if change.removed is not None:
            changed.pop(change.removed, None)
        if change.added is not None:
            changed[change.added[0]] = change.added[1]
    return changed


class Moment(NamedTuple):
    """Between two operations."""

    operation: str  # the next one
    root: Folder
    told: Sequence[Told]  # what was acknowledged before it


class Recorder:
    """Does the operations below `base`, and keeps what of them is durable, moment by moment. What is there already is
    durable."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._one = threading.Lock()
        self._open: dict[int, tuple[File, int | None]] = {}  # descriptor -> file, position; None: at its end
        self._told: list[Told] = []
        self._root = _durable(base)
        self.moments: list[Moment] = []

    def tell(self, name: CheckpointName | None) -> None:
        self._told.append(Told(len(self.moments), name))

    def now(self, operation: str) -> None:
        """Keep this moment, before `operation`."""
        self.moments.append(Moment(operation, copy.deepcopy(self._root), tuple(self._told)))

    def __call__(self, name: str, real: Callable[..., Any], *arguments: Any) -> Any:
        with self._one:
            self.now(name)
            result = real(*arguments)
            getattr(self, f"_{name}")(result, *arguments)
            return result

    def _create(self, descriptor: int, path: Path) -> None:
        file = File()
        self._change(path, Change(None, (path.name, file)))
        self._open[descriptor] = file, 0

    def _open_append(self, descriptor: int, path: Path) -> None:
        self._open[descriptor] = self._file(path), None

    def _open_or_create(self, descriptor: int, path: Path) -> None:
        if path.name not in self._folder(path.parent).names():
            self._change(path, Change(None, (path.name, File())))
        self._open[descriptor] = self._file(path), 0

    def _write(self, done: int, descriptor: int, data: bytes) -> None:
        file, position = self._open[descriptor]
        file.pending.append((len(file.content()) if position is None else position, bytes(data[:done])))
        self._open[descriptor] = file, None if position is None else position + done

    def _write_at(self, done: int, descriptor: int, data: bytes, offset: int) -> None:
        self._open[descriptor][0].pending.append((offset, bytes(data[:done])))

    def _truncate(self, _: None, descriptor: int, size: int) -> None:
        self._open[descriptor][0].pending.append(size)

    def _sync(self, _: None, descriptor: int) -> None:
        self._open[descriptor][0].sync()

    _sync_data = _sync

    def _sync_folder(self, _: None, path: Path) -> None:
        self._folder(path).sync()

    def _link(self, _: None, source: Path, target: Path) -> None:
        self._change(target, Change(None, (target.name, self._file(source))))

    def _rename(self, _: None, source: Path, target: Path) -> None:
        assert source.parent == target.parent
        self._change(target, Change(source.name, (target.name, self._node(source))))

    def _unlink(self, _: None, path: Path) -> None:
        self._change(path, Change(path.name, None))

    _remove_folder = _unlink

    def _make_folder(self, _: None, path: Path) -> None:
        self._change(path, Change(None, (path.name, Folder())))

    def _change(self, path: Path, change: Change) -> None:
        self._folder(path.parent).pending.append(change)

    def _node(self, path: Path) -> Node:
        node: Node = self._root
        for part in path.relative_to(self._base).parts:
            assert isinstance(node, Folder)
            node = node.names()[part]
        return node

    def _folder(self, path: Path) -> Folder:
        node = self._node(path)
        assert isinstance(node, Folder)
        return node

    def _file(self, path: Path) -> File:
        node = self._node(path)
        assert isinstance(node, File)
        return node


def _durable(folder: Path) -> Folder:
    return Folder(
        {path.name: _durable(path) if path.is_dir() else File(path.read_bytes()) for path in sorted(folder.iterdir())}
    )


# --- what is left --------------------------------------------------------------------------------------------------

State = Mapping[str, bytes | None]
"""Path -> content; None: a folder."""
Names = Callable[[Folder], Mapping[str, Node]]
Content = Callable[[File], bytes]


def left(root: Folder, names: Names, content: Content) -> State:
    """What is on disk when the power is back, by what is left of each folder and each file."""
    state: dict[str, bytes | None] = {}
    contents: dict[File, bytes] = {}  # two names of one file have one content

    def visit(folder: Folder, path: str) -> None:
        for name, node in names(folder).items():
            if isinstance(node, Folder):
                state[f"{path}{name}"] = None
                visit(node, f"{path}{name}/")
            else:
                if node not in contents:
                    contents[node] = content(node)
                state[f"{path}{name}"] = contents[node]

    visit(root, "")
    return state


def least(root: Folder) -> State:
    """What was synced, and nothing more."""
    return left(root, lambda folder: folder.durable, lambda file: file.durable)


def states(root: Folder, samples: int, rng: random.Random) -> Iterator[State]:
    """The extremes, from the least to all, and `samples` states between them."""
    every_name: tuple[Names, ...] = (lambda folder: folder.durable, Folder.names)
    every_content: tuple[Content, ...] = (lambda file: file.durable, File.content, _length_only)
    for names, content in itertools.product(every_name, every_content):
        yield left(root, names, content)
    for sample in range(samples):
        changes = (_first_changes, _some_changes)[sample % 2]
        yield left(root, partial(changes, rng), partial(_some_content, rng))


def _first_changes(rng: random.Random, folder: Folder) -> Mapping[str, Node]:
    return _changed(folder.durable, folder.pending[: rng.randint(0, len(folder.pending))])


def _some_changes(rng: random.Random, folder: Folder) -> Mapping[str, Node]:
    return _changed(folder.durable, [change for change in folder.pending if rng.random() < 0.5])


def _length_only(file: File) -> bytes:
    return _without_sectors(file, file.content(), lambda: True)


def _some_content(rng: random.Random, file: File) -> bytes:
    if not file.pending:
        return file.durable
    whole = file.content()
    count = rng.randint(0, len(file.pending))
    first = list(file.pending[:count])
    if first and not isinstance(first[-1], int):
        offset, data = first[-1]
        first[-1] = offset, data[: rng.randint(0, len(data))]
    return rng.choice(
        (
            lambda: file.durable,
            lambda: whole,
            lambda: _applied(file.durable, first),
            lambda: _length_only(file),
            lambda: _without_sectors(file, whole, lambda: rng.random() < 0.5),
        )
    )()


def _without_sectors(file: File, whole: bytes, missing: Callable[[], bool]) -> bytes:
    """`whole` where some of its sectors are as they were before, zeros where there was nothing."""
    before = file.durable[: len(whole)].ljust(len(whole), b"\0")
    begins = range(0, len(whole), SECTOR)
    return b"".join((before if missing() else whole)[begin : begin + SECTOR] for begin in begins)
