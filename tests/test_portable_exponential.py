"""Laws of the portable exponentials: within 0.51 ulp of the truth, one golden hash whatever the instruction set.

`python tests/test_portable_exponential.py` prints the hashes of this machine as JSON; with `--write` it renews
`tests/golden/functions-exponential.json`, which is right only where a value was meant to change.
"""

import hashlib
import json
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from pathlib import Path
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.extend.core import Var
from portable_elsewhere import FLAGS, said, write_or_print

from crh_train.portable import exponential
from crh_train.portable.fences import canonical, flush, make_fence
from crh_train.portable.polynomial import horner

GOLDEN = Path(__file__).parent / "golden" / "functions-exponential.json"
INFINITY, NAN = math.inf, math.nan
LN2 = Decimal(2).ln()

NAMES = ("exp", "exp2", "expm1", "log", "log1p", "logistic", "tanh", "sinh", "cosh", "asinh", "acosh", "atanh", "cbrt")
FUNCTIONS = {name: getattr(exponential, name) for name in (*NAMES, "power")}
ODD = ("tanh", "sinh", "asinh", "atanh", "cbrt")
EDGES = (0, 2.0**-125, 2.0**-24, 0.34657, 0.5, 0.70711, 1, 1.41421, 2, 9.01, 17.33, 87.34, 88.72, 89.41, 103.97, 128)


@cache
def transformed(name: str) -> Callable[..., Array]:
    """The function as the transform has it: flushed before and after, jitted, 64 bits only inside."""

    @jax.jit
    def flushed(*values: Array) -> Array:
        with jax.enable_x64(True):
            clean = [flush(value) for value in values]
            return canonical(flush(FUNCTIONS[name](make_fence(values[0]), *clean)))

    return flushed


def evaluate(name: str, *arguments: np.ndarray) -> np.ndarray:
    return np.asarray(transformed(name)(*arguments))


def rule(name: str) -> Callable[..., np.ndarray]:
    """The rule itself, jitted anew; it may be given and give -0."""

    @jax.jit
    def traced(*values: Array) -> Array:
        with jax.enable_x64(True):
            return FUNCTIONS[name](make_fence(values[0]), *values)

    return lambda *arguments: np.asarray(traced(*arguments))


def sweep() -> np.ndarray:
    """Every 4099th pattern of 32 bits, and the patterns around each edge: float32 of every kind."""
    edges = np.array([*EDGES, 126, 256, np.finfo(np.float32).max, INFINITY], np.float32).view(np.uint32)
    near = (edges[:, None] + np.arange(-64, 65)).astype(np.uint32).ravel()
    return np.concatenate([np.arange(0, 2**32, 4099, np.uint32), near, near ^ np.uint32(2**31)]).view(np.float32)


def operands(name: str) -> tuple[np.ndarray, ...]:
    """`sweep`; for `power` with exponents of every kind, and with eighths up to 16."""
    bases = sweep()
    if name != "power":
        return (bases,)
    number = np.arange(bases.size, dtype=np.uint32)
    scrambled = (number * np.uint32(2654435761)).view(np.float32)
    eighths = ((number * np.uint32(7)) % np.uint32(257)).astype(np.float32) / np.float32(8) - np.float32(16)
    return np.concatenate([bases, bases]), np.concatenate([scrambled, eighths])


def low_word(value: Array) -> Array:
    """The last 32 bits of a float64, as a float32 that is only moved about."""
    image = jax.lax.convert_element_type(jax.lax.bitcast_convert_type(value, jnp.uint64), jnp.uint32)
    return jax.lax.bitcast_convert_type(image, jnp.float32)


def unrounded(name: str, *arguments: np.ndarray) -> np.ndarray:
    """The last bits of the float64 that is rounded: an absent fence shows there 2^29 times as often as in a float32."""
    with patch.object(exponential, "rounded", low_word):
        return rule(name)(*[np.asarray(jax.jit(flush)(argument)) for argument in arguments])


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()


