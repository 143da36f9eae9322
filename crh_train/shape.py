"""Whether a JSON document has the shape that its reader relies on, so that a hostile one ends in a message.

A shape is a type, which the value must be exactly; `object`, for any value; a list of one shape, for a list of such; or
a mapping of keys to shapes, with `...` for all other keys. Without `...` there must be no other keys.
"""

from collections.abc import Mapping
from typing import Any

Shape = Any
_WORDS = {str: "text", int: "an integer", float: "a number", bool: "true or false", dict: "an object", list: "a list"}


def misfit(value: Any, shape: Shape, where: str = "the top level") -> str | None:
    """Where and how `value` does not have `shape`, in words; None where it has."""
    if isinstance(shape, Mapping):
        return _object_misfit(value, shape, where)
    if isinstance(shape, list):
        if type(value) is not list:
            return f"{where}: expected a list, found {_short(value)}"
        found = (misfit(element, shape[0], f"{where}[{index}]") for index, element in enumerate(value))
        return next((message for message in found if message is not None), None)
    if shape is object or type(value) is shape:
        return None
    return f"{where}: expected {_WORDS[shape]}, found {_short(value)}"


def _object_misfit(value: Any, shape: Mapping[Any, Shape], where: str) -> str | None:
    named = [key for key in shape if key is not ...]
    if type(value) is not dict:
        return f"{where}: expected an object, found {_short(value)}"
    missing = [key for key in named if key not in value]
    others = [key for key in value if key not in shape]
    if missing or (others and ... not in shape):
        return f"{where}: expected the keys {', '.join(named)}, found {_short(list(value))}"
    shapes = {key: shape[key if key in shape else ...] for key in value}
    found = (misfit(value[key], shapes[key], f"{where}.{key:.80}") for key in value)
    return next((message for message in found if message is not None), None)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
