"""The laws: a sum is its definition in integers, whatever the order and the machine's devices; NaN and the zeros have
one place in every extreme; products keep to their tree."""

from fractions import Fraction
from itertools import accumulate

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import portable_sharded
import pytest
from jax import lax
from portable_elsewhere import said_on_four_devices
from portable_rules import NAN_BITS, SMALLEST, apply, bits, clean, exact_sum, exponent, numbers, same_bits

from crh_train.portable import fixed_point, sums

NAN = np.float32(np.nan)
INFINITY = np.float32(np.inf)
ODD_NAN = np.uint32(0xFFC12345).view(np.float32)


@pytest.mark.parametrize(("low", "high"), [(-30, 10), (-124, -100), (126, 128), (-124, 128), (3, 4)])
@pytest.mark.parametrize("count", [1, 2, 5, 64, 1000])
def test_a_sum_is_its_definition_in_integers(count: int, low: int, high: int) -> None:
    x = clean(numbers(count, (3, count), low, high))
    found = apply(sums.reduce_sum, x, axes=(1,))
    assert same_bits(found, np.array([exact_sum(row, exponent(row), count) for row in x], np.float32))


def test_sum_over_several_axes_is_that_over_them_as_one() -> None:
    x = numbers(0, (4, 3, 5, 6))
    together = np.moveaxis(x, (0, 2), (2, 3)).reshape(3, 6, 20)
    assert same_bits(apply(sums.reduce_sum, x, axes=(0, 2)), apply(sums.reduce_sum, together, axes=(2,)))


def test_an_error_is_within_its_bound() -> None:
    x = numbers(1, (50, 300), -20, 1)
    found = apply(sums.reduce_sum, x, axes=(1,))
    for row, value in zip(x, found, strict=True):
        exact = sum(Fraction(float(element)) for element in row)
        bound = abs(exact) * Fraction(2) ** -24 + 300 * Fraction(2) ** -43 * Fraction(float(np.abs(row).max()))
        assert abs(Fraction(float(value)) - exact) <= bound


@pytest.mark.parametrize("shape", [(16, 257), (4096,), (3, 40, 50)])
def test_permuting_the_summed_axis_changes_no_bit(shape: tuple[int, ...]) -> None:
    x, axis = numbers(2, shape), len(shape) - 1
    order = np.random.default_rng(3).permutation(shape[axis])
    assert same_bits(apply(sums.reduce_sum, x, axes=(axis,)), apply(sums.reduce_sum, x[..., order], axes=(axis,)))


@pytest.mark.parametrize("bad", [(INFINITY,), (-INFINITY,), (NAN,), (ODD_NAN,), (INFINITY, -INFINITY), (INFINITY, NAN)])
@pytest.mark.parametrize("count", [5, 300])
def test_what_is_not_finite_makes_its_own_sum_the_canonical_nan(bad: tuple[np.float32, ...], count: int) -> None:
    x = numbers(4, (4, count))
    expected = apply(sums.reduce_sum, x, axes=(1,))
    x[2, 1 : 1 + len(bad)] = bad
    found = apply(sums.reduce_sum, x, axes=(1,))
    assert bits(found)[2] == NAN_BITS
    assert same_bits(np.delete(found, 2), np.delete(expected, 2))


def test_sums_of_nothing() -> None:
    assert same_bits(apply(sums.reduce_sum, np.zeros((3, 0), np.float32), axes=(1,)), np.zeros(3, np.float32))
    assert same_bits(apply(sums.reduce_sum, np.zeros((0, 3), np.float32), axes=(1,)), np.zeros(0, np.float32))
    assert same_bits(apply(sums.reduce_sum, np.array([-0.0, 1], np.float32), axes=()), np.array([0, 1], np.float32))
    assert same_bits(apply(sums.reduce_sum, np.full((2, 3), -0.0, np.float32), axes=(1,)), np.zeros(2, np.float32))
    assert same_bits(
        apply(sums.cumsum, np.zeros((2, 0), np.float32), axis=1, reverse=False), np.zeros((2, 0), np.float32)
    )


