"""Laws of the portable products: the documented value in integers, whatever the order, the layout and the devices.

`python tests/test_portable_contraction.py` prints, as JSON, the hashes of `sharded_products` on all devices of this
process.
"""

import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from portable_elsewhere import print_from_all_devices, said_on_four_devices
from portable_rules import NAN_BITS, bits, clean, exponent, numbers, same_bits

from crh_train.portable import portable

TERMS = (0, 1, 2, 5, 32, 33, 512, 513, 1100)
DIGITS = (2, 3, 4)
SMALLEST, LARGEST = np.float32(2.0**-125), np.float32(3e38)


def kept_bits(digits: int, terms: int) -> tuple[int, int]:
    """B of the left and of the right, as the module's table says."""
    if digits != 3:
        return {2: (15, 15), 4: (30, 30)}[digits]
    for left in (24, 23, 22):
        for right in (24, 23, 22):
            if left <= right and terms * 2 ** (left + right) <= 2**53:
                return left, right
    return 22, 22


def integers(row: np.ndarray, kept: int) -> tuple[np.ndarray, int]:
    """A row against the power of two above its largest magnitude: exact Python integers, and the scale."""
    scale = exponent(row.ravel().tolist())
    rounded = [round(math.ldexp(x, kept - scale)) for x in row.ravel().tolist()]  # halves to even
    return np.array(rounded, object).reshape(row.shape), scale - kept


def halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    high = np.array([round(Fraction(n, 2**15)) for n in x.ravel().tolist()], object).reshape(x.shape)
    return high, x - high * 2**15


def sum_of_products(left: np.ndarray, right: np.ndarray, kept: int) -> float:
    """Of Python integers, in float64: rounded once; for 30 bits the upper and the lower half are added one by one."""
    if kept < 30:
        return float(int(left @ right))
    (high, low), (other_high, other_low) = halves(left), halves(right)
    upper = float(int(high @ other_high) * 2**30) + float(int(high @ other_low + low @ other_high) * 2**15)
    return upper + float(int(low @ other_low))


def product(left: np.ndarray, right: np.ndarray, digits: int) -> np.ndarray:
    """[M, K] and [N, K], clean and finite -> float32 [M, N], by the definition."""
    kept = kept_bits(digits, left.shape[1])
    rows, columns = [integers(row, kept[0]) for row in left], [integers(row, kept[1]) for row in right]
    found = np.zeros((len(left), len(right)), np.float32)
    with np.errstate(over="ignore", under="ignore"):
        for i, j in np.ndindex(found.shape):
            (row, unit), (column, other_unit) = rows[i], columns[j]
            total = sum_of_products(row, column, kept[0]) if row.size else 0.0
            found[i, j] = np.float32(math.ldexp(total, unit + other_unit) if abs(total) else 0.0)
        return clean(found) + np.float32(0)


def run(function: Any, *operands: Any, digits: int = 3) -> Any:
    return jax.tree.map(np.asarray, jax.jit(portable(function, digits=digits))(*operands))


@pytest.mark.parametrize("digits", DIGITS)
def test_a_product_is_its_definition_in_integers(digits: int) -> None:
    pairs = []
    for terms in TERMS:
        low = -60 if terms in (5, 513) else -6  # a wide range, or a narrow one, which keeps its bits
        pairs.append((numbers(terms, (3, terms), low, 4), numbers(terms + 1, (2, terms), low, 2)))
    found = run(lambda pairs: [x @ y.T for x, y in pairs], pairs, digits=digits)
    for (x, y), value in zip(pairs, found, strict=True):
        assert same_bits(value, product(x, y, digits)), x.shape


@pytest.mark.parametrize("digits", DIGITS)
def test_every_scale_of_row_and_column(digits: int) -> None:
    scales = np.float32([0, SMALLEST, 2.0**-100, 2.0**-63, 1, 2.0**63, 2.0**100, 2.0**127])
    x = clean(numbers(0, (8, 6), -3, 1) * scales[:, None])
    y = clean(numbers(1, (8, 6), -3, 1) * scales[:, None])
    x[4, 2], y[4, 3] = -0.0, 0.0
    x[5], y[5] = 1, 1  # powers of two: the least magnitude that has its scale
    x[7, :3], y[7, :3] = LARGEST, -LARGEST
    assert same_bits(run(lambda x, y: x @ y.T, x, y, digits=digits), product(x, y, digits))


def test_halves_are_rounded_to_even_and_the_largest_may_reach_the_scale() -> None:
    top = np.float32(2) - np.float32(2.0**-23)
    x = np.float32([[top, 3 * 2.0**-23, 2.0**-23, 5 * 2.0**-23], [top] * 4])
    x = np.concatenate([x, np.zeros((2, 1100 - 4), np.float32)], axis=1)
    for digits in DIGITS:
        assert same_bits(run(lambda x: x @ x.T, x, digits=digits), product(x, x, digits))


