"""Strict JSON from bytes that nobody vouches for: UTF-8, each key once, finite numbers, and no more than it may cost.

Python's own reader takes NaN, keys given twice, halves of surrogate pairs and nesting to the end of the stack, and
makes some 7 GB of 256 MB of empty lists.
"""

import itertools
import json
import math
import re
from collections.abc import Iterable
from typing import Any

MAX_BYTES = 64 << 20
MAX_MARKS = 4_000_000
"""Of brackets that open, commas and colons: at least as many as there are values and keys, at up to 80 bytes each."""
MAX_DEPTH = 64
MAX_INTEGER_CHARACTERS = 20  # a 64-bit number and its sign
MAX_NUMBER_CHARACTERS = 64  # the shortest text of a double has at most 25

_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # neither a file's name nor UTF-8 can hold these


def parse(data: bytes) -> Any:
    """The value that `data` is the JSON of. Raises `ValueError` with a short reason; before anything is made of `data`
    where it holds more than `MAX_MARKS` brackets that open, commas and colons, those within texts counted too.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES} bytes, found {len(data)}")
    if (marks := sum(map(data.count, (b",", b":", b"[", b"{")))) > MAX_MARKS:
        raise ValueError(f"expected at most {MAX_MARKS} commas, colons and opening brackets, found {marks}")
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_refused
        )
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    _check(value, escaped=b"\\u" in data)
    return value


_TOO_DEEP = f"expected at most {MAX_DEPTH} levels of lists and objects, found more"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = sorted(key for key, _ in pairs)
        twice = next(name for name, following in itertools.pairwise(names) if name == following)
        raise ValueError(f"expected each key once, found {twice[:40]!r} twice")
    return made


def _integer(text: str) -> int:
    if len(text) > MAX_INTEGER_CHARACTERS:
        raise ValueError(f"expected integers of at most {MAX_INTEGER_CHARACTERS} characters, found {len(text)}")
    return int(text)


def _number(text: str) -> float:
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise ValueError(f"expected numbers of at most {MAX_NUMBER_CHARACTERS} characters, found {len(text)}")
    if not math.isfinite(number := float(text)):
        _refused(text)
    return number


def _refused(text: str) -> None:
    raise ValueError(f"expected finite numbers, found {text}")


def _check(value: Any, escaped: bool) -> None:
    """Raise `ValueError` for too many levels, and where texts hold escapes, for what an escape alone can make."""
    level: Iterable[Any] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        nested = []
        for container in level:
            for member in itertools.chain(container, container.values()) if type(container) is dict else container:
                if type(member) is dict or type(member) is list:
                    nested.append(member)
                elif escaped and type(member) is str and _NO_TEXT.search(member):
                    raise ValueError("expected whole characters other than NUL, found an escape of another")
        if not nested:
            return
        level = nested
    raise ValueError(_TOO_DEEP)
