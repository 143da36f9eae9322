"""Values outside what the schema allows, refused by name, with the nearest name that it knows."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from crh_train.errors import ConfigError

_LARGEST_FLOAT32 = float.fromhex("0x1.fffffep127")
_LARGEST_INTEGER = 2**53 - 1  # beyond it canonical JSON has no exact number


def nearest(name: str, known: list[str]) -> str:
    """` (did you mean 'x'?)`, or the list of what there is, for the end of an error message."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"


def check_ranges(part: Any, path: str) -> None:
    """Raise `ConfigError` for a field outside what its schema allows, lists element by element."""
    for spec in dataclasses.fields(part):
        value = getattr(part, spec.name)
        where = f"{path}.{spec.name}"
        for element in value if isinstance(value, list) else [value]:
            _check_element(element, spec.metadata, where)
        if isinstance(value, list):
            _check_list(value, spec.metadata, where)


def _check_list(values: list[Any], allowed: Mapping[str, Any], where: str) -> None:
    if "length" in allowed and len(values) != allowed["length"]:
        raise ConfigError(f"{where} must be {allowed['length']} numbers, got {values}")
    if "ascending" in allowed:
        low, high = values
        # By more than float32 rounds away, and no more than it holds.
        if not 1e-6 * max(abs(low), abs(high)) < high - low <= _LARGEST_FLOAT32:
            raise ConfigError(f"{where} must be two ascending numbers such as [-160, 240], got {values}")


def require_range(path: str, bounds: list[float]) -> tuple[float, float]:
    """The two numbers of a range. Raise `ConfigError` unless they are two, the smaller one first."""
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise ConfigError(f"{path} must be [smallest, largest], got {bounds}")
    return bounds[0], bounds[1]


def _check_element(value: Any, allowed: Mapping[str, Any], where: str) -> None:
    if value is None:  # only where the schema's type allows it
        return
    if isinstance(value, float) and not abs(value) <= _LARGEST_FLOAT32:  # nan compares false
        raise ConfigError(f"{where} must be a finite float32 number, got {value}")
    if "choices" in allowed and value not in allowed["choices"]:
        raise ConfigError(f"{where}={value!r} is unknown: {nearest(str(value), list(allowed['choices']))}")
    if "path" in allowed and value.startswith("~"):  # KEY=~/x is not what a shell expands; a folder `~` helps nobody
        whole = f'{where}="$HOME{value[1:]:.80}"' if value[1:2] in ("", "/") else "the whole path"
        raise ConfigError(
            f"{where}={value!r:.80} begins with '~', which stands for a home folder only where a shell expands it; "
            f"write {whole}, or ./{value:.80} for a folder of that name"
        )
    if "minimum" in allowed and value < allowed["minimum"]:
        raise ConfigError(f"{where} must be at least {allowed['minimum']}, got {value}")
    if "maximum" in allowed and value > allowed["maximum"]:
        raise ConfigError(f"{where} must be at most {allowed['maximum']}, got {value}")
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise ConfigError(f"{where} must be at most {_LARGEST_INTEGER} in magnitude, got {value}")
