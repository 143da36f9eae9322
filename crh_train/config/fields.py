"""What a field of the schema allows, kept as the field's metadata; `checks.py` reads it."""

from dataclasses import field
from typing import Any


def at_least(minimum: float, **more: Any) -> Any:
    return field(metadata={"minimum": minimum, **more})


def between(minimum: float, maximum: float) -> Any:
    return field(metadata={"minimum": minimum, "maximum": maximum})


def one_of(*choices: str) -> Any:
    return field(metadata={"choices": choices})


def path() -> Any:
    """Of a folder of the user's, as a program sees it, whom no shell has expanded `~` for."""
    return field(metadata={"path": True})
