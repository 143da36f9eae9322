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


class ArrayDifference(NamedTuple):
    """How an array of one run differs from another run's of the same name."""

    name: str
    a: str | None  # type and shape; None where this run lacks it
    b: str | None
    elements: int | None = None  # None where type or shape differ, as is all that follows
    differing: int | None = None  # elements whose bits differ
    element: tuple[int, ...] | None = None  # the first one, in C order
    value_a: str | None = None
    value_b: str | None = None
    ulp: int | None = None  # between those two; None where one is not finite, or the type is not float32
    largest_ulp: int | None = None  # of all pairs of finite numbers


def first_difference(step: int, recorded: Mapping[str, object], replayed: Mapping[str, object]) -> Difference | None:
    """The first field, in the chronicle's order, whose bits differ."""
    return next(iter(differences(step, recorded, replayed)), None)


def differences(step: int, recorded: Mapping[str, object], replayed: Mapping[str, object]) -> list[Difference]:
    """Each field, in the chronicle's order, whose bits differ."""
    found = []
    for field in COMPARED:
        a, b = recorded[field], replayed[field]
        if isinstance(a, np.float32) and isinstance(b, np.float32):
            if a.tobytes() != b.tobytes():
                both = np.isfinite(a) and np.isfinite(b)
                ulp = int(ulp_distance(np.asarray(a), np.asarray(b))) if both else None
                found.append(Difference(step, field, str(a), str(b), ulp))
        elif a != b:
            found.append(Difference(step, field, str(a), str(b), None))
    return found


def array_difference(name: str, a: np.ndarray | None, b: np.ndarray | None) -> ArrayDifference | None:
    """How `a` and `b` differ, of which one may be absent; None where all bits are the same."""
    type_a, type_b = (None if array is None else f"{array.dtype}{list(array.shape)}" for array in (a, b))
    if a is None or b is None or type_a != type_b:
        return ArrayDifference(name, type_a, type_b) if type_a != type_b else None
    unequal = _unequal(a, b)
    if not unequal.any():
        return None
    first = int(np.argmax(unequal))
    element = tuple(int(i) for i in np.unravel_index(first, a.shape))
    ulps: tuple[int | None, int | None] = (None, None)
    if a.dtype == np.float32:
        finite = (np.isfinite(a) & np.isfinite(b)).reshape(-1)
        distance = np.where(finite, ulp_distance(a, b).reshape(-1), -1)
        ulps = (int(distance[first]) if finite[first] else None, int(distance.max()) if finite.any() else None)
    values = str(a[element]), str(b[element])
    return ArrayDifference(name, type_a, type_b, a.size, int(unequal.sum()), element, *values, *ulps)


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
    count = f"{int(_unequal(a, b).sum())} of {a.size} elements differ"
    return f"{count}, by at most {int(ulp_distance(a, b).max())} ulp" if a.dtype == np.float32 else count


def _unequal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which elements of two arrays of one type and shape have other bits, in C order: bool [elements]."""
    bits = np.dtype(f"u{a.dtype.itemsize}")
    unequal: np.ndarray = np.not_equal(np.frombuffer(a.tobytes(), bits), np.frombuffer(b.tobytes(), bits))
    return unequal


def _ordered(values: np.ndarray) -> np.ndarray:
    bits = np.asarray(values, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF) - 1, bits)