def test_sum_of_integers_and_of_complex_numbers() -> None:
    assert apply(sums.reduce_sum, np.array([2**31 - 1, 1], np.int32), axes=(0,)) == -(2**31)
    x = numbers(5, (2, 40))
    found = apply(sums.reduce_sum, x[0] + 1j * x[1], axes=(0,))
    assert same_bits(np.stack([found.real, found.imag]), apply(sums.reduce_sum, x, axes=(1,)))


def test_more_terms_than_a_sum_may_have_are_refused() -> None:
    assert fixed_point.sum_bits(2**30) == 22
    with pytest.raises(NotImplementedError, match="at most 1073741824 terms, not 1073741825"):
        fixed_point.sum_bits(2**30 + 1)


def test_the_largest_magnitude_is_infinite_where_something_is_not_finite() -> None:
    x = np.stack([numbers(6, (300,), 120, 128)] * 5)
    x[1, 7], x[2, 8], x[3, 9], x[4] = NAN, -INFINITY, ODD_NAN, -0.0
    expected = np.array([np.abs(x[0]).max(), np.inf, np.inf, np.inf, 0], np.float32)
    assert same_bits(apply(lambda scope, x: fixed_point.largest(x, (1,)), x), expected)
    assert same_bits(
        apply(lambda scope, x: fixed_point.largest(x, ()), x[:, 7:10]),
        np.where(np.isfinite(x), np.abs(x), np.inf)[:, 7:10],
    )
    scales = apply(lambda scope, x: fixed_point.shared_exponent(x, (1,)), x)
    assert scales.ravel().tolist() == [128, 129, 129, 129, -126]
    found = apply(lambda scope, x: fixed_point.finite_largest(x, (1,)), x)
    assert same_bits(found, np.where(np.isfinite(x), np.abs(x), 0).max(1, keepdims=True))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_running_sum_is_the_sum_of_each_prefix(reverse: bool) -> None:
    x = numbers(7, (2, 37, 3))
    found = apply(sums.cumsum, x, axis=1, reverse=reverse)
    for row, column in np.ndindex(2, 3):
        line = x[row, :, column][:: -1 if reverse else 1]
        expected = [exact_sum(line[: end + 1], exponent(line), 37) for end in range(37)]
        assert same_bits(found[row, :, column][:: -1 if reverse else 1], np.array(expected, np.float32))


@pytest.mark.parametrize("bad", [INFINITY, ODD_NAN])
def test_a_running_sum_is_nan_from_what_is_not_finite_on(bad: np.float32) -> None:
    x = numbers(8, (20,))
    x[11], x[14] = 0, 0
    expected = apply(sums.cumsum, x, axis=0, reverse=False)
    x[11], x[14] = bad, -bad
    found = apply(sums.cumsum, x, axis=0, reverse=False)
    assert same_bits(found[:11], expected[:11])
    assert np.all(bits(found[11:]) == NAN_BITS)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 37])
def test_a_product_is_its_tree(count: int) -> None:
    x = clean(numbers(count, (5, count), -60, 60))
    level = np.concatenate([x, np.ones((5, (1 << (count - 1).bit_length()) - count), np.float32)], axis=1)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        while level.shape[1] > 1:
            half = level.shape[1] // 2
            level = clean(level[:, :half] * level[:, half:])
    assert np.array_equal(apply(sums.reduce_prod, x, axes=(1,)), level[:, 0], equal_nan=True)


def test_products_of_nothing_and_of_several_axes() -> None:
    assert same_bits(apply(sums.reduce_prod, np.ones((2, 0), np.float32), axes=(1,)), np.ones(2, np.float32))
    x = numbers(9, (3, 4, 5), -3, 3)
    together = np.moveaxis(x, 1, 0).reshape(4, 15)
    assert same_bits(apply(sums.reduce_prod, x, axes=(0, 2)), apply(sums.reduce_prod, together, axes=(1,)))
    assert apply(sums.reduce_prod, np.array([3, 5], np.int32), axes=(0,)) == 15


