"""What a field of the schema allows, kept as the field's metadata; `checks.py` reads it."""

from dataclasses import field
from typing import Any


def at_least(minimum: float, **more: Any) -> Any:
    return field(metadata={"minimum": minimum, **more})


def between(minimum: float, maximum: float) -> Any:
    return field(metadata={"minimum": minimum, "maximum": maximum})


def one_of(*choices: str) -> Any:
    return field(metadata={"choices": choices})