def hashes(name: str) -> dict[str, str]:
    arguments = operands(name)
    return {name: digest(evaluate(name, *arguments)), f"{name}, unrounded": digest(unrounded(name, *arguments))}


def all_hashes() -> dict[str, str]:
    return {key: value for name in FUNCTIONS for key, value in hashes(name).items()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_machine_has_the_golden_bits(name: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert hashes(name) == {key: golden[key] for key in (name, f"{name}, unrounded")}


@pytest.mark.parametrize("flag", FLAGS)
def test_neither_instructions_nor_optimisation_change_a_bit(flag: str) -> None:
    assert said(__file__, XLA_FLAGS=flag) == json.loads(GOLDEN.read_text())


def test_the_sweep_has_float32_of_every_kind() -> None:
    values = sweep()
    assert {-INFINITY, 0.0, 1.0, INFINITY} <= set(values.tolist())
    assert np.isnan(values).sum() > 1000
    assert ((values != 0) & (np.abs(values) < 2.0**-126)).sum() > 1000
    exponents = np.frexp(values[np.isfinite(values)])[1]
    assert set(range(-125, 129)) <= set(exponents.tolist())


def hyperbolic(x: Decimal, sign: int) -> Decimal:
    return (x.exp() + sign * (-x).exp()) / 2


REFERENCES: dict[str, tuple[Callable[[Decimal], Decimal], float, float]] = {
    # name: (the function, ends of the domain or of what float32 holds)
    "exp": (Decimal.exp, -86.6, 88.72),
    "exp2": (lambda x: (x * LN2).exp(), -124.9, 127.99),
    "expm1": (lambda x: x.exp() - 1, -110, 88.72),
    "log": (Decimal.ln, 2.0**-125, INFINITY),
    "log1p": (lambda x: (1 + x).ln(), -0.9999, INFINITY),
    "logistic": (lambda x: 1 / (1 + (-x).exp()), -86.6, 120),
    "tanh": (lambda x: hyperbolic(x, -1) / hyperbolic(x, 1), -40, 40),
    "sinh": (lambda x: hyperbolic(x, -1), -89.4, 89.4),
    "cosh": (lambda x: hyperbolic(x, 1), -89.4, 89.4),
    "asinh": (lambda x: (abs(x) + (x * x + 1).sqrt()).ln().copy_sign(x), -INFINITY, INFINITY),
    "acosh": (lambda x: (x + (x * x - 1).sqrt()).ln(), np.nextafter(np.float32(1), np.float32(2)), INFINITY),
    "atanh": (lambda x: ((1 + x) / (1 - x)).ln() / 2, -0.99999994, 0.99999994),
    "cbrt": (lambda x: (abs(x).ln() / 3).exp().copy_sign(x), -INFINITY, INFINITY),
}


def errors_in_ulp(found: np.ndarray, truths: list[Decimal]) -> list[float]:
    """|found - truth| in the distance of two float32 in the truth's binade."""
    return [
        math.ldexp(float(abs(Decimal(float(value)) - truth)), 24 - math.frexp(float(truth))[1])
        for value, truth in zip(found, truths, strict=True)
    ]


def arguments_between(lowest: float, highest: float) -> np.ndarray:
    """Float32 of all exponents, evenly spread ones, ones around ±1, and ones next to the ends."""
    generator = np.random.default_rng(0)
    patterns = generator.integers(0, 2**32, 2000, np.uint32).view(np.float32)
    even = generator.integers(-(2**23), 2**23, 1000).astype(np.float32) * np.float32(2.0**-16)
    ones = 1 + generator.integers(-(2**20), 2**20, 500).astype(np.float32) * np.float32(2.0**-23)
    ends = np.array([end for end in (lowest, highest) if math.isfinite(end)], np.float32)
    near = [np.linspace(end, end * np.float32(0.9999), 100, dtype=np.float32) for end in ends]
    values = np.concatenate([patterns, even, even * np.float32(2.0**-7), ones, -ones, *near])
    with np.errstate(invalid="ignore"):
        inside = (values >= lowest) & (values <= highest) & np.isfinite(values)
    return values[inside & (np.abs(values) >= 2.0**-124)]


@pytest.mark.parametrize("name", REFERENCES)
def test_error_is_at_most_0_51_ulp(name: str) -> None:
    reference, lowest, highest = REFERENCES[name]
    values = arguments_between(lowest, highest)
    assert values.size > 1000
    with localcontext(prec=90):
        worst = max(errors_in_ulp(evaluate(name, values), [reference(Decimal(float(value))) for value in values]))
    print(f"{name}: {worst:.4f} ulp on {values.size} values")
    assert worst <= 0.51


def test_error_of_power_is_at_most_0_51_ulp() -> None:
    generator = np.random.default_rng(1)
    wide = generator.integers(2 << 23, 255 << 23, 2000, np.uint32).view(np.float32)
    ones = 1 + generator.integers(-(2**20), 2**20, 2000).astype(np.float32) * np.float32(2.0**-23)
    bases = np.concatenate([wide, ones, ones])
    small = generator.integers(-(2**23), 2**23, 4000).astype(np.float32) * np.float32(2.0**-20)
    large = generator.integers(-(2**23), 2**23, 2000).astype(np.float32) * np.float32(2.0**-13)
    exponents = np.concatenate([small, large])
    with localcontext(prec=90):
        logarithms = [Decimal(float(y)) * Decimal(float(x)).ln() for x, y in zip(bases, exponents, strict=True)]
        inside = np.array([-86 < value < 88 for value in logarithms])
        assert inside.sum() > 1000
        truths = [value.exp() for value in logarithms if -86 < value < 88]
        worst = max(errors_in_ulp(evaluate("power", bases[inside], exponents[inside]), truths))
    print(f"power: {worst:.4f} ulp on {inside.sum()} values")
    assert worst <= 0.51


LIMITS = {
    # name: at -inf, -1, -0, 0, 1, +inf
    "exp": (0, None, 1, 1, None, INFINITY),
    "exp2": (0, 0.5, 1, 1, 2, INFINITY),
    "expm1": (-1, None, 0.0, 0.0, None, INFINITY),
    "log": (NAN, NAN, -INFINITY, -INFINITY, 0.0, INFINITY),
    "log1p": (NAN, -INFINITY, 0.0, 0.0, None, INFINITY),
    "logistic": (0, None, 0.5, 0.5, None, 1),
    "tanh": (-1, None, 0.0, 0.0, None, 1),
    "sinh": (-INFINITY, None, 0.0, 0.0, None, INFINITY),
    "cosh": (INFINITY, None, 1, 1, None, INFINITY),
    "asinh": (-INFINITY, None, 0.0, 0.0, None, INFINITY),
    "acosh": (NAN, NAN, NAN, NAN, 0.0, INFINITY),
    "atanh": (NAN, -INFINITY, 0.0, 0.0, INFINITY, NAN),
    "cbrt": (-INFINITY, -1, 0.0, 0.0, 1, INFINITY),
}


@pytest.mark.parametrize("name", LIMITS)
def test_values_at_the_special_points(name: str) -> None:
    points = np.array([-INFINITY, -1, -0.0, 0.0, 1, INFINITY], np.float32)
    for x, found, expected in zip(points, rule(name)(points), LIMITS[name], strict=True):
        if expected is not None:
            np.testing.assert_equal(found + 0, np.float32(expected), err_msg=f"{name}({x})")
        assert name not in ODD or x != 0 or np.signbit(found) == np.signbit(x)
    payloads = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert np.all(evaluate(name, payloads).view(np.uint32) == 0x7FC00000)


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp", 88.7228, 3.4026947e38),
        ("exp", 88.7229, INFINITY),
        ("exp", -86.64339, 2.351014e-38),
        ("exp", -86.6435, 0),
        ("exp", 3e38, INFINITY),
        ("exp", -3e38, 0),
        ("exp2", 128, INFINITY),
        ("exp2", -125, 2.0**-125),
        ("exp2", -126, 0),
        ("exp2", 200, INFINITY),
        ("expm1", -3e38, -1),
        ("expm1", 2.0**-125, 2.0**-125),
        ("logistic", 3e38, 1),
        ("logistic", -3e38, 0),
        ("log1p", -(2.0**-125), -(2.0**-125)),
        ("log", 2.0**-125, -86.643394),
        ("sinh", 89.4159, 3.402534e38),
        ("sinh", 89.416, INFINITY),
        ("cosh", -89.416, INFINITY),
        ("tanh", 3e38, 1),
        ("atanh", 2, NAN),
        ("atanh", -3e38, NAN),
        ("acosh", 3.4028235e38, 89.415985),
        ("asinh", -3.4028235e38, -89.415985),
        ("cbrt", -27, -3),
        ("cbrt", 2.0**-123, 2.0**-41),
    ],
)
def test_values_at_the_edges(name: str, x: float, expected: float) -> None:
    np.testing.assert_equal(evaluate(name, np.array([x], np.float32)), np.array([expected], np.float32))


