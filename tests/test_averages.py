"""Running averages keep their laws, in float32, whatever the number of terms."""

import math

import numpy as np

from crh_train.averages import Ema, RunningMean, mean, moving_average


def test_the_mean_does_not_drift() -> None:
    values = np.full(100_000, 0.1, np.float32)
    values[::7] = 1e4
    expected = math.fsum(values.astype(np.float64)) / len(values)
    naive = np.float32(0)
    for value in values:
        naive += value
    unit = np.spacing(np.float32(expected))
    assert abs(float(mean(values)) - expected) <= 2 * unit  # Kahan's bound, whatever the number of terms
    assert abs(float(naive) / len(values) - expected) > 100 * unit


def test_the_mean_of_a_series_is_that_of_its_terms_one_by_one() -> None:
    values = np.random.default_rng(2).standard_normal(33).astype(np.float32)
    state = RunningMean()
    for value in values:
        state = state.add(value)
    assert state.terms == 33
    assert state.value.tobytes() == mean(values).tobytes()
    assert state.value.dtype == np.float32


def test_averages_of_nothing_and_of_non_finite_numbers() -> None:
    assert np.isnan(RunningMean().value)
    assert np.isnan(Ema(0.9).value)
    for bad in (np.nan, np.inf):
        series = np.array([1, bad, 2], np.float32)
        assert not np.isfinite(mean(series))
        assert not np.isfinite(moving_average(series, 0.9)[-1])


def test_the_moving_average_is_the_weighted_mean_and_keeps_a_constant_exactly() -> None:
    series = np.random.default_rng(1).standard_normal(40).astype(np.float32)
    averages = moving_average(series, 0.9)
    assert averages.dtype == np.float32
    for n, average in enumerate(averages, start=1):
        weights = 0.9 ** np.arange(n - 1, -1, -1.0)
        np.testing.assert_allclose(average, (weights * series[:n]).sum() / weights.sum(), rtol=1e-5, atol=1e-6)
    assert (moving_average(np.full(40, 0.3, np.float32), 0.9) == np.float32(0.3)).all()
