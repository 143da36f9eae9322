"""Laws of the portable arithmetic: exact or rounded once, with IEEE's special cases, one golden hash on every machine.

`python tests/test_portable_elementwise.py` prints the hashes of this machine as JSON; with `--write` it renews
`tests/golden/functions-elementwise.json`, which is right only where a value was meant to change.
"""

import hashlib
import json
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from jax import Array, lax
from portable_elsewhere import FLAGS, said, write_or_print
from portable_rules import SMALLEST, same_bits
from test_portable_trigonometric import cleaned, patterns, sweep

from crh_train.portable import elementwise, exponential, portable
from crh_train.portable.fences import canonical, flush, make_fence

GOLDEN = Path(__file__).parent / "golden" / "functions-elementwise.json"
LARGEST = np.finfo(np.float32).max
INFINITY, NAN = np.float32(np.inf), np.float32(np.nan)
AWAY, EVEN = lax.RoundingMethod.AWAY_FROM_ZERO, lax.RoundingMethod.TO_NEAREST_EVEN
POWERS = (-8, -3, -2, -1, 0, 1, 2, 3, 5, 16)
SINGLE: dict[str, Callable[..., Array]] = {
    "sqrt": elementwise.square_root,
    "rsqrt": elementwise.reciprocal_square_root,
    "sign": elementwise.sign,
    "floor": elementwise.floor,
    "ceil": elementwise.ceil,
    "round to even": partial(elementwise.round, rounding_method=EVEN),
    "round away": partial(elementwise.round, rounding_method=AWAY),
    "square": elementwise.square,
    "abs": elementwise.absolute,
    "neg": elementwise.negative,
    "is_finite": elementwise.finite,
    "one_minus_square": elementwise.one_minus_square,
    "log2": exponential.log2,
    **{f"integer_pow {y}": partial(elementwise.integer_power, y=y) for y in POWERS},
}
PAIRED: dict[str, Callable[..., Array]] = {
    "add": elementwise.add,
    "sub": elementwise.subtract,
    "mul": elementwise.multiply,
    "div": elementwise.divide,
    "rem": elementwise.remainder,
    "max": elementwise.maximum,
    "min": elementwise.minimum,
    "nextafter": partial(elementwise.next_after, dtype=np.dtype(np.float32)),
}


@cache
def _compiled(single: bool) -> Callable[..., dict[str, Array]]:
    functions = SINGLE if single else PAIRED

    @jax.jit
    def all_of_them(*x: Array) -> dict[str, Array]:
        with jax.enable_x64(True):
            fence = make_fence(x[0])
            return {name: function(fence, *x) for name, function in functions.items()}

    return all_of_them


def evaluate(*x: np.ndarray) -> dict[str, np.ndarray]:
    """What each function of one or of two arguments makes of clean float32, every NaN the same."""

    def seen(value: Any) -> np.ndarray:
        array = np.asarray(value)
        return np.where(np.isnan(array), NAN, array) if array.dtype == np.float32 else array

    return {name: seen(value) for name, value in _compiled(len(x) == 1)(*x).items()}


def others(x: np.ndarray) -> np.ndarray:
    """A partner for each: of every kind, and in half of the places one of nearly the same size."""
    scrambled = np.arange(x.size, dtype=np.uint32) * np.uint32(2654435761)
    alike = x.view(np.uint32) ^ scrambled >> np.uint32(6) ^ scrambled << np.uint32(31)
    return cleaned(np.where(scrambled & np.uint32(64), scrambled, alike).view(np.float32))


EDGES = [0, SMALLEST, 2.0**-124, 2.0**-63, 2.0**-24, 0.49999997, 0.5, 1, 1.5, 2, 2.5, 3, 2.0**22 + 0.5, 2.0**23 - 0.5]
SPECIAL = np.array([*EDGES, 2.0**23, 2.0**24, 2.0**31, 1.8446744e19, 2.0**126, LARGEST, INFINITY], np.float32)
SPECIAL = np.concatenate([SPECIAL, -SPECIAL, [NAN, np.uint32(0xFFC12345).view(np.float32)]])
SPECIAL_PAIRS = [grid.ravel() for grid in np.meshgrid(SPECIAL, SPECIAL)]