DIMENSIONS = {
    # shapes, ((contracted), (batch)) as in `lax.dot_general`
    "vector by vector": ((7,), (7,), (((0,), (0,)), ((), ()))),
    "outer": ((3,), (4,), (((), ()), ((), ()))),
    "matrix by vector": ((5, 7), (7,), (((1,), (0,)), ((), ()))),
    "transposed both": ((7, 5), (4, 7), (((0,), (1,)), ((), ()))),
    "two contracted, out of order": ((3, 4, 5), (5, 6, 3), (((2, 0), (0, 2)), ((), ()))),
    "batch first": ((2, 5, 7), (2, 7, 4), (((2,), (1,)), ((0,), (0,)))),
    "batch last": ((5, 7, 2), (7, 4, 2), (((1,), (0,)), ((2,), (2,)))),
    "two batches, crossed": ((2, 3, 5, 7), (3, 7, 2, 4), (((3,), (1,)), ((1, 0), (0, 2)))),
    "only batches": ((2, 3), (3, 2), (((), ()), ((0, 1), (1, 0)))),
    "nothing contracted, one row": ((1, 3), (2, 1), (((), ()), ((), ()))),
    "no rows": ((0, 7), (7, 4), (((1,), (0,)), ((), ()))),
    "no batch": ((0, 5, 7), (0, 7, 4), (((2,), (1,)), ((0,), (0,)))),
    "scalars": ((), (), (((), ()), ((), ()))),
}


def as_matrices(x: np.ndarray, contracted: Sequence[int], batch: Sequence[int]) -> np.ndarray:
    """-> [batch, free, contraction]."""
    free = [axis for axis in range(x.ndim) if axis not in (*contracted, *batch)]
    sizes = [math.prod(x.shape[axis] for axis in group) for group in (batch, free, contracted)]
    return np.transpose(x, (*batch, *free, *contracted)).reshape(sizes)


def test_any_dimensions_are_contracted_and_batched() -> None:
    operands = [(numbers(i, d[0]), numbers(i + 50, d[1])) for i, d in enumerate(DIMENSIONS.values())]

    def program(operands: Any) -> list[Array]:
        return [lax.dot_general(*pair, d[2]) for pair, d in zip(operands, DIMENSIONS.values(), strict=True)]

    shapes = [made.shape for made in jax.eval_shape(program, operands)]
    for name, pair, shape, value in zip(DIMENSIONS, operands, shapes, run(program, operands), strict=True):
        (left, right), (left_batch, right_batch) = DIMENSIONS[name][2]
        matrices = as_matrices(pair[0], left, left_batch), as_matrices(pair[1], right, right_batch)
        expected = np.array([product(x, y, 3) for x, y in zip(*matrices, strict=True)], np.float32).reshape(shape)
        assert same_bits(value, expected), name


@pytest.mark.parametrize("digits", DIGITS)
def test_permuting_the_contracted_axis_changes_no_bit(digits: int) -> None:
    x, y = numbers(2, (9, 1100), -20, 4), numbers(3, (1100, 6), -20, 4)
    orders = [np.random.default_rng(seed).permutation(1100) for seed in range(3)]
    found = run(lambda pairs: [a @ b for a, b in pairs], [(x, y), *[(x[:, o], y[o]) for o in orders]], digits=digits)
    assert np.any(found[0])
    assert all(same_bits(other, found[0]) for other in found[1:])


def test_a_row_does_not_know_its_neighbours() -> None:
    x, y = numbers(4, (9, 40)), numbers(5, (40, 6))
    found = run(lambda x, y: [x @ y, x[2:5] @ y, x[7] @ y, (y.T @ x.T).T[8:], x @ y[:, 3:4]], x, y)
    assert same_bits(found[1], found[0][2:5])
    assert same_bits(found[2], found[0][7])
    # With 40 terms one operand keeps 24 bits and the other 23; so which is the left one matters.
    assert kept_bits(3, 40) == (23, 24)
    assert same_bits(found[3], product(y.T, x, 3).T[8:])
    assert same_bits(found[4], found[0][:, 3:4])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, np.uint32(0xFFC12345).view(np.float32)])
@pytest.mark.parametrize("terms", [7, 600])
def test_what_is_not_finite_makes_nan_of_its_own_row_and_column(bad: float, terms: int) -> None:
    x, y = numbers(6, (5, terms)), numbers(7, (4, terms))
    x[2, 1:3], y[1, 5] = (bad, -bad), bad
    x[3], y[2] = 0, LARGEST
    expected = np.full((5, 4), np.nan, np.float32)
    rows, columns = [0, 1, 3, 4], [0, 2, 3]
    expected[np.ix_(rows, columns)] = product(x[rows], y[columns], 3)
    found = run(lambda x, y: x @ y.T, x, y)
    assert np.all(bits(found[2]) == NAN_BITS)
    assert np.all(bits(found[:, 1]) == NAN_BITS)
    assert np.array_equal(found, expected, equal_nan=True)


