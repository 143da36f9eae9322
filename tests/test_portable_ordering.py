"""The laws: sorting is stable, by value, NaN last and the zeros equal; the k greatest are the end of that, the first of
equals first."""

import numpy as np
import pytest
from portable_rules import NAN_BITS, apply, bits, numbers, same_bits

from crh_train.portable import ordering
from crh_train.portable.ranks import rank, unrank

NAN, INFINITY = np.float32(np.nan), np.float32(np.inf)
ODD_NAN = np.uint32(0xFFC12345).view(np.float32)
HARD = np.array(
    [3, -0.0, NAN, 0.0, -INFINITY, ODD_NAN, INFINITY, 3, -1, 0.0, -0.0, -3, 2.0**-125, -(2.0**-125)], np.float32
)


def place(value: np.float32) -> tuple[bool, float]:
    """Where a float stands among others."""
    return bool(np.isnan(value)), 0.0 if np.isnan(value) else float(value)


def sort(*operands: np.ndarray, keys: int = 1, dimension: int = 0, stable: bool = True) -> list[np.ndarray]:
    found: list[np.ndarray] = apply(ordering.sort, *operands, dimension=dimension, is_stable=stable, num_keys=keys)
    return found


def test_ranks_are_in_the_order_of_the_numbers_and_return() -> None:
    def both(scope: object, x: object) -> tuple[object, object]:
        return rank(x), unrank(rank(x))

    words = np.random.default_rng(0).integers(0, 2**32, 5000, np.uint64).astype(np.uint32)
    x = np.concatenate([HARD, words.view(np.float32)])
    ranks, back = apply(both, x)
    order = sorted(range(len(x)), key=lambda i: place(x[i]))
    assert np.all(np.diff(ranks[order].astype(np.int64)) >= 0)
    assert len(np.unique(ranks)) == len({place(value) for value in x})
    assert same_bits(back, np.where(np.isnan(x), NAN, np.where(x == 0, np.float32(0), x)))
    negative, _ = apply(both, -x)
    assert np.array_equal(negative[~np.isnan(x)], -ranks[~np.isnan(x)])


@pytest.mark.parametrize("stable", [False, True])
def test_a_sort_is_stable_with_nan_last(stable: bool) -> None:
    x = np.tile(HARD, 40)
    positions = np.arange(len(x), dtype=np.int32)
    payload = numbers(1, x.shape)
    payload[3:6] = -0.0, ODD_NAN, 0.0
    found, moved, where = sort(x, payload, positions, stable=stable)
    order = sorted(positions, key=lambda i: place(x[i]))
    assert where.tolist() == order
    assert same_bits(moved, payload[order])
    expected = x[order]
    assert same_bits(found, np.where(np.isnan(expected), NAN, expected + np.float32(0)))


def test_permuting_what_is_sorted_changes_no_bit() -> None:
    x = np.concatenate([HARD, numbers(2, (500,))])
    order = np.random.default_rng(3).permutation(len(x))
    assert same_bits(sort(x)[0], sort(x[order])[0])


@pytest.mark.parametrize("dimension", [0, 1])
def test_a_sort_by_several_keys_is_lexicographic(dimension: int) -> None:
    generator = np.random.default_rng(4)
    first = generator.choice(HARD, (60, 2)).astype(np.float32)
    second, third = generator.integers(0, 3, (60, 2), np.int32), generator.random((60, 2)) < 0.5
    rest = np.arange(120, dtype=np.int32).reshape(60, 2)
    operands = [first, second, third, rest]
    if dimension == 1:
        operands = [np.ascontiguousarray(x.T) for x in operands]
    found = sort(*operands, keys=3, dimension=dimension)
    for column in range(2):
        lines = [np.take(x, column, 1 - dimension) for x in operands]
        order = sorted(range(60), key=lambda i: (*place(lines[0][i]), lines[1][i], lines[2][i]))
        for line, expected in zip([np.take(x, column, 1 - dimension) for x in found[1:]], lines[1:], strict=True):
            assert np.array_equal(line, expected[order])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("k", [0, 1, 5, 14])
def test_the_greatest_are_the_first_of_equals(k: int, axis: int) -> None:
    rows = np.stack([HARD, HARD[::-1], np.full(14, -INFINITY)])
    x = rows if axis == 1 else np.ascontiguousarray(rows.T)
    values, positions = apply(ordering.top_k, x, k=k, axis=axis, is_stable=False)
    assert positions.dtype == np.int32
    if axis == 0:
        values, positions = values.T, positions.T
    for row, value, where in zip(rows, values, positions, strict=True):
        order = sorted(range(14), key=lambda i: (not np.isnan(row[i]), -place(row[i])[1], i))[:k]
        assert where.tolist() == order
        assert same_bits(value, np.where(np.isnan(row[order]), NAN, row[order] + np.float32(0)))


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int8, np.uint16])
def test_the_greatest_integers(dtype: type) -> None:
    limits = np.iinfo(dtype)
    x = np.array([limits.min, 3, limits.max, 0, limits.max, limits.min], dtype)
    values, positions = apply(ordering.top_k, x, k=4, axis=0)
    assert values.dtype == dtype
    assert (values.tolist(), positions.tolist()) == ([limits.max, limits.max, 3, 0], [2, 4, 1, 3]) or limits.min == 0
    assert values.tolist() == sorted(x.tolist(), reverse=True)[:4]
    assert sort(x)[0].tolist() == sorted(x.tolist())


def test_nan_leaves_as_the_canonical_one() -> None:
    assert np.all(bits(sort(np.array([ODD_NAN, NAN, ODD_NAN]))[0]) == NAN_BITS)


def test_sorts_of_nothing_and_by_what_has_no_order() -> None:
    assert sort(np.zeros(0, np.float32))[0].shape == (0,)
    with pytest.raises(NotImplementedError, match="sort by complex64"):
        sort(np.ones(2, np.complex64))
    with pytest.raises(NotImplementedError, match="top_k by complex64"):
        apply(ordering.top_k, np.ones(2, np.complex64), k=1, axis=0)
