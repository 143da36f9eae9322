"""Laws of complex64 as pairs of float32: both parts rounded once from the truth, one golden hash everywhere.

`python tests/test_portable_complex.py` prints the hashes of this machine as JSON; with `--write` it renews
`tests/golden/functions-complex.json`, which is right only where a value was meant to change.
"""

import hashlib
import json
import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax import Array, lax
from portable_elsewhere import FLAGS, said, write_or_print

from crh_train.portable import complex_numbers
from crh_train.portable.complex_numbers import COMPLEX, STRUCTURED
from crh_train.portable.elementwise import multiply
from crh_train.portable.exponential import exp
from crh_train.portable.fences import canonical, flush, make_fence
from crh_train.portable.scope import Accuracy, Scope
from crh_train.portable.trigonometric import cos, sin

GOLDEN = Path(__file__).parent / "golden" / "functions-complex.json"
INFINITY, NAN = math.inf, math.nan
BINARY = ("add", "sub", "mul", "div", "eq", "ne")
POWERS = (-3, -1, 0, 1, 2, 5)


def parts(x: Array, change: Callable[[Array], Array]) -> Array:
    if x.dtype == np.bool_:
        return x
    return lax.complex(change(lax.real(x)), change(lax.imag(x))) if x.dtype == np.complex64 else change(x)


@cache
def transformed(name: str, power: int | None = None) -> Callable[..., Array]:
    """The function as the transform has it: flushed before, canonical after, jitted, 64 bits only inside."""
    params = {} if power is None else {"y": power}

    @jax.jit
    def run(*values: Array) -> Array:
        with jax.enable_x64(True):
            clean = [parts(value, flush) for value in values]
            return parts(COMPLEX[name](make_fence(values[0]), *clean, **params), canonical)

    return run


def evaluate(name: str, *arguments: np.ndarray, power: int | None = None) -> np.ndarray:
    return np.asarray(transformed(name, power)(*arguments))


def structured(name: str, *arguments: np.ndarray, **params: Any) -> np.ndarray:
    def refused(*_: Any) -> list[Array]:
        raise AssertionError("nothing here has an inner program")

    @jax.jit
    def run(*values: Array) -> Array:
        with jax.enable_x64(True):
            return STRUCTURED[name](Scope(make_fence(values[0]), Accuracy(3), refused), *values, **params)

    return np.asarray(run(*arguments))


def patterns(seed: int, count: int) -> np.ndarray:
    """Complex64 of every kind: half of them uniform bits, half near in size, and all pairs of special parts."""
    generator = np.random.default_rng(seed)
    wild = generator.integers(0, 2**32, (count, 2), np.uint32).view(np.float32)
    tame = generator.integers(-(2**23), 2**23, (count, 2)).astype(np.float32) * np.float32(2.0**-20)
    tame[::5, 1] = tame[::5, 0] * (1 + np.float32(2.0**-22))
    special = np.array([0, -0.0, 1, -1, 2.0**-130, 2.0**-126, 3e38, INFINITY, -INFINITY, NAN], np.float32)
    pairs = np.stack([grid.ravel() for grid in np.meshgrid(special, special)], 1)
    together = np.concatenate([wild, tame, np.roll(pairs, seed, 0)])
    return together.view(np.complex64)[:, 0]


def ordinary(seed: int, count: int, largest: int = 60) -> np.ndarray:
    """Finite complex64 whose parts have exponents up to `largest` apart from 1, some of them zero."""
    generator = np.random.default_rng(seed)
    fractions = generator.integers(-(2**24), 2**24, (count, 2)).astype(np.float32) * np.float32(2.0**-24)
    values = np.ldexp(fractions, generator.integers(-largest, largest, (count, 2))).astype(np.float32)
    values[::4, 1] = values[::4, 0] * (1 + np.float32(2.0**-21))
    values[::7, 0] = 0
    values[::21] = 0
    return values.view(np.complex64)[:, 0]


def exact(value: complex) -> tuple[Fraction, Fraction]:
    return Fraction(float(value.real)), Fraction(float(value.imag))