def hashes() -> dict[str, str]:
    found = evaluate(sweep()) | evaluate(sweep(), others(sweep()))
    return {name: hashlib.sha256(value.tobytes()).hexdigest() for name, value in found.items()}


def test_every_machine_has_the_golden_bits() -> None:
    assert hashes() == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("flag", FLAGS)
def test_neither_instructions_nor_optimisation_change_a_bit(flag: str) -> None:
    assert said(__file__, XLA_FLAGS=flag) == json.loads(GOLDEN.read_text())


def test_arithmetic_is_ieee_s_but_for_what_counts_as_zero() -> None:
    x = np.concatenate([sweep()[::8], SPECIAL_PAIRS[0]])
    y = np.concatenate([others(sweep())[::8], SPECIAL_PAIRS[1]])
    found, single = evaluate(x, y), evaluate(x)
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        expected = {
            # NumPy's operations on float32 are IEEE's, each rounded once.
            "add": cleaned(x + y),
            "sub": cleaned(x - y),
            "mul": cleaned(x * y),
            "div": cleaned(x / y),
            "max": np.where(x > y, x, np.where(np.isnan(x), x, y)),
            "min": np.where(x < y, x, np.where(np.isnan(x), x, y)),
        }
        expected_single = {
            "sqrt": cleaned(np.sqrt(x)),
            "square": cleaned(x * x),
            "integer_pow 2": cleaned(x * x),
            "integer_pow 1": cleaned(x),
            "integer_pow 0": np.ones_like(x),
            "integer_pow -1": cleaned(np.float32(1) / x),
            "sign": np.where(np.isnan(x), x, np.sign(x)) + np.float32(0),
            "floor": cleaned(np.floor(x)),
            "ceil": cleaned(np.ceil(x)),
            "round to even": cleaned(np.rint(x)),
            # x + 1/2 is exact in float64 where x has a fraction.
            "round away": cleaned(np.copysign(np.floor(np.abs(wide) + 0.5), x).astype(np.float32)),
            "abs": np.abs(x),
            "neg": -x,
            "is_finite": np.isfinite(x),
        }
    for name, values in (expected | expected_single).items():
        given = (found | single)[name]
        assert same_bits(given, np.where(np.isnan(values), NAN, values) if values.dtype == np.float32 else values), name


def test_remainder_is_exact() -> None:
    x, y = np.concatenate([sweep()[::16], SPECIAL_PAIRS[0]]), np.concatenate([others(sweep())[::16], SPECIAL_PAIRS[1]])
    found = evaluate(x, y)["rem"]
    for a, b, value in zip(x.tolist(), y.tolist(), found, strict=True):
        if math.isnan(a) or math.isnan(b) or math.isinf(a) or b == 0:
            assert np.isnan(value), (a, b)
        elif math.isinf(b):
            assert value == a, (a, b)
        else:
            left, right = abs(Fraction(a)), abs(Fraction(b))
            exact = np.float32(math.copysign(float(left % right), a))
            assert same_bits(value, exact if abs(exact) >= SMALLEST else np.copysign(np.float32(0), exact)), (a, b)


def in_ulp(value: float, truth: Fraction) -> float:
    """|value - truth| in the distance of two float32 in the truth's binade."""
    exponent = math.frexp(float(truth))[1]
    return float(abs(Fraction(value) - truth) / Fraction(2) ** (exponent - 24))


