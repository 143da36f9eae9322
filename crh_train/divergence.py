"""Where two runs part: the first number that differs, and by how much. No JAX."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

COMPARED = ("epoch", "batch", "loss", "coherence", "lr", "grad_norm", "step")
"""The fields of a chronicle line that a replay must reproduce: all but the timestamp."""


class Difference(NamedTuple):
    """One number that differs."""

    step: int
    field: str  # a chronicle field, or the name of an array
    recorded: str
    replayed: str
    ulp: int | None  # float32 numbers between the two; None where one is no number or the field is an integer

    def __str__(self) -> str:
        size = "" if self.ulp is None else f" ({self.ulp} ulp apart)"
        return f"step {self.step}: {self.field} is {self.replayed}, recorded {self.recorded}{size}"


def ulp_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How many float32 steps lie between `a` and `b`, elementwise: int64; +0 and -0 are one step apart.

    Float32 patterns are mapped to integers in the order of the numbers; NaNs lie beyond the infinities.
    """
    distance: np.ndarray = np.abs(_ordered(a) - _ordered(b))
    return distance


def first_difference(step: int, recorded: Mapping[str, object], replayed: Mapping[str, object]) -> Difference | None:
    """The first field, in the chronicle's order, whose bits differ."""
    for field in COMPARED:
        a, b = recorded[field], replayed[field]
        if isinstance(a, np.float32) and isinstance(b, np.float32):
            if a.tobytes() != b.tobytes():
                both = np.isfinite(a) and np.isfinite(b)
                ulp = int(ulp_distance(np.asarray(a), np.asarray(b))) if both else None
                return Difference(step, field, str(a), str(b), ulp)
        elif a != b:
            return Difference(step, field, str(a), str(b), None)
    return None


def differing_arrays(recorded: Mapping[str, np.ndarray], replayed: Mapping[str, np.ndarray]) -> list[str]:
    """In words, each array whose bits differ, in sorted order, with the number of elements and the largest distance."""
    lines = []
    for name in sorted({*recorded, *replayed}):
        if name not in recorded or name not in replayed:
            lines.append(f"'{name}' is only in the {'replay' if name in replayed else 'recorded run'}")
            continue
        a, b = recorded[name], replayed[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            lines.append(f"'{name}' is {b.dtype}{list(b.shape)}, recorded {a.dtype}{list(a.shape)}")
        elif a.tobytes() != b.tobytes():
            lines.append(f"'{name}': {_amount(a, b)}")
    return lines


def _amount(a: np.ndarray, b: np.ndarray) -> str:
    unequal = np.not_equal(np.frombuffer(a.tobytes(), _bits(a)), np.frombuffer(b.tobytes(), _bits(a)))
    count = f"{int(unequal.sum())} of {a.size} elements differ"
    return f"{count}, by at most {int(ulp_distance(a, b).max())} ulp" if a.dtype == np.float32 else count


def _bits(array: np.ndarray) -> np.dtype:
    return np.dtype(f"u{array.dtype.itemsize}")


def _ordered(values: np.ndarray) -> np.ndarray:
    bits = np.asarray(values, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF) - 1, bits)