def assert_rounded(found: np.ndarray, truths: list[Fraction], ulps: float) -> None:
    """Each float32 within so many distances of two float32 of the truth's binade; below 2^-124 it may be zero."""
    for value, truth in zip(found.tolist(), truths, strict=True):
        if abs(truth) >= Fraction(2) ** 128:
            assert abs(value) == INFINITY
        elif abs(truth) < Fraction(2) ** -124:
            assert abs(value) <= 2.0**-124
        else:
            exponent = math.frexp(float(abs(truth)))[1]
            assert abs(Fraction(value) - truth) <= Fraction(ulps) * Fraction(2) ** (exponent - 24), (
                value,
                float(truth),
            )


REFERENCES: dict[str, Callable[[Fraction, Fraction, Fraction, Fraction], tuple[Fraction, Fraction]]] = {
    "add": lambda a, b, c, d: (a + c, b + d),
    "sub": lambda a, b, c, d: (a - c, b - d),
    "mul": lambda a, b, c, d: (a * c - b * d, a * d + b * c),
    "div": lambda a, b, c, d: ((a * c + b * d) / (c * c + d * d), (b * c - a * d) / (c * c + d * d)),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_each_part_is_the_truth_rounded_once(name: str) -> None:
    left, right = ordinary(1, 3000), ordinary(2, 3000)
    right = np.where(right == 0, np.complex64(1), right)
    left[::6] = right[::6] * np.complex64(1 + 1j)  # parts that cancel
    found = evaluate(name, left, right)
    truths = [REFERENCES[name](*exact(x), *exact(y)) for x, y in zip(left, right, strict=True)]
    assert_rounded(found.real, [real for real, _ in truths], 0.5000002)
    assert_rounded(found.imag, [imaginary for _, imaginary in truths], 0.5000002)


def test_division_reaches_the_ends_of_the_range() -> None:
    huge, tiny = np.complex64(3e38 + 3e38j), np.complex64(2.0**-124 * (1 + 1j))
    left, right = np.array([huge, tiny, tiny, huge]), np.array([huge, tiny, huge, tiny])
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(evaluate("div", left[:3], right[:3]), np.array([1, 1, 0], np.complex64))
    assert evaluate("div", left, right)[3].real == INFINITY


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ((1, 0), (0, 0), (INFINITY, NAN)),
        ((1, -2), (0, 0), (INFINITY, -INFINITY)),
        ((0, 0), (0, 0), (NAN, NAN)),
        ((1, 1), (INFINITY, 1), (0, 0)),
        ((3, -1), (NAN, -INFINITY), (0, 0)),
        ((INFINITY, 1), (INFINITY, INFINITY), (NAN, NAN)),
        ((NAN, 1), (1, 0), (NAN, NAN)),
    ],
)
def test_division_by_zero_and_by_infinity(
    left: tuple[float, float], right: tuple[float, float], expected: tuple[float, float]
) -> None:
    found = evaluate("div", np.array([complex(*left)], np.complex64), np.array([complex(*right)], np.complex64))
    np.testing.assert_array_equal(np.array([found[0].real, found[0].imag]), np.array(expected, np.float32))


