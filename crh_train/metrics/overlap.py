"""How predicted and true classes overlap, from counts: whole numbers, so that each result is rounded once, to float32.
NumPy on the host, the same on every machine.

`table` is a confusion table, int64 [K, K]: true class, then predicted class.
"""

from fractions import Fraction

import numpy as np

from crh_train.metrics.shapes import require_same_shape


def confusion(predicted: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    """The confusion table of classes in [0, `classes`), integers of any shape: int64 [classes, classes].

    Raises `UsageError` if the shapes differ.
    """
    require_same_shape(predicted, target)
    pairs = np.ravel(target).astype(np.int64) * classes + np.ravel(predicted)
    return np.bincount(pairs, minlength=classes * classes).astype(np.int64).reshape(classes, classes)


def accuracy(table: np.ndarray) -> np.float32 | None:
    """Fraction of elements of the same class; None of no element."""
    return _ratio(int(np.trace(table)), int(table.sum()))


def f1_macro(table: np.ndarray) -> np.float32 | None:
    """F1 of each class, 2 TP / (2 TP + FP + FN), averaged without weights; None of no element.

    scikit-learn's convention (`average="macro"`, `zero_division=0`): a class that is in neither of the two is left out
    of the average, one that is in only one of them counts with 0.
    """
    found = [Fraction(2 * both, either) for both, either in _counts(table) if either]
    return None if not found else _rounded(sum(found, Fraction(0)) / len(found))


def dice(table: np.ndarray) -> list[np.float32 | None]:
    """Dice of each class but 0, the background: 2 TP / (2 TP + FP + FN), class 1 first.

    MONAI's convention (`DiceMetric(include_background=False)`): None, its NaN, where the target has nothing of the
    class, whatever is predicted; 0 where the target has some and the prediction none.
    """
    there = table.sum(axis=1) > 0
    return [_ratio(2 * both, either) if there[k] else None for k, (both, either) in enumerate(_counts(table)) if k]


def mean_of(values: list[np.float32 | None]) -> np.float32 | None:
    """The mean of those that are there, rounded once; None of none. Not finite where one is not."""
    found = [float(value) for value in values if value is not None]
    if not found or not np.all(np.isfinite(found)):
        return np.float32(sum(found)) if found else None
    return _rounded(sum(map(Fraction, found), Fraction(0)) / len(found))


def _counts(table: np.ndarray) -> list[tuple[int, int]]:
    """For each class: elements where both have it; elements of the one plus elements of the other."""
    both, either = np.diag(table), table.sum(axis=0) + table.sum(axis=1)
    return [(int(b), int(e)) for b, e in zip(both, either, strict=True)]


def _ratio(part: int, whole: int) -> np.float32 | None:
    return _rounded(Fraction(part, whole)) if whole else None


def _rounded(value: Fraction) -> np.float32:
    return np.float32(float(value))
