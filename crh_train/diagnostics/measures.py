"""Slopes, spread and oscillation of the last steps of a series, the same bits on every machine.

Everything is computed in integers: a float32 is an integer times a power of two, and so are the cosines of the table
below. A result is one quotient of integers, or its root, and is rounded once, to the nearest float64, by integer
arithmetic. A sum in floating point depends on its order, which BLAS and NumPy choose by processor and threads, and
`fft` and the platform's mathematical library differ in their last bits; integers do neither, and windows are short.

Numbers are relative to the level of the series, the mean magnitude over the long window: a loss of 0.003 that rises by
a tenth a step is as bad as one of 3 that does. A series whose scale is fixed, as coherence's in [-1, 1], has level 1.
"""

import math
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

import numpy as np

SHORT, LONG = 8, 32
"""Steps in the two windows, which both end with the newest step."""
NOISE_SHARE = 0.42
"""A share of the spectrum's power that its largest peak exceeds in less than one window of a hundred of white noise:
Fisher's test, P(g > x) < m (1 - x)^(m - 1) with m = 16 frequencies. Smaller peaks are no oscillation."""


class Measures(NamedTuple):
    """What a window says of a series, in units of its level."""

    short_slope: float  # per step, by linear regression over the last `SHORT` steps
    long_slope: float  # per step, over the last `LONG`
    stdev: float  # of the last `LONG` values around their mean, the trend included
    oscillation_score: float  # amplitude of the largest peak of the spectrum, the trend removed; 0 where it has none
    trend_share: float  # of the variance, that the line of `long_slope` explains, in [0, 1]
    peak_share: float  # of the detrended variance, that the largest peak explains, in [0, 1]


def measure(window: Sequence[np.float32], relative: bool) -> Measures | None:
    """The measures of the last `LONG` values, oldest first; None where one of them is not finite.

    `relative`: to the mean magnitude of the window; else the level is 1. A peak of the spectrum is a frequency of at
    least two periods in the window with no less power than those beside it, so that a curved trend, whose power only
    falls with frequency, has none.
    """
    if not all(map(math.isfinite, window)):
        return None
    values, unit = _integers(window)
    level = sum(map(abs, values)) if relative else LONG * unit  # times LONG, in units of `values`
    if not any(values):
        return Measures(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    total, along = sum(values), _along(values)
    spread = LONG * sum(map(mul, values, values)) - total**2  # LONG² times the variance
    residuals = [
        LONG * _SQUARES[LONG] * value - _SQUARES[LONG] * total - LONG * along * place
        for value, place in zip(values, _PLACES[LONG], strict=True)
    ]
    squared_peak, amplitude, peak_share = _peak(residuals)
    return Measures(
        short_slope=2 * LONG * _along(values[-SHORT:]) / (_SQUARES[SHORT] * level),
        long_slope=2 * LONG * along / (_SQUARES[LONG] * level),
        stdev=_root(spread, level),
        oscillation_score=_root(amplitude**2 * squared_peak, _ONE * LONG * _SQUARES[LONG] * level),
        trend_share=LONG * along**2 / (_SQUARES[LONG] * spread) if spread else 0.0,
        peak_share=peak_share,
    )


def _integers(window: Sequence[np.float32]) -> tuple[list[int], int]:
    """Integers and the one that stands for 1."""
    ratios = [float(value).as_integer_ratio() for value in window]
    unit = max(denominator for _, denominator in ratios)  # all are powers of two
    return [numerator * (unit // denominator) for numerator, denominator in ratios], unit


# --- the line ------------------------------------------------------------------------------------------------------

_PLACES = {length: range(1 - length, length, 2) for length in (SHORT, LONG)}
"""Twice the distance of each step from the middle of its window."""
_SQUARES = {length: sum(place * place for place in places) for length, places in _PLACES.items()}


def _along(values: Sequence[int]) -> int:
    """Twice this over the sum of squares is the slope per step."""
    return sum(map(mul, values, _PLACES[len(values)]))


# --- the spectrum --------------------------------------------------------------------------------------------------

_ONE = 1 << 60
_QUARTER = (
    *(0x1000000000000000, 0x0FB14BE7FBAE5815, 0x0EC835E79946A314, 0x0D4DB3148750D182, 0x0B504F333F9DE648),
    *(0x08E39D9CD7346436, 0x061F78A9ABAA58B4, 0x031F17078D34C157, 0x0000000000000000),
)
"""cos(πj/16) for j from 0 to 8, in units of 1 / `_ONE`, rounded to the nearest."""
_HALF = (*_QUARTER, *(-cosine for cosine in _QUARTER[-2::-1]))
_TURN = (*_HALF, *_HALF[-2:0:-1])
_HIGHEST = LONG // 2  # periods in the window, of two steps each
_FREQUENCIES = range(1, _HIGHEST + 1)
_COSINES = [[_TURN[k * t % LONG] for t in range(_HIGHEST + 1)] for k in _FREQUENCIES]
_SINES = [[_TURN[(k * t - LONG // 4) % LONG] for t in range(_HIGHEST + 1)] for k in _FREQUENCIES]


def _peak(residuals: Sequence[int]) -> tuple[int, int, float]:
    """Squared modulus of the transform at its largest peak, the factor from modulus times 1 / `LONG` to amplitude, and
    the peak's share of all power; zeros where no peak is larger than noise has."""
    pairs = list(zip(residuals[1:_HIGHEST], residuals[:_HIGHEST:-1], strict=True))
    even = [residuals[0], *(a + b for a, b in pairs), residuals[_HIGHEST]]
    odd = [0, *(a - b for a, b in pairs), 0]
    moduli = [
        sum(map(mul, even, cosines)) ** 2 + sum(map(mul, odd, sines)) ** 2
        for cosines, sines in zip(_COSINES, _SINES, strict=True)
    ]
    powers = [*(2 * modulus for modulus in moduli[:-1]), moduli[-1]]  # each but the highest stands for two
    beside = [*powers, 0]
    peaks = [i for i in range(1, _HIGHEST) if beside[i - 1] <= powers[i] >= beside[i + 1]]
    best = max(peaks, key=powers.__getitem__, default=0)
    share = powers[best] / sum(powers) if peaks and any(powers) else 0.0
    if share <= NOISE_SHARE:
        return 0, 0, 0.0
    return moduli[best], 1 if best == _HIGHEST - 1 else 2, share


_ROOT_BITS = 64  # of the integer root, more than a float64 has


def _root(square: int, divisor: int) -> float:
    """√square / divisor, rounded once."""
    if square == 0:
        return 0.0
    divided = divisor * divisor
    shift = max(0, _ROOT_BITS - (square.bit_length() - divided.bit_length()) // 2)
    root = math.isqrt((square << 2 * shift) // divided)
    exact = root * root * divided == square << 2 * shift
    return (2 * root + (not exact)) / (1 << shift + 1)  # the last bit says that the root lies above, for rounding
