"""From the slices of a volume to what the model makes of them, sample by sample."""

from collections.abc import Callable
from typing import Any

import numpy as np

from crh_train.errors import DataError
from crh_train.validator.evaluation import Evaluation
from crh_train.validator.volumes import HeldOutVolume, assemble

_WHOLE = slice(None), slice(None)


def first_slices(count: int, slices: int, stride: int) -> tuple[int, ...]:
    """Where samples of so many slices begin so that all of `count` are in one: `stride` apart, never farther than their
    length, the last one at the end.

    Raises:
      DataError: fewer slices than a sample holds.
    """
    if count < slices:
        raise DataError(f"it has {count} slices, the model takes {slices} at once; give a larger volume")
    starts = list(range(0, count - slices + 1, min(stride, slices)))
    return tuple(starts if starts[-1] + slices == count else [*starts, count - slices])


def predicted(
    pictures: np.ndarray, predict: Callable[[np.ndarray], np.ndarray], slices: int, stride: int, whole: bool
) -> np.ndarray:
    """What `predict` makes of every slice of `pictures`, [S, H, W] or [S, H, W, M]: [S, H, W], [S, H, W, K], or [K]
    where it is of the `whole` case. Where samples overlap it is their mean, as in validation (`volumes.assemble`)."""
    starts = first_slices(len(pictures), slices, stride)
    nothing: Any = np.float32(0)  # there is no target, and so no loss
    target: Any = np.zeros([] if whole else (slices, 1), np.int32)

    def evaluate(index: int) -> Evaluation:
        given: Any = pictures[starts[index] : starts[index] + slices]
        made: Any = predict(given)
        return Evaluation(nothing, given, made, target)

    volume = HeldOutVolume("", tuple(range(len(starts))), starts, (1.0, 1.0, 1.0), None, {}, _WHOLE)
    return assemble(volume, evaluate).output