@pytest.mark.parametrize("name", ODD)
def test_odd_functions_are_odd_bit_for_bit(name: str) -> None:
    values = sweep()[:100_000]
    positive, negative = evaluate(name, values), evaluate(name, -values)
    np.testing.assert_array_equal(negative, -positive)


def c_pow(x: float, y: float) -> float:
    """C's pow on float64, from the interpreter; its errors put back to the values that they stand for."""
    try:
        return math.pow(x, y)
    except ValueError:
        if x != 0:
            return NAN
        return math.copysign(INFINITY, x) if y % 2 == 1 else INFINITY
    except OverflowError:
        return -INFINITY if x < 0 and y % 2 == 1 else INFINITY


def test_power_has_the_special_cases_of_c() -> None:
    special = [0.0, 0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 64, 2.0**23 + 1, 2.0**24, 2.0**100, 2.0**-60, INFINITY]
    points = [sign * value for value in special for sign in (1.0, -1.0)] + [NAN]
    x, y = (grid.ravel() for grid in np.meshgrid(np.array(points, np.float32), np.array(points, np.float32)))
    for base, exponent, found in zip(x.tolist(), y.tolist(), rule("power")(x, y), strict=True):
        exact = c_pow(base, exponent)
        with np.errstate(over="ignore", under="ignore"):
            expected = np.float32(exact)
        if 0 < abs(exact) < 2.0**-125:
            assert abs(found) < 2.0**-125, (base, exponent)
        else:
            np.testing.assert_equal(found, expected, err_msg=f"power({base}, {exponent})")
            assert math.isnan(found) or np.signbit(found) == np.signbit(expected), (base, exponent)