def root(number: Fraction) -> Fraction:
    """√number within 2^-120 of itself."""
    if number == 0:
        return number
    shift = 2 * (160 + abs(number.numerator.bit_length() - number.denominator.bit_length()))
    return Fraction(math.isqrt((number.numerator << shift) // number.denominator), 1 << (shift // 2))


def test_modulus_and_direction() -> None:
    values = ordinary(3, 3000, 100)
    moduli = [root(a * a + b * b) for a, b in map(exact, values)]
    assert_rounded(evaluate("abs", values), moduli, 0.5000002)
    found = evaluate("sign", values)
    divisors = [modulus or Fraction(1) for modulus in moduli]
    assert_rounded(found.real, [exact(x)[0] / r for x, r in zip(values, divisors, strict=True)], 0.5000003)
    assert_rounded(found.imag, [exact(x)[1] / r for x, r in zip(values, divisors, strict=True)], 0.5000003)
    special = np.array([complex(INFINITY, NAN), complex(NAN, -INFINITY), complex(1, NAN), -0.0], np.complex64)
    np.testing.assert_array_equal(evaluate("abs", special), np.array([INFINITY, INFINITY, NAN, 0], np.float32))


def test_square_root_is_the_principal_one() -> None:
    values = ordinary(4, 3000, 100)
    found = evaluate("sqrt", values)
    truths = []
    for a, b in map(exact, values):
        large = root((root(a * a + b * b) + abs(a)) / 2)
        small = abs(b) / (2 * large) if large else large
        truths.append((large, small) if a >= 0 else (small, large))
    assert_rounded(found.real, [real for real, _ in truths], 0.5000004)
    assert_rounded(np.abs(found.imag), [imaginary for _, imaginary in truths], 0.5000004)
    assert np.array_equal(np.signbit(found.imag), np.signbit(values.imag))
    special = np.array(
        [complex(-4, 0), complex(0, INFINITY), complex(-INFINITY, -1), complex(INFINITY, 1)], np.complex64
    )
    expected = np.array([2j, complex(INFINITY, INFINITY), complex(0, -INFINITY), complex(INFINITY, 0)], np.complex64)
    np.testing.assert_array_equal(evaluate("sqrt", special), expected)


@pytest.mark.parametrize("power", POWERS)
def test_powers_of_small_gaussian_integers_are_exact(power: int) -> None:
    values = np.array([1, 1j, -1j, 2, 1 + 1j, 3 - 2j, -4 + 7j], np.complex64)
    found = evaluate("integer_pow", values, power=power)
    for value, result in zip(values, found, strict=True):
        a, b = Fraction(1), Fraction(0)
        for _ in range(abs(power)):
            a, b = REFERENCES["mul"](a, b, *exact(value))
        if power < 0:
            a, b = REFERENCES["div"](Fraction(1), Fraction(0), a, b)
        assert (result.real, result.imag) == (np.float32(float(a)), np.float32(float(b)))


def test_square_is_the_product_with_itself() -> None:
    values = patterns(5, 1000)
    assert evaluate("square", values).tobytes() == evaluate("mul", values, values).tobytes()


def test_exponential_is_made_of_its_real_parts() -> None:
    values = np.concatenate([ordinary(6, 1000, 6), np.array([200, complex(-200, 3), 1], np.complex64)])

    @jax.jit
    def expected(real: Array, imaginary: Array) -> tuple[Array, Array]:
        with jax.enable_x64(True):
            fence = make_fence(real)
            size = flush(exp(fence, real))
            turns = (flush(function(fence, imaginary)) for function in (cos, sin))
            cosine, sine = (multiply(fence, size, turn) for turn in turns)
            return cosine, lax.select(lax.eq(imaginary, lax.full_like(sine, 0)), imaginary, sine)

    real, imaginary = expected(values.real, values.imag)
    found = evaluate("exp", values)
    np.testing.assert_array_equal(found.real, np.asarray(real))
    np.testing.assert_array_equal(found.imag, np.asarray(imaginary))


def test_signs_and_parts_and_comparisons_are_bits() -> None:
    values, others = patterns(7, 200), patterns(8, 200)
    others[::3] = values[::3]
    with np.errstate(invalid="ignore"):
        clean = [np.where(np.abs(part) < 2.0**-125, np.float32(0), part) for part in (values.real, values.imag)]
    for name, expected in {"real": clean[0], "imag": clean[1]}.items():
        np.testing.assert_array_equal(evaluate(name, values), expected)
    for name, factors in {"neg": (-1, -1), "conj": (1, -1)}.items():
        found = evaluate(name, values)
        np.testing.assert_array_equal(found.real, factors[0] * clean[0])
        np.testing.assert_array_equal(found.imag, factors[1] * clean[1])
    np.testing.assert_array_equal(evaluate("eq", values, values), ~np.isnan(values))
    assert np.array_equal(evaluate("ne", values, others), ~evaluate("eq", values, others))
    assert evaluate("eq", np.array([1 + 2j], np.complex64), np.array([1 + 3j], np.complex64)).item() is False


def gaussian_integers(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.integers(-40, 40, shape) + 1j * generator.integers(-40, 40, shape)).astype(np.complex64)


@pytest.mark.parametrize(
    "numbers", [(((2,), (1,)), ((0,), (0,))), (((1, 2), (2, 1)), ((0,), (0,))), (((), ()), ((), ()))]
)
def test_contractions_of_gaussian_integers_are_exact(numbers: Any) -> None:
    left, right = gaussian_integers(9, (2, 3, 4)), gaussian_integers(10, (2, 4, 3))
    found = structured("dot_general", left, right, dimension_numbers=numbers, precision=None, out_sharding=None)
    (left_contract, right_contract), (left_batch, _) = numbers
    rows, columns = "abc", list("xyz")
    if left_batch:
        columns[0] = "a"
    for i, j in zip(left_contract, right_contract, strict=True):
        columns[j] = rows[i]
    free = [name for name in (*rows, *columns) if (*rows, *columns).count(name) == 1]
    expected = np.einsum(f"{rows},{''.join(columns)}->{'a' if left_batch else ''}{''.join(free)}", left, right)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("features", "batches"), [(1, 1), (2, 1), (1, 2)])
def test_convolutions_of_gaussian_integers_are_exact(features: int, batches: int) -> None:
    left, right = gaussian_integers(11, (2, 4, 6, 5)), gaussian_integers(12, (4, 4 // features, 3, 2))
    params: dict[str, Any] = {
        "window_strides": (2, 1),
        "padding": ((1, 0), (1, 2)),
        "lhs_dilation": (1, 1),
        "rhs_dilation": (1, 2),
        "dimension_numbers": lax.conv_dimension_numbers(left.shape, right.shape, ("NCHW", "OIHW", "NCHW")),
        "feature_group_count": features,
        "batch_group_count": batches,
    }
    found = structured("conv_general_dilated", left, right, **params)

    def real(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(lax.conv_general_dilated(x, y, **params))

    np.testing.assert_array_equal(found.real, real(left.real, right.real) - real(left.imag, right.imag))
    np.testing.assert_array_equal(found.imag, real(left.real, right.imag) + real(left.imag, right.real))


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), ()])
def test_products_of_gaussian_integers_are_exact(axes: tuple[int, ...]) -> None:
    values = np.array([[1 + 2j, 3, -1j], [2, 1 - 1j, 5j]], np.complex64)
    np.testing.assert_array_equal(structured("reduce_prod", values, axes=axes), np.prod(values, axis=axes))


def test_what_is_not_automatic_sharding_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="use automatic sharding"):
        structured("reduce_prod", np.ones(2, np.complex64), axes=(0,), out_sharding="other")