@pytest.mark.parametrize("reverse", [False, True])
def test_a_running_product_is_its_steps(reverse: bool) -> None:
    x = numbers(10, (13, 2), -20, 20)
    expected = x[::-1] if reverse else x
    for step in (1, 2, 4, 8):
        with np.errstate(over="ignore", under="ignore"):
            expected = clean(expected * np.concatenate([np.ones((step, 2), np.float32), expected[:-step]]))
    expected = expected[::-1] if reverse else expected
    assert same_bits(apply(sums.cumprod, x, axis=0, reverse=reverse), expected)


def test_extremes_have_nan_win_and_one_zero() -> None:
    x = np.array(
        [
            [1, -2, 3, -4],
            [-INFINITY, INFINITY, 0, 1],
            [-0.0, 0.0, -0.0, 0.0],
            [-0.0, -0.0, -0.0, -0.0],
            [1, NAN, INFINITY, -INFINITY],
            [ODD_NAN, 2, 3, 4],
            [-INFINITY] * 4,
            [SMALLEST, -SMALLEST, 0, 0],
        ],
        np.float32,
    )
    greatest = np.array([3, INFINITY, 0, 0, NAN, NAN, -INFINITY, SMALLEST], np.float32)
    least = np.array([-4, -INFINITY, 0, 0, NAN, NAN, -INFINITY, -SMALLEST], np.float32)
    for order in np.random.default_rng(11).permuted(np.tile(np.arange(4), (6, 1)), axis=1):
        shuffled = x[:, order]
        assert same_bits(apply(sums.reduce_max, shuffled, axes=(1,)), greatest)
        assert same_bits(apply(sums.reduce_min, shuffled, axes=(1,)), least)
        assert same_bits(apply(sums.cummax, shuffled, axis=1, reverse=False)[:, -1], greatest)
        assert same_bits(apply(sums.cummin, shuffled, axis=1, reverse=True)[:, 0], least)


@pytest.mark.parametrize("reverse", [False, True])
def test_running_extremes_are_those_of_each_prefix(reverse: bool) -> None:
    x = numbers(12, (31,))
    line = x[::-1] if reverse else x
    for rule, better in ((sums.cummax, max), (sums.cummin, min)):
        expected = np.array(list(accumulate(line, better)), np.float32)
        assert same_bits(apply(rule, x, axis=0, reverse=reverse), expected[::-1] if reverse else expected)


def test_extremes_of_integers_and_of_nothing() -> None:
    x = np.array([[3, -7], [5, 5]], np.int32)
    assert apply(sums.reduce_max, x, axes=(1,)).tolist() == [3, 5]
    assert apply(sums.reduce_min, x, axes=(0,)).tolist() == [3, -7]
    assert apply(sums.cummin, x, axis=1, reverse=False).tolist() == [[3, -7], [5, 5]]
    assert apply(sums.argmin, x, axes=(1,), index_dtype=np.dtype("int32")).tolist() == [1, 0]
    empty = np.zeros((2, 0), np.float32)
    assert same_bits(apply(sums.reduce_max, empty, axes=(1,)), np.full(2, -INFINITY))
    assert same_bits(apply(sums.reduce_min, empty, axes=(1,)), np.full(2, INFINITY))


@pytest.mark.parametrize(
    ("row", "first_greatest", "first_least"),
    [
        ([1, 3, 3, -2, -2], 1, 3),
        ([-0.0, 0.0, -0.0, 0.0, 0.0], 0, 0),
        ([-1, -0.0, 0.0, 1, 1], 3, 0),
        ([INFINITY, ODD_NAN, -INFINITY, NAN, 0], 1, 1),
        ([-INFINITY, -INFINITY, INFINITY, INFINITY, 0], 2, 0),
    ],
)
def test_position_of_an_extreme_is_the_first(row: list[float], first_greatest: int, first_least: int) -> None:
    x = np.array([row, row], np.float32)
    for rule, expected in ((sums.argmax, first_greatest), (sums.argmin, first_least)):
        found = apply(rule, x, axes=(1,), index_dtype=np.dtype("int32"))
        assert found.dtype == np.int32
        assert found.tolist() == [expected, expected]