# Products that meet a sum without a fence because they are exact: by a power of two, of two float32, of an exponent.
EXACT_PRODUCTS = dict.fromkeys(NAMES, 1) | {"exp": 0, "exp2": 0, "cbrt": 0, "power": 0, "asinh": 2}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_rounded_product_meets_a_sum(name: str) -> None:
    """A CPU contracts a product with one user only, a GPU any: so the program is looked at, not its results."""
    with jax.enable_x64(True):
        fence = make_fence(jnp.ones(3, jnp.float32))
        arguments = [jnp.ones(3, jnp.float32)] * (2 if name == "power" else 1)
        equations = jax.make_jaxpr(lambda *values: FUNCTIONS[name](fence, *values))(*arguments).eqns
    products: set[Var] = set()
    met: set[Var] = set()
    for equation in equations:
        assert not any("jaxpr" in parameter for parameter in equation.params)
        inputs = {variable for variable in equation.invars if isinstance(variable, Var)}
        primitive = equation.primitive.name
        is_product = primitive == "mul" and equation.outvars[0].aval.dtype == np.float64
        if is_product or (primitive in ("neg", "clamp", "select_n") and products & inputs):
            products.add(equation.outvars[0])
        elif primitive in ("add", "sub"):
            met |= products & inputs
    assert len(met) == EXACT_PRODUCTS[name]