@pytest.mark.parametrize("y", POWERS)
def test_integer_powers_are_rounded_once_or_nearly(y: int) -> None:
    x = np.concatenate([patterns(1500, 2.0**-15, 2.0**15, 0), patterns(500, SMALLEST, float(LARGEST), 1), SPECIAL])
    errors = []
    for a, value in zip(x.tolist(), evaluate(x)[f"integer_pow {y}"].tolist(), strict=True):
        if y == 0:
            assert value == 1
        elif math.isnan(a):
            assert math.isnan(value)
        elif math.isinf(a) or a == 0:
            grows = math.isinf(a) == (y > 0)
            sign = math.copysign(1, a) if y % 2 else 1.0
            assert value == (sign * math.inf if grows else 0), (a, value)
        else:
            truth = Fraction(a) ** y
            sign = 1 if truth > 0 else -1
            if abs(truth) >= Fraction(2) ** 128 * (1 - Fraction(1, 2**25)):
                assert value == sign * math.inf
            elif abs(truth) < Fraction(2) ** -125 * (1 - Fraction(1, 2**26)):
                assert value == 0
                assert math.copysign(1, value) == 1
            else:
                errors.append(in_ulp(value, truth))
    assert y == 0 or len(errors) > 400
    assert max(errors, default=0) <= (0.5 if abs(y) <= 3 else 0.5000001)


def test_reciprocal_square_root_is_within_its_bound() -> None:
    x = np.abs(np.concatenate([patterns(3000, SMALLEST, float(LARGEST), 2), patterns(1000, 0.5, 4, 3)]))
    with localcontext(prec=50):
        truths = [Fraction(1 / Decimal(a).sqrt()) for a in x.tolist()]
    assert max(map(in_ulp, evaluate(x)["rsqrt"].tolist(), truths)) <= 0.5000001
    found = evaluate(np.array([0, -0.0, INFINITY, -1, -INFINITY, NAN], np.float32))["rsqrt"]
    np.testing.assert_array_equal(found, np.array([np.inf, -np.inf, 0, np.nan, np.nan, np.nan], np.float32))


def test_logarithm_to_the_base_2() -> None:
    powers = np.ldexp(np.float32(1), np.arange(-125, 128)).astype(np.float32)
    assert same_bits(evaluate(powers)["log2"], np.arange(-125, 128).astype(np.float32))
    x = np.abs(np.concatenate([patterns(1500, SMALLEST, float(LARGEST), 4), patterns(1500, 0.5, 2, 5)]))
    with localcontext(prec=50):
        truths = [Fraction(Decimal(a).ln() / Decimal(2).ln()) for a in x.tolist() if a != 1]
    assert max(map(in_ulp, evaluate(x[x != 1])["log2"].tolist(), truths)) <= 0.51
    found = evaluate(np.array([0, -0.0, INFINITY, -1, -INFINITY, NAN], np.float32))["log2"]
    np.testing.assert_array_equal(found, np.array([-np.inf, -np.inf, np.inf, np.nan, np.nan, np.nan], np.float32))


def test_one_minus_square_is_rounded_once() -> None:
    x = np.concatenate(
        [patterns(2000, 2.0**-30, 2.0**30, 6), patterns(1000, 0.9, 1.1, 7), np.float32([1, -1, 0, -0.0])]
    )
    for a, value in zip(x.tolist(), evaluate(x)["one_minus_square"].tolist(), strict=True):
        truth = 1 - Fraction(a) ** 2
        # Two roundings, to 53 bits and to 24.
        assert value == 0 if truth == 0 else in_ulp(value, truth) <= 0.5 + 2.0**-28
    found = evaluate(np.array([INFINITY, -INFINITY, NAN, LARGEST], np.float32))["one_minus_square"]
    np.testing.assert_array_equal(found, np.array([-np.inf, -np.inf, np.nan, -np.inf], np.float32))


def test_polynomial_rounds_each_product_and_each_sum() -> None:
    x, a, b, c = (patterns(20_000, 2.0**-4, 2.0**4, seed) for seed in range(8, 12))

    @jax.jit
    def evaluated(*given: Array) -> Array:
        with jax.enable_x64(True):
            return elementwise.polynomial(make_fence(given[0]), *given)

    assert same_bits(evaluated(x, a, b, c), cleaned(cleaned(cleaned(cleaned(c * x) + b) * x) + a))
    assert same_bits(evaluated(x, a), a)


