"""Which files a configuration is composed of: it, those that its defaults list names, and those that theirs name.

Defaults lists are followed as Hydra follows them, but only through a plain part of its grammar, and so that no file is
opened twice, outside its folder, or before it is vetted. Hydra itself then sees copies of these files and no others.

    - _self_                  where the file's own keys come in
    - [/]PATH                 another file; from the top where it begins with `/`
    - [KIND ][/]GROUP: CHOICE the file GROUP/CHOICE. KIND: `override`, of what another list picked, or `optional`
"""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from crh_train.config import PARTS, SECTIONS, nearest
from crh_train.errors import ConfigError, InputError
from crh_train.plain_yaml import MAX_BYTES, MAX_NODES, Vetted, vet
from crh_train.regular_file import read_regular

MAX_FILES = 64  # counted each time that one is named
MAX_INTERPOLATIONS = 16
"""Each can double the text that the next one repeats."""

_PATH = re.compile(r"(/?)([\w .+-]+(?:/[\w .+-]+)*)")
_GROUP = re.compile(r"(?:(override|optional) )?(/?)(\w[\w+-]*(?:/\w[\w+-]*)*)")
_HEADER = re.compile(r"^\s*#\s*@(.*)$", re.MULTILINE)
_PACKAGE = re.compile(rf"package +(?:_global_|_group_|(?:{'|'.join([*PARTS, *SECTIONS])})(?:\.\w+)?) *")


class Entry(NamedTuple):
    """One line of a defaults list."""

    kind: str | None  # "override", "optional"
    group: str | None  # from the top; None for a file of no group
    name: str  # the choice, or a path from the top


@dataclasses.dataclass
class _Opened:
    """What was found so far."""

    conf: str
    folders: Sequence[Path]
    choices: dict[str, str]  # of each group, by the command line or the first `override`
    files: dict[str, Vetted]
    groups: set[str]
    visits: int = 0
    nodes: int = 0
    interpolations: int = 0


def stems(folders: Sequence[Path], group: str = "") -> list[str]:
    """Names of the configuration files of `group`, or of the top."""
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def opened(conf: str, picks: Mapping[str, str], folders: Sequence[Path]) -> tuple[dict[str, str], int]:
    """The text of each file that `conf` is composed of, by its path in the folder of configurations, and how many
    interpolations they hold. `picks` are the command line's choices, by group.

    Raises `ConfigError` for a file that is missing or not plain, for too many of them, and for a pick of no use.
    """
    found = _Opened(conf, folders, dict(picks), {}, set())
    _visit(found, conf, "", optional=False)
    for group in picks.keys() - found.groups:
        raise ConfigError(
            f"{group}={picks[group]}: conf={conf} has no '{group}' in its defaults list; add '- {group}: CHOICE' to it"
        )
    return {path: vetted.text for path, vetted in found.files.items()}, found.interpolations


def without(files: Mapping[str, str], sections: Sequence[str]) -> dict[str, str]:
    """`files` of `opened`, those of which that fill the whole configuration leave `sections` as they find them.

    What a choice says of itself stays: it stands in a file of its group.
    """
    return {path: _emptied(text, path, sections) if _fills_all(text, path) else text for path, text in files.items()}


def _fills_all(text: str, path: str) -> bool:
    headers = _HEADER.findall(text)
    return any("_global_" in header for header in headers) if headers else "/" not in path


def _emptied(text: str, path: str, sections: Sequence[str]) -> str:
    found = yaml.compose(text, Loader=yaml.SafeLoader)
    for key, value in reversed(found.value):  # from the end, so that the places before it stay where they are
        if key.value in sections and not path.startswith(f"{key.value}/") and isinstance(value, yaml.MappingNode):
            end = "" if value.flow_style else "\n"  # a block ends where the next key begins
            text = f"{text[: value.start_mark.index]}{{}}{end}{text[value.end_mark.index :]}"
    return text


