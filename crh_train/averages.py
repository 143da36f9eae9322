"""Running averages of a run's numbers on the host: state in, state out, NumPy float32, no JAX.

The same sequence of numbers gives the same bits: terms are taken one by one, in order.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class RunningMean(NamedTuple):
    """A mean by Kahan's compensated sum (Kahan, Further remarks on reducing truncation errors, 1965), whose error does
    not grow with the number of terms."""

    total: np.float32 = np.float32(0)
    compensation: np.float32 = np.float32(0)  # what the total has too much by rounding
    terms: int = 0

    def add(self, value: np.float32) -> "RunningMean":
        with np.errstate(over="ignore", invalid="ignore"):  # a non-finite series has a non-finite mean
            corrected = value - self.compensation
            total = self.total + corrected
            return RunningMean(total, (total - self.total) - corrected, self.terms + 1)

    @property
    def value(self) -> np.float32:
        """NaN before the first term."""
        return np.float32(np.nan) if self.terms == 0 else np.float32(self.total / np.float32(self.terms))


class Ema(NamedTuple):
    """Exponential moving average corrected for its start from zero: Σ decay^(n−i) xᵢ / Σ decay^(n−i), 0 ≤ decay < 1."""

    decay: float
    average: np.float32 = np.float32(0)
    weight: np.float32 = np.float32(0)  # 1 − decay^terms

    def add(self, value: np.float32) -> "Ema":
        # Moving the corrected average gives the quotient without a power, and keeps a constant series exact.
        take = np.float32(1 - self.decay)
        with np.errstate(over="ignore", invalid="ignore"):
            weight = np.float32(self.decay) * self.weight + take
            return Ema(self.decay, self.average + take / weight * (value - self.average), weight)

    @property
    def value(self) -> np.float32:
        """NaN before the first term."""
        return self.average if self.weight > 0 else np.float32(np.nan)


def mean(values: Iterable[np.float32]) -> np.float32:
    """Mean of `values` [n] by `RunningMean`."""
    state = RunningMean()
    for value in values:
        state = state.add(value)
    return state.value


def moving_average(values: np.ndarray, decay: float) -> np.ndarray:
    """`Ema` after each of `values` float32 [n]: float32 [n]."""
    state, averages = Ema(decay), np.empty_like(values)
    for index, value in enumerate(values):
        state = state.add(value)
        averages[index] = state.value
    return averages
