"""Laws of the portable special functions: within 0.52 ulp of the truth, one golden hash on every machine.

`python tests/test_portable_special.py` prints the hashes of this machine as JSON; with `--write` it renews
`tests/golden/functions-special.json`, which is right only where a value was meant to change.
"""

import json
from collections.abc import Callable
from pathlib import Path

import mpmath
import numpy as np
import pytest
from portable_elsewhere import FLAGS, said, write_or_print
from test_portable_trigonometric import (
    EVERY_NAN,
    SMALLEST,
    around,
    digest,
    evaluate,
    largest_error,
    patterns,
    sweep,
    unfenced_products,
    unflushed,
)

from crh_train.portable import special

GOLDEN = Path(__file__).parent / "golden" / "functions-special.json"
NAMES = ["erf", "erfc", "erf_inv", "bessel_i0e", "bessel_i1e", "lgamma", "digamma"]
FUNCTIONS = {name: getattr(special, name) for name in NAMES}
ODD = ("erf", "erf_inv", "bessel_i1e")
LARGEST = float(np.finfo(np.float32).max)
BELOW_ONE = float(np.float32(1) - np.float32(2.0**-24))
DIGITS = 50


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_machine_has_the_golden_bits(name: str) -> None:
    assert digest(FUNCTIONS[name], sweep()) == json.loads(GOLDEN.read_text())[name]


@pytest.mark.parametrize("flag", FLAGS)
def test_neither_instructions_nor_optimisation_change_a_bit(flag: str) -> None:
    assert said(__file__, XLA_FLAGS=flag) == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_fence_stands_between_each_product_and_a_sum(name: str) -> None:
    sums, found = unfenced_products(FUNCTIONS[name])
    assert sums > 5
    assert not found


def log_gamma(x: mpmath.mpf) -> mpmath.mpf:
    """log |Γ(x)|, by reflection below 0."""
    if x > 0:
        return mpmath.re(mpmath.loggamma(x))
    return mpmath.log(mpmath.pi / abs(x * mpmath.sinpi(x))) - mpmath.re(mpmath.loggamma(-x))


REFERENCES: dict[str, tuple[Callable[[mpmath.mpf], mpmath.mpf], float]] = {
    # name: (the function, the largest argument in size)
    "erf": (mpmath.erf, LARGEST),
    "erfc": (mpmath.erfc, 1e4),
    "erf_inv": (mpmath.erfinv, BELOW_ONE),
    "bessel_i0e": (lambda x: mpmath.besseli(0, x) * mpmath.exp(-abs(x)), LARGEST),
    "bessel_i1e": (lambda x: mpmath.besseli(1, x) * mpmath.exp(-abs(x)), LARGEST),
    "lgamma": (log_gamma, LARGEST),
    "digamma": (mpmath.digamma, LARGEST),
}


def is_regular(name: str, values: np.ndarray) -> np.ndarray:
    """Neither a pole of the gamma functions nor a number where one of them is exactly 0."""
    if name not in ("lgamma", "digamma"):
        return np.full(values.shape, True)
    return ((values > 0) | (values != np.rint(values))) & (values != 1) & (values != 2)


def error_at(name: str, values: np.ndarray) -> float:
    reference, _ = REFERENCES[name]
    with mpmath.workdps(DIGITS):
        truths = [reference(mpmath.mpf(x)) for x in values.tolist()]
        error = largest_error(evaluate(FUNCTIONS[name], values), truths)
    print(f"{name}: {error:.4f} ulp on {values.size} values")
    return error


@pytest.mark.parametrize("name", REFERENCES)
def test_error_is_at_most_0_52_ulp(name: str) -> None:
    _, largest = REFERENCES[name]
    seams = around([0.5, 1, 2, 3, 3.8, 3.92, 4, 5, 8, 9.2, 9.3, 10.06, 11, 40.5, 2.0**23, 4.085e36], 8)
    wide = patterns(800, SMALLEST, largest, 0)
    middle = patterns(800, 2.0**-8, min(largest, 16.0), 1)
    upper = patterns(1500, 0.5, min(largest, 4.0), 2)
    values = np.concatenate([wide, middle, upper, seams])
    values = values[(np.abs(values) <= largest) & is_regular(name, values)]
    assert values.size > 2000
    assert error_at(name, values) <= 0.52


