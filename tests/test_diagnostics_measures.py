"""The numbers of a window: those of their definitions, and the same bits on every machine."""

import math
from collections.abc import Sequence
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_samples import outputs, start_python

from crh_train.diagnostics import measures
from crh_train.diagnostics.measures import LONG, NOISE_SHARE, SHORT, Measures, measure

STEPS = np.arange(LONG)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
WINDOWS = st.lists(FINITE, min_size=LONG, max_size=LONG)


def measured(values: Sequence[float] | np.ndarray, relative: bool = False) -> Measures:
    found = measure([np.float32(value) for value in values], relative)
    assert found is not None
    return found


@given(st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_a_line_has_its_slope_and_nothing_else(start: int, slope: int) -> None:
    found = measured(start + slope * STEPS)
    assert (found.short_slope, found.long_slope) == (slope, slope)
    assert found.stdev == pytest.approx(abs(slope) * math.sqrt((LONG**2 - 1) / 12), rel=1e-15)
    assert (found.oscillation_score, found.peak_share) == (0, 0)
    assert found.trend_share == (slope != 0)


@given(WINDOWS, st.integers(-20, 20))
def test_relative_measures_do_not_see_the_scale(window: list[float], exponent: int) -> None:
    values = np.array(window, np.float32)
    with np.errstate(over="ignore"):
        scaled = np.ldexp(values, exponent)
    if np.all(np.isfinite(scaled)) and np.all(np.ldexp(scaled, -exponent) == values):
        assert measured(values, relative=True) == measured(scaled, relative=True)


@given(WINDOWS)
def test_up_and_down_are_alike(window: list[float]) -> None:
    one, other = measured(window), measured([-value for value in window])
    assert (other.short_slope, other.long_slope) == (-one.short_slope, -one.long_slope)
    assert other[2:] == one[2:]


@given(WINDOWS)
def test_slopes_and_shares_are_exact_and_rounded_once(window: list[float]) -> None:
    exact = [Fraction(value) for value in window]
    level = sum(map(abs, exact)) / LONG

    def slope(values: Sequence[Fraction]) -> Fraction:
        centre = Fraction(len(values) - 1, 2)
        places = [t - centre for t in range(len(values))]
        return sum(map(lambda t, x: t * x, places, values), Fraction(0)) / sum(t * t for t in places)

    mean = sum(exact) / LONG
    variance = sum((value - mean) ** 2 for value in exact) / LONG
    found = measured(window, relative=True)
    scale = level or Fraction(1)
    assert found.short_slope == float(slope(exact[-SHORT:]) / scale)
    assert found.long_slope == float(slope(exact) / scale)
    with mpmath.workprec(400):
        ratio = variance / scale**2
        assert found.stdev == float(mpmath.sqrt(mpmath.mpf(ratio.numerator) / ratio.denominator))
    line = slope(exact) ** 2 * Fraction(LONG**2 - 1, 12)
    assert found.trend_share == (float(line / variance) if variance else 0)


def test_a_root_between_two_numbers_is_rounded_to_the_one_that_is_nearer() -> None:
    between = 2**53 + 1  # as far from 2^53 as from 2^53 + 2
    assert measures._root(between**2, 1) == 2**53
    assert measures._root(between**2 * 4**40 + 1, 2**40) == 2**53 + 2
    assert measures._root(between**2 * 4**40 - 1, 2**40) == 2**53


@given(st.integers(2, LONG // 2), st.floats(0, 6.28), st.floats(0.01, 0.9))
def test_an_oscillation_has_its_amplitude(periods: int, phase: float, amplitude: float) -> None:
    swing = math.cos(phase) if periods == LONG // 2 else 1.0  # only its cosine is seen at two steps a period
    found = measured(1 + amplitude * np.cos(2 * np.pi * periods * STEPS / LONG + phase))
    if abs(swing) > 0.2:
        assert found.oscillation_score == pytest.approx(amplitude * abs(swing), rel=0.2)
        assert found.peak_share > 0.8


def test_the_score_is_that_of_the_transform_of_what_the_line_leaves() -> None:
    generator, compared = np.random.default_rng(0), 0
    for _ in range(200):
        swing = generator.uniform(0, 3) * np.sin(STEPS * generator.uniform(0.4, 3.1))
        values = np.float32(generator.standard_normal(LONG) + generator.uniform(-1, 1) * STEPS + swing)
        found = measured(values)
        line = np.polyval(np.polyfit(STEPS, np.float64(values), 1), STEPS)
        moduli = np.abs(np.fft.rfft(values - line))[1:] / LONG
        powers = moduli**2 * np.array([2] * (LONG // 2 - 1) + [1])
        peaks = [
            k for k in range(1, LONG // 2) if powers[k - 1] <= powers[k] and (k == 15 or powers[k + 1] <= powers[k])
        ]
        best = max(peaks, key=lambda k: powers[k])
        if powers[best] / powers.sum() > NOISE_SHARE:
            compared += 1
            assert found.oscillation_score == pytest.approx(moduli[best] * (1 if best == 15 else 2), rel=1e-9)
            assert found.peak_share == pytest.approx(powers[best] / powers.sum(), rel=1e-9)
        else:
            assert (found.oscillation_score, found.peak_share) == (0, 0)
    assert 30 < compared < 170


@pytest.mark.parametrize("decay", [2.0, 5.0, 30.0, -8.0])
def test_a_curved_trend_is_no_oscillation(decay: float) -> None:
    assert measured(np.exp(-STEPS / decay)).oscillation_score == 0


def test_noise_is_an_oscillation_in_fewer_than_one_window_of_a_hundred() -> None:
    noise = np.random.default_rng(1).standard_normal((2000, LONG))
    assert 0 < sum(measured(window).peak_share > 0 for window in noise) < 20


def test_what_is_not_finite_has_no_measures() -> None:
    for value in (np.nan, np.inf, -np.inf):
        for place in (0, LONG - 1):
            window = [np.float32(1)] * LONG
            window[place] = np.float32(value)
            assert measure(window, relative=True) is None


def test_a_series_at_rest_has_only_zeros() -> None:
    for value in (0.0, 3e-39, 1.0, 3.4e38):
        assert measured([value] * LONG, relative=True) == (0,) * 6


def test_the_largest_and_the_smallest_numbers_are_measured() -> None:
    for relative in (True, False):
        for values in ([3.4e38, -3.4e38] * 16, [1e-45, 3.4e38] * 16, [1e-45, 0.0] * 16):
            assert all(map(math.isfinite, measured(values, relative)))


def test_the_table_of_cosines_is_rounded_to_nearest() -> None:
    with mpmath.workprec(200):
        exact = [int(mpmath.nint(mpmath.cos(2 * mpmath.pi * j / LONG) * 2**60)) for j in range(LONG)]
    assert list(measures._TURN) == exact


DIGEST = """
import hashlib, json
import numpy as np
from crh_train.chronicle import ChronicleRecord
from crh_train.diagnostics.continuity import Continuity, follow
from crh_train.diagnostics.policy import ADVICE_ONLY

generator = np.random.default_rng(3)
values = np.float32(generator.integers(1, 1000, (400, 3)) * np.arange(1, 401)[:, None]) / np.float32(7)
records = [ChronicleRecord(0, 0, a, b, a, c, 0.0, step) for step, (a, b, c) in enumerate(values, 1)]
_, entries = follow(Continuity(7, ADVICE_ONLY), records)
print(len(entries), hashlib.sha256(b"".join(entry.line() for entry in entries)).hexdigest())
"""


def test_the_bits_are_those_of_every_machine() -> None:
    """Elsewhere: other threads, and NumPy without the instructions that it would choose."""
    baseline = {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX"}
    found = outputs(
        start_python(DIGEST, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", PYTHONHASHSEED="1"),
        start_python(DIGEST, OPENBLAS_NUM_THREADS="4", PYTHONHASHSEED="2"),
        start_python(f"import warnings; warnings.simplefilter('ignore')\n{DIGEST}", **baseline),
    )
    assert set(found) == {"74 2588a733a6f72d572a466caa47574e0ffe372087f35cb984739388e96b49c87a\n"}
