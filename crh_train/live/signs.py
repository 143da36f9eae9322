"""The characters that a view is made of: braille, of eight dots each, where the terminal has them, else ASCII."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crh_train.visible import visible

Dots = NDArray[np.bool_]

_BRAILLE = 0x2800
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # of a character's dots, 4 rows of 2


@dataclass(frozen=True)
class Signs:
    dots: tuple[int, int]  # rows and columns of dots in one character
    separator: str
    tick: str
    done: str  # of the progress bar
    left: str
    cut: str  # at the end of a text that is longer than its place

    def characters(self, line: Dots, points: Dots) -> list[str]:
        """Rows of text for dots [rows, columns] that belong to the line or are points."""
        if self.dots == (1, 1):
            codes = np.where(line, ord("*"), np.where(points, ord("."), ord(" ")))
        else:
            high, wide = self.dots
            cells = (line | points).reshape(line.shape[0] // high, high, line.shape[1] // wide, wide)
            bits = (cells * _BITS[None, :, None, :]).sum(axis=(1, 3))
            codes = np.where(bits, _BRAILLE + bits, ord(" "))
        return ["".join(map(chr, row)) for row in codes]

    def shown(self, text: str) -> str:
        """`text` without what a terminal would obey, and without what these signs do not reach."""
        shown = visible(text)
        return shown if self.dots != (1, 1) else shown.encode("ascii", "backslashreplace").decode()


BRAILLE = Signs(dots=(4, 2), separator=" · ", tick="┤", done="━", left="─", cut="…")
ASCII = Signs(dots=(1, 1), separator=", ", tick="|", done="#", left="-", cut="~")


def signs_for(encoding: str, environ: Mapping[str, str]) -> Signs:
    """Braille where `encoding` has it; not on Linux's own console, whose font does not."""
    try:
        "⣿·┤━─…".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return ASCII if environ.get("TERM", "") == "linux" else BRAILLE
