"""How two JSON documents differ: dotted keys and both values, of what is not the same and nothing else."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """One key at which two documents, A and B, differ."""

    key: str
    sides: Mapping[str, Any]  # "a" and "b", each its value; the side that lacks the key is not there

    def text(self, side: str) -> str:
        """The value of "a" or "b" for a person."""
        if side not in self.sides:
            return "–"
        value = self.sides[side]
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Entry]:
    """Each dotted key whose value is not the same, in sorted order. A list is one value; where it holds names, each
    side has only those that the other lacks."""
    flat = flattened(a), flattened(b)
    return [
        Entry(key, _narrowed(key, *flat))
        for key in sorted({*flat[0], *flat[1]})
        if key not in flat[0] or key not in flat[1] or not _same(flat[0][key], flat[1][key])
    ]


def flattened(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of `document` by dotted keys; an empty object is a value."""
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def as_json(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    return [{"key": entry.key, **entry.sides} for entry in entries]


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)  # True == 1


def _narrowed(key: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    sides = {side: flat[key] for side, flat in (("a", a), ("b", b)) if key in flat}
    if len(sides) == 2 and all(_names(value) for value in sides.values()) and {*sides["a"]} != {*sides["b"]}:
        one, other = sides["a"], sides["b"]
        return {"a": [name for name in one if name not in other], "b": [name for name in other if name not in one]}
    return sides


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
