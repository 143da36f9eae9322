"""Whether confidences are what they say: a prediction made with confidence 0.8 should be right in 80 % of cases. NumPy
on the host; sums of confidences are whole numbers, so that the result is rounded once and the same on every machine.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

BINS = 15
_UNIT = 2.0**-40  # every float32 from 2^-16 to 1 is a whole number of these


class Bins(NamedTuple):
    """What is known of the predictions of each bin of confidence; `together` adds those of several pieces."""

    total: np.ndarray  # int64 [BINS]
    correct: np.ndarray  # int64 [BINS]
    confidence: np.ndarray  # of Python's whole numbers [BINS], the sum of confidences in units of 2^-40
    undefined: int  # predictions whose confidence is not a number from 2^-16 to 1


def together(pieces: Iterable[Bins]) -> Bins:
    """The bins of all predictions of one piece or more."""
    totals, corrects, confidences, undefined = zip(*pieces, strict=True)
    total, correct, confidence = (np.sum(each, axis=0) for each in (totals, corrects, confidences))
    return Bins(total, correct, confidence, sum(undefined))


def bins(probabilities: np.ndarray, target: np.ndarray) -> Bins:
    """Sort predictions into bins by the probability of the likeliest class: float32 [..., K], int [...].

    Bin b of 15 holds confidences in (b/15, (b+1)/15]; of equally likely classes the first is the predicted one.
    """
    predicted, confidence = np.argmax(probabilities, axis=-1), np.max(probabilities, axis=-1)
    right, confidence = (predicted == target).ravel(), confidence.ravel().astype(np.float64)
    defined = (confidence >= 2.0**-16) & (confidence <= 1.0 + 2.0**-20)  # a softmax in float32 may exceed 1 a little
    right, confidence = right[defined], np.minimum(confidence[defined], 1.0)
    place = np.ceil(confidence * BINS).astype(np.int64) - 1  # exact: a float32 times 15 is a float64
    units = np.round(confidence / _UNIT).astype(np.int64)
    sums = np.array([_exact_sum(units[place == b]) for b in range(BINS)], object)
    total, correct = (np.bincount(each, minlength=BINS) for each in (place, place[right]))
    return Bins(total, correct, sums, int(defined.size - np.count_nonzero(defined)))


def calibration_error(found: Bins) -> np.float32 | None:
    """Expected calibration error: over the bins, the mean distance of accuracy and mean confidence, weighted by the
    number of predictions in the bin. None of no prediction, NaN where a confidence is undefined.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    if found.undefined:
        return np.float32(np.nan)
    total = int(found.total.sum())
    scale = int(1 / _UNIT)
    distances = (abs(int(c) * scale - int(s)) for c, s in zip(found.correct, found.confidence, strict=True))
    return np.float32(float(Fraction(sum(distances), scale * total))) if total else None


def _exact_sum(units: np.ndarray) -> int:
    """Of whole numbers below 2^41, as Python's, in pieces whose sum an int64 holds."""
    piece = 1 << 21
    return sum(int(units[first : first + piece].sum()) for first in range(0, len(units), piece))
