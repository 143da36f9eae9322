"""Laws of the portable trigonometry: within 0.501 ulp of the truth at every size, one golden hash on every machine.

`python tests/test_portable_trigonometric.py` prints the hashes of this machine as JSON; with `--write` it renews
`tests/golden/functions-trigonometric.json`, which is right only where a value was meant to change.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import mpmath
import numpy as np
import pytest
from jax import Array
from jax.extend import core
from portable_elsewhere import FLAGS, said, write_or_print

from crh_train.portable import trigonometric
from crh_train.portable.fences import Fence, canonical, flush, make_fence

GOLDEN = Path(__file__).parent / "golden" / "functions-trigonometric.json"
FUNCTIONS = {name: getattr(trigonometric, name) for name in ["sin", "cos", "tan", "asin", "acos", "atan", "atan2"]}
SMALLEST = 2.0**-125
DIGITS = 60  # the largest float32 has 39 before the point
ODD = ("sin", "tan", "asin", "atan")
EVERY_NAN = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)


@cache
def transformed(rule: Callable[..., Array]) -> Callable[..., Array]:
    """The float32 function as the transform has it, of clean arguments: jitted, 64 bits only inside."""

    @jax.jit
    def flushed(*values: Array) -> Array:
        with jax.enable_x64(True):
            return canonical(flush(rule(make_fence(values[0]), *values)))

    return flushed


def evaluate(rule: Callable[..., Array], *arguments: np.ndarray) -> np.ndarray:
    return np.asarray(transformed(rule)(*arguments))


@cache
def bare(rule: Callable[..., Array]) -> Callable[..., Array]:
    @jax.jit
    def unflushed(*values: Array) -> Array:
        with jax.enable_x64(True):
            return rule(make_fence(values[0]), *values)

    return unflushed


def unflushed(rule: Callable[..., Array], *arguments: np.ndarray) -> np.ndarray:
    """The rule itself, which may give -0."""
    return np.asarray(bare(rule)(*arguments))


def cleaned(values: np.ndarray) -> np.ndarray:
    """What `flush` does, by the bits."""
    small = values.view(np.uint32) & np.uint32(0x7FFFFFFF) < np.float32(SMALLEST).view(np.uint32)
    return np.where(small, np.float32(0), values)


def sweep() -> np.ndarray:
    """Every 4099th pattern of 32 bits: a million float32 of all kinds."""
    return cleaned(np.arange(0, 2**32, 4099, np.uint32).view(np.float32))


def patterns(count: int, lowest: float, highest: float, seed: int) -> np.ndarray:
    """Float32 of either sign, of random bits, so of all exponents between two magnitudes alike; the two among them."""
    generator = np.random.default_rng(seed)
    low, high = (int(np.float32(end).view(np.uint32)) for end in (lowest, highest))
    magnitudes = np.append(generator.integers(low, high, count, np.uint32, endpoint=True), [low, high])
    signs = generator.integers(0, 2, magnitudes.size, np.uint32) << np.uint32(31)
    return (magnitudes.astype(np.uint32) | signs).view(np.float32)


def around(values: Iterable[float], steps: int) -> np.ndarray:
    """Each of the positive values, rounded to float32, and so many float32 on either side; of both signs."""
    images = np.array(list(values), np.float32).view(np.uint32).astype(np.int64)
    near = (images[:, None] + np.arange(-steps, steps + 1)).ravel().astype(np.uint32).view(np.float32)
    return np.concatenate([near, -near])


def largest_error(found: np.ndarray, truths: Iterable[mpmath.mpf]) -> float:
    """The largest |found - truth| in units of the last of 24 bits of the truth.

    A truth that rounds below 2^-125 must have given 0, and one beyond float32 an infinity.
    """
    worst = 0.0
    for value, truth in zip(found.tolist(), truths, strict=True):
        if abs(truth) < SMALLEST * (1 - mpmath.mpf(2) ** -25):
            assert value == 0, (value, truth)
        elif abs(truth) >= mpmath.mpf(2) ** 128 * (1 - mpmath.mpf(2) ** -25):
            assert value == mpmath.sign(truth) * mpmath.inf, (value, truth)
        else:
            unit = mpmath.ldexp(1, mpmath.frexp(truth)[1] - 24)
            worst = max(worst, float(abs(value - truth) / unit))
    return worst


def digest(rule: Callable[..., Array], *arguments: np.ndarray) -> str:
    return hashlib.sha256(evaluate(rule, *arguments).astype("<f4").tobytes()).hexdigest()


def unfenced_products(rule: Callable[..., Array], count: int = 1) -> tuple[int, list[str]]:
    """The number of sums that the rule makes of floats, and the rounded products that reach one without a fence.

    So much is lost on a sweep: one rounding of float64 more or less changes one float32 in 2^28.
    """
    with jax.enable_x64(True):
        arguments = [np.ones(3, np.float32)] * count
        jaxpr = jax.make_jaxpr(lambda zero, *values: rule(Fence(zero), *values))(np.uint32(0), *arguments)
    products: set[int] = set()  # variables that hold one
    powers_of_two: set[int] = set()
    sums, found = 0, []

    def is_power_of_two(atom: Any) -> bool:
        if isinstance(atom, core.Literal):
            return bool(np.all(np.frexp(np.abs(atom.val))[0] == 0.5))
        return id(atom) in powers_of_two

    for equation in jaxpr.eqns:
        name, (output,) = equation.primitive.name, equation.outvars
        assert name not in ("jit", "while", "cond", "scan"), "look into it too"
        is_float = output.aval.dtype in (np.float32, np.float64)
        inputs = {id(atom) for atom in equation.invars if not isinstance(atom, core.Literal)}
        if name == "broadcast_in_dim" and is_power_of_two(equation.invars[0]):
            powers_of_two.add(id(output))
        if name in ("add", "sub") and is_float:
            sums += 1
            found += [str(equation)] * bool(inputs & products)
        elif (name == "mul" and is_float and not any(map(is_power_of_two, equation.invars))) or (
            name in ("select_n", "neg", "abs", "reshape", "broadcast_in_dim") and inputs & products
        ):
            products.add(id(output))
    return sums, found


def operands(name: str) -> tuple[np.ndarray, ...]:
    """`sweep`; for `atan2` also with itself in another order, and with neighbours in size."""
    values = sweep()
    if name != "atan2":
        return (values,)
    images = values.view(np.uint32)
    scrambled = np.arange(values.size, dtype=np.uint32) * np.uint32(2654435761)
    others = np.concatenate([scrambled, images ^ scrambled >> np.uint32(6) ^ scrambled << np.uint32(31)])
    return np.concatenate([values, values]), cleaned(others.view(np.float32))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_machine_has_the_golden_bits(name: str) -> None:
    assert digest(FUNCTIONS[name], *operands(name)) == json.loads(GOLDEN.read_text())[name]


@pytest.mark.parametrize("flag", FLAGS)
def test_neither_instructions_nor_optimisation_change_a_bit(flag: str) -> None:
    assert said(__file__, XLA_FLAGS=flag) == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_fence_stands_between_each_product_and_a_sum(name: str) -> None:
    sums, found = unfenced_products(FUNCTIONS[name], len(operands(name)))
    assert sums > 5
    assert not found


def nearest_to_multiples_of_half_pi() -> np.ndarray:
    """For each exponent, the float32 whose distance from a multiple of π/2 is least, and runners-up: its mantissa is
    the denominator of a convergent of 2^exponent · 2/π, or a multiple of one.
    """
    found = []
    for exponent in range(-24, 105):
        rest = mpmath.ldexp(2 / mpmath.pi, exponent)
        previous, denominator = 0, 1
        while denominator < 2**24:
            found += [
                float(times * denominator) * 2.0**exponent
                for times in {-(-(2**23) // denominator), (2**24 - 1) // denominator}
                if 2**23 <= times * denominator < 2**24
            ]
            rest = 1 / (rest - mpmath.floor(rest))
            previous, denominator = denominator, int(mpmath.floor(rest)) * denominator + previous
    return np.array(found, np.float32)


REFERENCES: dict[str, tuple[Callable[[mpmath.mpf], mpmath.mpf], float]] = {
    # name: (the function, the largest argument)
    "sin": (mpmath.sin, np.finfo(np.float32).max),
    "cos": (mpmath.cos, np.finfo(np.float32).max),
    "tan": (mpmath.tan, np.finfo(np.float32).max),
    "asin": (mpmath.asin, 1.0),
    "acos": (mpmath.acos, 1.0),
    "atan": (mpmath.atan, np.finfo(np.float32).max),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_error_is_at_most_0_501_ulp(name: str) -> None:
    reference, largest = REFERENCES[name]
    eighths = around([np.pi / 8 * k for k in range(1, 33)] + [0.41421356, 2.41421356, 0.5, 1.0], 8)
    dense = patterns(1500, 2.0**-12, min(largest, 64.0), 1)
    with mpmath.workdps(DIGITS):
        hard = nearest_to_multiples_of_half_pi()
        assert hard.size > 500
        values = np.concatenate([patterns(1500, SMALLEST, largest, 0), dense, eighths, hard, -hard])
        values = values[np.abs(values) <= largest]
        error = largest_error(evaluate(FUNCTIONS[name], values), (reference(mpmath.mpf(x)) for x in values.tolist()))
    print(f"{name}: {error:.4f} ulp on {values.size} values")
    assert error <= 0.501


def test_error_of_atan2_is_at_most_0_501_ulp() -> None:
    wide = [patterns(2000, SMALLEST, np.finfo(np.float32).max, seed) for seed in (2, 3)]
    alike = [patterns(1500, 0.25, 4.0, seed) for seed in (4, 5)]
    y, x = (np.concatenate(pair) for pair in zip(wide, alike, strict=True))
    with mpmath.workdps(DIGITS):
        truths = (mpmath.atan2(mpmath.mpf(a), mpmath.mpf(b)) for a, b in zip(y.tolist(), x.tolist(), strict=True))
        error = largest_error(evaluate(FUNCTIONS["atan2"], y, x), truths)
    print(f"atan2: {error:.4f} ulp on {x.size} values")
    assert error <= 0.501


def test_no_float32_is_nearer_than_2_to_the_minus_30_to_a_multiple_of_half_pi() -> None:
    with mpmath.workdps(DIGITS):
        turns = [2 * mpmath.mpf(x) / mpmath.pi for x in nearest_to_multiples_of_half_pi().tolist()]
        least = min(abs(turn - mpmath.nint(turn)) * mpmath.pi / 2 for turn in turns)
        assert 2.0**-30 < least < 2.0**-29


def test_the_table_is_two_over_pi() -> None:
    with mpmath.workdps(100):
        assert int(mpmath.floor(mpmath.ldexp(2 / mpmath.pi, 230))) == trigonometric._TWO_OVER_PI


POINTS = {
    # name: at -inf, -2, -1, -0, 0, 1, 2, inf; None where another test says it
    "sin": (np.nan, None, None, -0.0, 0.0, None, None, np.nan),
    "cos": (np.nan, None, None, 1, 1, None, None, np.nan),
    "tan": (np.nan, None, None, -0.0, 0.0, None, None, np.nan),
    "asin": (np.nan, np.nan, -np.pi / 2, -0.0, 0.0, np.pi / 2, np.nan, np.nan),
    "acos": (np.nan, np.nan, np.pi, np.pi / 2, np.pi / 2, 0.0, np.nan, np.nan),
    "atan": (-np.pi / 2, None, -np.pi / 4, -0.0, 0.0, np.pi / 4, None, np.pi / 2),
}


@pytest.mark.parametrize("name", POINTS)
def test_values_at_the_special_points(name: str) -> None:
    points = np.array([-np.inf, -2, -1, -0.0, 0.0, 1, 2, np.inf], np.float32)
    for x, found, expected in zip(points, unflushed(FUNCTIONS[name], points), POINTS[name], strict=True):
        if expected is not None:
            np.testing.assert_equal(found, np.float32(expected), err_msg=f"{name}({x})")
            assert np.isnan(found) or np.signbit(found) == np.signbit(expected), f"{name}({x})"
    assert np.all(evaluate(FUNCTIONS[name], EVERY_NAN).view(np.uint32) == 0x7FC00000)


@pytest.mark.parametrize("name", ODD)
def test_odd_functions_are_odd_bit_for_bit(name: str) -> None:
    values = sweep()
    positive, negative = evaluate(FUNCTIONS[name], values), evaluate(FUNCTIONS[name], -values)
    np.testing.assert_array_equal(negative, -positive)


def test_cos_is_even_bit_for_bit() -> None:
    values = sweep()
    np.testing.assert_array_equal(evaluate(FUNCTIONS["cos"], values), evaluate(FUNCTIONS["cos"], -values))


PI = np.pi
ATAN2_AT = [
    # y, x, the angle: ISO C, F.10.1.4
    (0.0, 0.0, 0.0),
    (0.0, -0.0, PI),
    (0.0, 1.0, 0.0),
    (0.0, -1.0, PI),
    (0.0, np.inf, 0.0),
    (0.0, -np.inf, PI),
    (1.0, 0.0, PI / 2),
    (1.0, -0.0, PI / 2),
    (1.0, 1.0, PI / 4),
    (1.0, -1.0, 3 * PI / 4),
    (1.0, np.inf, 0.0),
    (1.0, -np.inf, PI),
    (SMALLEST, 3e38, 0.0),
    (SMALLEST, -3e38, PI),
    (3e38, SMALLEST, PI / 2),
    (np.inf, 0.0, PI / 2),
    (np.inf, 3e38, PI / 2),
    (np.inf, -3e38, PI / 2),
    (np.inf, np.inf, PI / 4),
    (np.inf, -np.inf, 3 * PI / 4),
]


def test_atan2_has_the_special_cases_of_c() -> None:
    y, x, angles = (np.array(column, np.float32) for column in zip(*ATAN2_AT, strict=True))
    for sign in (np.float32(1), np.float32(-1)):
        found = unflushed(FUNCTIONS["atan2"], sign * y, x)
        found = np.copysign(cleaned(found), found)
        np.testing.assert_array_equal(found.view(np.uint32), (sign * angles).view(np.uint32))


@pytest.mark.parametrize("other", [0.0, -0.0, 1.0, np.inf, -np.inf, np.nan])
def test_nan_in_either_makes_atan2_nan(other: float) -> None:
    others = np.full_like(EVERY_NAN, other)
    for arguments in ((EVERY_NAN, others), (others, EVERY_NAN)):
        assert np.all(evaluate(FUNCTIONS["atan2"], *arguments).view(np.uint32) == 0x7FC00000)


if __name__ == "__main__":
    write_or_print({name: digest(rule, *operands(name)) for name, rule in FUNCTIONS.items()}, GOLDEN)
