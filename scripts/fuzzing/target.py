"""What a fuzz target is, and changing bytes without knowing what they mean."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

Change = Callable[[bytes], bytes]


class Violation(Exception):
    """An input on which the reader does not do what it promises."""


class Target(NamedTuple):
    """A reader and inputs for it."""

    seeds: Sequence[bytes]  # inputs that the reader accepts
    mutate: Callable[[bytes, random.Random, Change], bytes]
    """An input made of another one; what it does not know the structure of it gives to the third argument."""
    run: Callable[[bytes, Path], str | None]
    """Let the reader read the input from an empty folder. Its error's message, or None where it accepted the input.
    Raises `Violation`, or whatever the reader raised that it may not raise."""


def change_bytes(data: bytes, random: random.Random) -> bytes:
    """`data` with one to four places flipped, overwritten, cut, doubled, zeroed or cut off."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at, size = random.randint(0, len(changed)), random.choice((1, 2, 4, 8, 40, 64, 500))
        match random.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
            case 1:
                changed[at : at + size] = random.randbytes(size)
            case 2:
                del changed[at : at + size]
            case 3:
                changed[at:at] = changed[at : at + size] * random.choice((1, 2, 100))
            case 4:
                changed[at : at + size] = bytes(len(changed[at : at + size]))
            case 5:
                del changed[at:]
    return bytes(changed)


def expect_line(message: str, path: Path) -> None:
    """Raises `Violation` unless `message` is one short line; the path in it is not counted."""
    told = message.replace(str(path), "")
    if not told.isprintable() or len(told) > 1000:
        raise Violation(f"expected a message of one short line, found {told!r:.2000}")