def test_every_name_is_a_primitive_and_every_function_listed() -> None:
    primitives = {value.name for name, value in vars(lax).items() if name.endswith("_p")} | {"add_any"}
    assert set(COMPLEX) | set(STRUCTURED) <= primitives
    listed = {*COMPLEX.values(), *STRUCTURED.values()}
    assert {value for name, value in vars(complex_numbers).items() if callable(value) and name in public()} == listed


def public() -> set[str]:
    names = vars(complex_numbers)
    return {
        name
        for name in names
        if not name.startswith("_") and getattr(names[name], "__module__", "") == complex_numbers.__name__
    }


def hashes() -> dict[str, str]:
    left, right = patterns(13, 2000), patterns(14, 2000)
    results = {}
    for name in sorted(COMPLEX):
        operands = (left, right) if name in (*BINARY, "add_any") else (left,)
        for power in POWERS if name == "integer_pow" else (None,):
            image = evaluate(name, *operands, power=power).tobytes()
            results[name if power is None else f"{name} {power}"] = hashlib.sha256(image).hexdigest()
    return results


def test_this_machine_has_the_golden_bits() -> None:
    assert hashes() == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("flag", FLAGS)
def test_neither_instructions_nor_optimisation_change_a_bit(flag: str) -> None:
    assert said(__file__, XLA_FLAGS=flag) == json.loads(GOLDEN.read_text())


if __name__ == "__main__":
    write_or_print(hashes(), GOLDEN)
