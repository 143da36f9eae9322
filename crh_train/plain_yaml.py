"""YAML that says what it seems to say: one document of keys and values, small, flat, each key once. Nothing is built.

A file of 288 bytes whose aliases name one another keeps OmegaConf busy for 49 s, so a file is looked through as a
stream of events, which costs no more than its length, before anything else reads it.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import yaml  # type: ignore[import-untyped]

from crh_train.errors import ConfigError

MAX_BYTES = 64 << 10
MAX_DEPTH = 16  # mappings and lists within one another
MAX_NODES = 4096  # mappings, lists, keys and values; a whole packaged configuration has some 200
MAX_CHARACTERS = 1024  # of a key or value; a number of so many digits still prints
MAX_INTERPOLATED = 256  # characters of a text with an interpolation, each of which is parsed again


class Vetted(NamedTuple):
    text: str
    nodes: int
    interpolations: int


@dataclasses.dataclass
class _Open:
    """A mapping or list that has not ended."""

    keys: set[str] | None  # those so far; None for a list
    awaits_key: bool


def vet(data: bytes, name: str) -> Vetted:
    """The text of the configuration file `name`. Raises `ConfigError` naming the line for whatever is not plain."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}, line {line}: expected UTF-8, found other bytes; save the file as UTF-8") from error
    nodes = found = 0
    opened: list[_Open] = []
    for event in _events(text, name):
        place = f"{name}, line {event.start_mark.line + 1}"
        if isinstance(event, yaml.DocumentStartEvent) and nodes:
            raise ConfigError(f"{place}: expected one document, found another; keep one of them")
        if isinstance(event, yaml.CollectionEndEvent):
            opened.pop()
        if not isinstance(event, yaml.NodeEvent):
            continue
        nodes += 1
        if nodes > MAX_NODES:
            raise ConfigError(f"{place}: expected at most {MAX_NODES} keys and values, found more; leave some out")
        _check_node(event, opened, place)
        if isinstance(event, yaml.ScalarEvent):
            found += interpolations(event.value, place)
        else:
            mapping = isinstance(event, yaml.MappingStartEvent)
            opened.append(_Open(set() if mapping else None, mapping))
            if len(opened) > MAX_DEPTH:
                raise ConfigError(f"{place}: expected at most {MAX_DEPTH} levels, found more; write it flatter")
    if not nodes:
        raise ConfigError(f"{name}: expected keys and values, found none; write KEY: VALUE, or remove the file")
    return Vetted(text, nodes, found)


def interpolations(text: str, place: str) -> int:
    """How many `${KEY}` stand in `text`. Raises `ConfigError` for a resolver, such as `${oc.env:HOME}`."""
    start = text.find("${")
    if start < 0:
        return 0
    if ":" in text[start:]:  # a resolver's name may itself hold interpolations
        raise ConfigError(f"{place}: {text!r:.80} is refused: resolvers reach outside the configuration")
    if len(text) > MAX_INTERPOLATED:
        raise ConfigError(
            f"{place}: expected at most {MAX_INTERPOLATED} characters in a text with an interpolation, "
            f"found {len(text)}; shorten it"
        )
    return text.count("${")


def _events(text: str, name: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1
        raise ConfigError(f"{name}, line {line}: expected YAML: {error.problem:.160}") from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ConfigError(f"{name}, line {line}: expected text, found {chr(error.character)!r}; remove it") from error


def _check_node(event: yaml.NodeEvent, opened: list[_Open], place: str) -> None:
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise ConfigError(f"{place}: anchors and aliases are refused; write the value out, or use ${{KEY}}")
    if event.tag is not None:
        raise ConfigError(
            f"{place}: the tag {event.tag!r:.80} is refused: the schema knows each value's type; leave it out"
        )
    if not opened and not isinstance(event, yaml.MappingStartEvent):
        raise ConfigError(f"{place}: expected keys and values at the top level, found something else")
    if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_CHARACTERS:
        raise ConfigError(
            f"{place}: expected at most {MAX_CHARACTERS} characters, found {len(event.value)}; shorten it"
        )
    if opened and (keys := opened[-1].keys) is not None:
        if opened[-1].awaits_key:
            _check_key(event, keys, place)
        opened[-1].awaits_key = not opened[-1].awaits_key


def _check_key(event: yaml.NodeEvent, keys: set[str], place: str) -> None:
    if not isinstance(event, yaml.ScalarEvent):
        raise ConfigError(f"{place}: expected a name as a key, found a list or mapping")
    if event.value == "<<":
        raise ConfigError(f"{place}: the merge key '<<' is refused; write the keys out")
    if event.value in keys:
        raise ConfigError(f"{place}: expected each key once, found {event.value!r:.80} again; keep one of them")
    keys.add(event.value)