def interpolate(function: Callable[[Fraction], Fraction], low: Fraction, high: Fraction, degree: int) -> list[float]:
    """The polynomial through `function` at Chebyshev nodes of 20 bits, highest degree first (Newton's differences)."""
    count = degree + 1
    cosines = [round(math.cos(math.pi * (2 * i + 1) / (2 * count)) * 2**20) for i in range(count)]
    nodes = [low + (high - low) * (1 + Fraction(cosine, 2**20)) / 2 for cosine in cosines]
    differences = [function(node) for node in nodes]
    for order in range(1, count):
        for i in reversed(range(order, count)):
            differences[i] = (differences[i] - differences[i - 1]) / (nodes[i] - nodes[i - order])
    polynomial = [differences[-1]]
    for node, difference in zip(reversed(nodes[:-1]), reversed(differences[:-1]), strict=True):
        shifted = [*polynomial, difference]
        polynomial = [a - node * b for a, b in zip(shifted, [Fraction(0), *polynomial], strict=True)]
    return [float(coefficient) for coefficient in polynomial]


def decimal(fraction: Fraction) -> Decimal:
    return Decimal(fraction.numerator) / Decimal(fraction.denominator)


def artanh_series(z: Fraction) -> Fraction:
    root = decimal(z).sqrt()
    return Fraction(((1 + root) / (1 - root)).ln() / root)


def test_constants_are_what_they_say() -> None:
    with localcontext(prec=60):
        ln2 = Decimal(2).ln()
        assert float(1 / ln2) == exponential.LOG2_E
        assert round(ln2 * 2**42) / 2**42 == exponential.LN2
        half, end = Fraction(1, 2), Fraction(3, 100)
        exp2 = interpolate(
            lambda f: Fraction(((decimal(f) * ln2).exp() - 1) / decimal(f)) if f else Fraction(ln2), -half, half, 6
        )
        assert exp2 == list(exponential.EXP2_COEFFICIENTS)
        assert interpolate(artanh_series, Fraction(0), end, 4) == list(exponential.LOG_COEFFICIENTS)
        log2 = interpolate(lambda z: Fraction(decimal(artanh_series(z)) / ln2), Fraction(0), end, 5)
        assert log2 == list(exponential.LOG2_COEFFICIENTS)


def test_horner_rounds_each_product_and_each_sum() -> None:
    integers = np.random.default_rng(2).integers(-(2**31), 2**31, 10_000).astype(np.int32)
    values = integers.astype(np.float64) * 2.0**-31
    coefficients = (0.1, -0.7, 1 / 3, 1e-9, 0.3)
    expected = np.full_like(values, coefficients[0])
    for coefficient in coefficients[1:]:
        expected = expected * values + coefficient

    @jax.jit
    def evaluated(numbers: Array) -> Array:
        with jax.enable_x64(True):
            x = jax.lax.convert_element_type(numbers, jnp.float64) * np.float64(2.0**-31)
            return horner(make_fence(numbers), x, coefficients)

    np.testing.assert_array_equal(np.asarray(evaluated(integers)), expected)


def test_horner_wants_a_coefficient() -> None:
    with pytest.raises(ValueError, match="one coefficient or more, not none"), jax.enable_x64(True):
        horner(make_fence(jnp.ones(1)), jnp.ones(1), ())


if __name__ == "__main__":
    write_or_print(all_hashes(), GOLDEN)