def _visit(found: _Opened, path: str, group: str, optional: bool) -> None:
    """Take in the file `path`, in whose defaults list names are relative to `group`, and those that it names."""
    place = next((p for folder in found.folders if os.path.lexists(p := folder / f"{path}.yaml")), None)
    if place is None:
        if optional:
            return
        above, _, name = path.rpartition("/")
        what = f"{above}={name}" if above else f"'- {name}' in a defaults list"
        known = stems(found.folders, above)
        hint = nearest(name, known) if known else f"there is no folder conf/{above} of choices"
        raise ConfigError(f"conf={found.conf}: {what} is unknown: {hint}")
    if path not in found.files:  # one that is named twice is read once, for it can change
        found.files[path] = vet(_read(place), str(place))
    vetted = found.files[path]
    _count(found, vetted, place)
    entries = _entries(vetted.text, group, place, primary=path == found.conf)
    for entry in entries:
        if entry.kind == "override":
            assert entry.group is not None
            found.choices.setdefault(entry.group, entry.name)
    for entry in reversed(entries):  # as Hydra does: the last one's overrides count first
        if entry.group is None:
            _visit(found, entry.name, entry.name.rpartition("/")[0], optional=False)
        elif entry.kind != "override":
            found.groups.add(entry.group)
            choice = found.choices[entry.group] if entry.group in found.choices else entry.name
            _visit(found, f"{entry.group}/{choice}", entry.group, entry.kind == "optional")


def _read(path: Path) -> bytes:
    try:
        # A link is followed: people keep one configuration for several projects.
        return read_regular(Path(os.path.realpath(path)), MAX_BYTES, InputError)
    except InputError as error:
        raise ConfigError(str(error)) from error


def _count(found: _Opened, vetted: Vetted, place: Path) -> None:
    found.visits += 1
    found.nodes += vetted.nodes
    found.interpolations += vetted.interpolations
    for count, limit, what in (
        (found.visits, MAX_FILES, "files in all, found more; does a defaults list name its own file?"),
        (found.nodes, MAX_NODES, "keys and values in all, found more; leave some out"),
        (found.interpolations, MAX_INTERPOLATIONS, "interpolations in all, found more; write the values out"),
    ):
        if count > limit:
            raise ConfigError(f"conf={found.conf}: {place}: expected at most {limit} {what}")


def _entries(text: str, group: str, place: Path, primary: bool) -> list[Entry]:
    """The defaults list of a vetted file, without `_self_`, which the `primary` one must have."""
    for header in _HEADER.findall(text):
        if not _PACKAGE.fullmatch(header.strip()):
            raise ConfigError(
                f"{place}: the header '@{header:.80}' is refused; expected '# @package _global_', or none"
            )
    try:
        document = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:  # such as a date in a thirteenth month
        raise ConfigError(f"{place}: a value cannot be read: {str(error).splitlines()[0]:.160}; quote it") from error
    if "hydra" in document:
        raise ConfigError(f"{place}: the section 'hydra' is refused: crh-train has no settings of Hydra's; remove it")
    if "defaults" not in document:
        return []
    items = document["defaults"]
    if not isinstance(items, list):
        raise ConfigError(f"{place}: expected a list as 'defaults', found {items!r:.80}")
    if primary and len(document) > 1 and "_self_" not in items:
        raise ConfigError(
            f"{place}: expected '- _self_' in the defaults list, which says where the file's own keys come in"
        )
    return [_entry(item, group, place) for item in items if item != "_self_"]


def _entry(item: Any, group: str, place: Path) -> Entry:
    key, name = next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else (None, item)
    path = _PATH.fullmatch(name) if isinstance(name, str) else None
    if path is None or any(not part.strip(" .") for part in path[2].split("/")):
        raise _refused(item, place)
    name = path[2].removesuffix(".yaml")
    if key is None:
        return Entry(None, None, _from_top(path[1], name, group))
    named = _GROUP.fullmatch(key) if isinstance(key, str) else None
    if named is None or path[1] or named[3].split("/")[0] == "hydra":
        raise _refused(item, place)
    return Entry(named[1], _from_top(named[2], named[3], group), name)


def _from_top(slash: str, name: str, group: str) -> str:
    return name if slash or not group else f"{group}/{name}"


def _refused(item: Any, place: Path) -> ConfigError:
    return ConfigError(
        f"{place}: {item!r:.80} in the defaults list is refused; expected '- GROUP: CHOICE' or '- FILE', plain names "
        "within the folder, with 'override' or 'optional' before GROUP where it applies"
    )