def test_integers_are_multiplied_as_xla_does() -> None:
    x = np.arange(12, dtype=np.int32).reshape(3, 4) - 5
    found = run(
        lambda x: [x @ x.T, lax.dot(x.astype(jnp.int8), x.T.astype(jnp.int8), preferred_element_type=jnp.int32)], x
    )
    assert np.array_equal(found[0], x @ x.T)
    assert np.array_equal(found[1], x @ x.T)


def test_half_types_are_multiplied_as_float32_and_rounded_once() -> None:
    x, y = (numbers(seed, (3, 20), -4, 4).astype(jnp.bfloat16) for seed in (8, 9))
    found = run(lambda x, y: [x @ y.T, lax.dot(x, y.T, preferred_element_type=jnp.float32)], x, y)
    expected = product(x.astype(np.float32), y.astype(np.float32), 3)
    assert np.array_equal(found[0], expected.astype(jnp.bfloat16))
    assert same_bits(found[1], expected)


def gaussian(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """The sum of twelve uniform numbers, made of integers."""
    uniform = np.random.default_rng(seed).integers(-(2**20), 2**20, (12, *shape))
    return (uniform.sum(0) * 2.0**-21).astype(np.float32)


def wide(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    scale = np.random.default_rng(seed + 1).integers(-12, 13, shape).astype(np.float32)
    return gaussian(seed, shape) * np.ldexp(np.float32(1), scale.astype(np.int32))


@pytest.mark.parametrize("data", [gaussian, wide])
def test_errors_are_within_the_bound(data: Any) -> None:
    pairs = [(data(terms, (40, terms)), data(terms + 2, (terms, 30))) for terms in (16, 100, 512, 2048)]
    for digits in DIGITS:
        found = run(lambda pairs: [x @ y for x, y in pairs], pairs, digits=digits)
        for (x, y), value in zip(pairs, found, strict=True):
            terms = x.shape[1]
            left, right = kept_bits(digits, terms)
            exact = x.astype(np.float64) @ y.astype(np.float64)
            largest = np.abs(x).max(1)[:, None] * np.abs(y).max(0)[None].astype(np.float64)
            # The last term is for float64's own errors, of the reference and of the product.
            bound = terms * largest * (2.0**-left + 2.0**-right + 2.0**-50) + np.abs(exact) * 2.0**-24
            assert np.all(np.abs(value - exact) <= bound)


def test_the_default_is_at_most_twice_as_far_from_the_truth_as_stock_on_gaussian_data() -> None:
    pairs = [
        (gaussian(terms, (64, terms)), gaussian(terms + 1, (terms, 64))) for terms in (16, 64, 256, 512, 1024, 2048)
    ]

    def products(pairs: Any) -> list[Array]:
        return [x @ y for x, y in pairs]

    for (x, y), ours, stock in zip(pairs, run(products, pairs), jax.jit(products)(pairs), strict=True):
        exact = x.astype(np.float64) @ y.astype(np.float64)
        error, stock_error = (
            np.linalg.norm(value - exact) / np.linalg.norm(exact) for value in (ours, np.asarray(stock))
        )
        print(f"K = {x.shape[1]}: {error:.2e}, stock {stock_error:.2e}, {error / stock_error:.2f} times")
        assert error <= 2 * stock_error


def sharded_products() -> dict[str, str]:
    """The hash of each product when an axis of an operand is spread over all devices."""
    mesh = Mesh(np.array(jax.devices()), ("devices",))
    x, y = numbers(10, (16, 1100), -20, 4), numbers(11, (1100, 8), -20, 4)
    found = {}
    for name, left, right in (("rows", 0, None), ("columns", None, 1), ("contraction", 1, 0)):
        specs = [PartitionSpec(*["devices" if axis == split else None for axis in (0, 1)]) for split in (left, right)]
        operands = [jax.device_put(z, NamedSharding(mesh, spec)) for z, spec in zip((x, y), specs, strict=True)]
        for digits in DIGITS:
            value = run(jnp.matmul, *operands, digits=digits)
            found[f"{name}, {digits} digits"] = hashlib.sha256(value.tobytes()).hexdigest()
    return found


def test_four_devices_have_the_bits_of_one() -> None:
    hashes = said_on_four_devices(__file__)
    assert hashes == sharded_products()
    assert len(set(hashes.values())) == len(DIGITS)


if __name__ == "__main__":
    print_from_all_devices(sharded_products())