def zeros_of(name: str) -> list[float]:
    """|x| of the zeros on the negative axis: both of `lgamma` between neighbouring poles, down to where float32 no
    longer tells them from the poles; those of `digamma` next to some integers of every size.
    """
    reference, _ = REFERENCES[name]

    def root(low: float, high: float) -> float:
        return float(mpmath.findroot(reference, (-low, -high), solver="anderson", tol=1e-12))

    if name == "lgamma":
        inner = 2.0**-16
        with mpmath.workdps(20):
            return [-root(k + inner / 64, k + 0.4) for k in range(2, 7)] + [
                -root(k + 0.6, k + 1 - inner / 64) for k in range(2, 7)
            ]
    zeros = []
    for pole in [0, 1, 2, 3, 4, 5, 7, 10, 30, 100, 1000, 2**14 - 1, 85146, 2**18 + 1, 2**20 + 1, 2**21 - 1]:
        fraction = 0.3
        for _ in range(40):
            with mpmath.workdps(20):
                fraction = float(mpmath.atan2(mpmath.pi, -mpmath.digamma(1 + pole + fraction)) / mpmath.pi)
        zeros.append(pole + fraction)
    return zeros


@pytest.mark.parametrize(("name", "positive"), [("lgamma", [1.0, 2.0]), ("digamma", [1.4616321])])
def test_error_is_at_most_0_52_ulp_next_to_the_zeros(name: str, positive: list[float]) -> None:
    below = -np.abs(around(zeros_of(name), 12))
    above = np.abs(around(positive, 200))
    values = np.concatenate([below, above])
    values = values[is_regular(name, values)]
    assert error_at(name, values) <= 0.52


POINTS = {
    # name: at -inf, -2, -1, -0, 0, 1, 2, inf; None where another test says it
    "erf": (-1, None, None, -0.0, 0.0, None, None, 1),
    "erfc": (2, None, None, 1, 1, None, None, 0.0),
    "erf_inv": (np.nan, np.nan, -np.inf, -0.0, 0.0, np.inf, np.nan, np.nan),
    "bessel_i0e": (0.0, None, None, 1, 1, None, None, 0.0),
    "bessel_i1e": (-0.0, None, None, -0.0, 0.0, None, None, 0.0),
    "lgamma": (np.inf, np.inf, np.inf, np.inf, np.inf, 0.0, 0.0, np.inf),
    "digamma": (np.nan, np.nan, np.nan, np.nan, np.nan, None, None, np.inf),
}


@pytest.mark.parametrize("name", POINTS)
def test_values_at_the_special_points(name: str) -> None:
    points = np.array([-np.inf, -2, -1, -0.0, 0.0, 1, 2, np.inf], np.float32)
    for x, found, expected in zip(points, unflushed(FUNCTIONS[name], points), POINTS[name], strict=True):
        if expected is not None:
            np.testing.assert_equal(found + 0, np.float32(expected) + 0, err_msg=f"{name}({x})")
        assert name not in ODD or x != 0 or np.signbit(found) == np.signbit(x)
    assert np.all(evaluate(FUNCTIONS[name], EVERY_NAN).view(np.uint32) == 0x7FC00000)


@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_negative_integers_are_poles(name: str) -> None:
    integers = -np.concatenate([np.arange(1, 300), 2.0 ** np.arange(9, 128), [2.0**23 - 1, LARGEST]]).astype(np.float32)
    np.testing.assert_array_equal(unflushed(FUNCTIONS[name], integers), np.inf if name == "lgamma" else np.nan)


def test_lgamma_overflows_where_the_truth_does() -> None:
    with mpmath.workdps(DIGITS):
        overflow = mpmath.ldexp(2**25 - 1, 128 - 25)  # halfway from the largest float32 to 2^128
        end = mpmath.findroot(lambda x: mpmath.loggamma(x) / overflow - 1, 4.085e36)
        values = np.abs(around([float(end)], 3))
        expected = [mpmath.mpf(x) > end for x in values.tolist()]
    assert {True, False} <= set(expected)
    assert np.isinf(evaluate(FUNCTIONS["lgamma"], values)).tolist() == expected


@pytest.mark.parametrize("name", ODD)
def test_odd_functions_are_odd_bit_for_bit(name: str) -> None:
    values = sweep()
    positive, negative = evaluate(FUNCTIONS[name], values), evaluate(FUNCTIONS[name], -values)
    np.testing.assert_array_equal(negative, -positive)


def test_i0e_is_even_bit_for_bit() -> None:
    values = sweep()
    rule = FUNCTIONS["bessel_i0e"]
    np.testing.assert_array_equal(evaluate(rule, values), evaluate(rule, -values))


@pytest.mark.parametrize(("name", "lowest", "highest"), [("erf", -1, 1), ("erfc", 0, 2), ("bessel_i0e", 0, 1)])
def test_values_stay_within_the_range(name: str, lowest: float, highest: float) -> None:
    found = evaluate(FUNCTIONS[name], sweep())
    found = found[~np.isnan(found)]
    assert found.size > 10**6
    assert np.all((lowest <= found) & (found <= highest))


if __name__ == "__main__":
    write_or_print({name: digest(rule, sweep()) for name, rule in FUNCTIONS.items()}, GOLDEN)