def test_clamp_is_the_smaller_of_the_larger() -> None:
    low, x, high = (grid.ravel() for grid in np.meshgrid(*[SPECIAL[::3]] * 3))

    @jax.jit
    def clamped(*given: Array) -> Array:
        with jax.enable_x64(True):
            return canonical(flush(elementwise.clamp(make_fence(given[0]), *given)))

    expected = np.minimum(np.maximum(x, low), high)
    assert np.array_equal(clamped(low, x, high), expected + np.float32(0), equal_nan=True)


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)])
def test_the_next_number_is_that_of_its_type(dtype: np.dtype) -> None:
    tiny = np.array(2.0**-24 if dtype == np.float16 else 2.0**-125).astype(dtype)
    with np.errstate(all="ignore"):
        x, y = (np.concatenate([given[::4], pairs]).astype(dtype) for given, pairs in zip(
            (sweep(), others(sweep())), SPECIAL_PAIRS, strict=True
        ))  # fmt: skip
        x, y = (np.where(np.abs(given) < tiny, dtype.type(0), given) for given in (x, y))
        expected = np.nextafter(x, y)
        vanishing = (np.abs(expected) < tiny) & (x != y)
        expected = np.where(vanishing, np.where(x == 0, np.copysign(tiny, y), dtype.type(0)), expected)
        expected = np.where(x == y, y + dtype.type(0), expected)
        nan = np.isnan(x) | np.isnan(y)
    found = np.asarray(jax.jit(portable(lax.nextafter))(x, y))
    assert np.all(np.isnan(found.astype(np.float32)[nan]))
    assert np.array_equal(found[~nan], expected[~nan])
    assert np.isfinite(found[~nan].astype(np.float32)).sum() > 10_000


def test_the_total_order_is_ieee_s_with_every_nan_last() -> None:
    ordered = np.array([-INFINITY, -LARGEST, -1, -SMALLEST, -0.0, 0.0, SMALLEST, 1, LARGEST, INFINITY], np.float32)
    nans = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    keys = np.asarray(jax.jit(elementwise.total_order_key)(np.concatenate([ordered, nans])))
    assert np.all(np.diff(keys[: ordered.size + 1].astype(np.int64)) > 0)
    assert len(set(keys[ordered.size :].tolist())) == 1
    random = patterns(3000, SMALLEST, float(LARGEST), 12)
    keys = np.asarray(jax.jit(elementwise.total_order_key)(random))
    assert np.array_equal(np.argsort(keys, kind="stable"), np.argsort(random, kind="stable"))


def test_comparisons_see_a_denormal_as_zero_and_nan_as_nothing() -> None:
    values = np.concatenate([SPECIAL, np.array([1, 0x80000001, 0x00FFFFFF], np.uint32).view(np.float32)])
    x, y = (grid.ravel() for grid in np.meshgrid(values, values))
    compared = {"eq": lax.eq, "ne": lax.ne, "lt": lax.lt, "le": lax.le, "gt": lax.gt, "ge": lax.ge}
    found = jax.jit(portable(lambda x, y: {name: f(x, y) for name, f in compared.items()}))(x, y)
    exact = {
        "eq": np.equal,
        "ne": np.not_equal,
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
    }
    for name, function in exact.items():
        assert np.array_equal(found[name], function(cleaned(x), cleaned(y))), name


def test_integers_are_as_xla_has_them() -> None:
    x, y = (np.random.default_rng(seed).integers(-(2**31), 2**31, 1000).astype(np.int32) for seed in (13, 14))

    def arithmetic(x: Array, y: Array) -> list[Array]:
        return [x + y, x - y, x * y, lax.div(x, y), lax.rem(x, y), lax.max(x, y), -x, abs(x), lax.sign(x), x**3, x < y]

    found, expected = jax.jit(portable(arithmetic))(x, y), jax.jit(arithmetic)(x, y)
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


if __name__ == "__main__":
    write_or_print(hashes(), GOLDEN)