def test_reduced_precision_is_the_smaller_type() -> None:
    x = np.random.default_rng(13).integers(0, 2**32, 20000, np.uint64).astype(np.uint32).view(np.float32)
    x = clean(
        np.concatenate([x[np.isfinite(x)], numbers(14, (5000,), -20, 17), [INFINITY, -INFINITY]]).astype(np.float32)
    )
    with np.errstate(over="ignore"):
        short, half = x.astype(ml_dtypes.bfloat16).astype(np.float32), x.astype(np.float16).astype(np.float32)
    assert np.array_equal(apply(sums.reduce_precision, x, exponent_bits=8, mantissa_bits=7), short)
    # Rounded as if normal, then flushed: so the largest denormal may round up to the smallest normal number.
    found = apply(sums.reduce_precision, x, exponent_bits=5, mantissa_bits=10)
    assert np.array_equal(found[np.abs(x) >= 2.0**-14], half[np.abs(x) >= 2.0**-14])
    assert not np.any(found[np.abs(x) < 2.0**-14 * (1 - 2.0**-11)])
    assert same_bits(apply(sums.reduce_precision, x, exponent_bits=8, mantissa_bits=23), x + np.float32(0))
    assert np.all(np.isnan(apply(sums.reduce_precision, np.array([NAN, ODD_NAN]), exponent_bits=4, mantissa_bits=0)))


def _reduce(computation: object, x: np.ndarray, initial: object, axes: tuple[int, ...]) -> np.ndarray:
    (equation,) = jax.make_jaxpr(lambda x, start: lax.reduce(x, start, computation, axes))(x, initial).eqns
    assert equation.primitive.name == "reduce"
    (found,) = apply(sums.reduce, x, np.asarray(initial), **equation.params)
    return found


def test_a_reduction_by_one_known_operation_is_recognised() -> None:
    x = numbers(15, (3, 50))
    total = apply(sums.reduce_sum, x, axes=(1,))
    assert same_bits(_reduce(lambda a, b: lax.add(b, a), x, np.float32(3), (1,)), total + np.float32(3))
    assert same_bits(_reduce(lax.max, x, np.float32(0.5), (0, 1)), np.maximum(x.max(), np.float32(0.5)))
    assert same_bits(_reduce(lax.min, x, np.float32(NAN), (1,)), np.full(3, NAN))
    assert same_bits(_reduce(lax.mul, x[:, :2], np.float32(2), (1,)), x[:, 0] * x[:, 1] * 2)
    assert _reduce(lax.bitwise_or, np.array([1, 4], np.int32), np.int32(2), (0,)) == 7


def test_a_reduction_by_anything_else_is_refused() -> None:
    x = numbers(16, (4,))
    for computation, named in ((lax.sub, "sub"), (lambda a, b: a + 2 * b, "mul"), (lambda a, b: lax.add(a, a), "add")):
        with pytest.raises(NotImplementedError, match=rf"reduce of 1 arrays by .*{named}"):
            _reduce(computation, x, np.float32(0), (0,))


def test_what_has_no_order_is_refused() -> None:
    x = np.ones((3,), np.complex64)
    for rule, params in (
        (sums.reduce_max, {"axes": (0,)}),
        (sums.reduce_prod, {"axes": (0,)}),
        (sums.cumprod, {"axis": 0, "reverse": False}),
        (sums.argmax, {"axes": (0,), "index_dtype": jnp.int32}),
    ):
        with pytest.raises(NotImplementedError, match="complex64"):
            apply(rule, x, **params)
    with pytest.raises(NotImplementedError, match="automatic sharding"):
        apply(sums.reduce_sum, x, axes=(0,), out_sharding="batch")


def test_rules_give_the_same_bits_sharded_over_four_devices() -> None:
    same = said_on_four_devices(portable_sharded.__file__)
    assert len(same) > 15
    assert [name for name in same if not same[name]] == []
