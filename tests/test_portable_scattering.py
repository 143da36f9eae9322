"""The laws: updates of one element may come in any order; sums of them are exact; of overwriting ones the last stays;
an element that no update names keeps its bits."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax
from portable_rules import NAN_BITS, apply, bits, clean, exponent, numbers, same_bits

from crh_train.portable import scattering

NAN, INFINITY = np.float32(np.nan), np.float32(np.inf)
ODD_NAN = np.uint32(0xFFC12345).view(np.float32)
ROWS, PLACES = 7, 40
DROP, CLIP = lax.GatherScatterMode.FILL_OR_DROP, lax.GatherScatterMode.CLIP


def params(mode: Any = DROP, **others: Any) -> dict[str, Any]:
    """Of scatters of rows into a matrix."""
    return {
        "update_jaxpr": None,
        "update_consts": (),
        "dimension_numbers": lax.ScatterDimensionNumbers((1,), (0,), (0,)),
        "indices_are_sorted": False,
        "unique_indices": False,
        "mode": mode,
    } | others


def given(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A matrix, of whose rows 0 and 6 are not named, though some indices lie outside; and updates."""
    indices = np.random.default_rng(seed).integers(1, ROWS - 1, (PLACES, 1)).astype(np.int32)
    indices[::9] = (-3,), (ROWS,), (2**31 - 1,), (-(2**31),), (ROWS + 5,)
    operand = numbers(seed + 1, (ROWS, 3))
    operand[0] = -0.0, 0.0, NAN
    return operand, indices, numbers(seed + 2, (PLACES, 3))


def added(operand: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
    """The definition in integers."""
    kept = 52 - (len(updates) - 1).bit_length()
    unit = 2.0 ** (exponent(updates[np.isfinite(updates)]) - kept)
    expected = operand.copy()
    for row, column in np.ndindex(*operand.shape):
        total = sum(round(float(value) / unit) for value in updates[indices[:, 0] == row, column])
        if total:
            expected[row, column] = clean(np.float32(float(operand[row, column]) + total * unit))
    return expected


@pytest.mark.parametrize("seed", range(3))
def test_a_scattered_sum_is_its_definition_in_integers(seed: int) -> None:
    operand, indices, updates = given(seed)
    found = apply(scattering.scatter_add, operand, indices, updates, **params())
    assert same_bits(found, added(operand, indices, updates))
    assert same_bits(found[[0, 6]], operand[[0, 6]])
    found = apply(scattering.scatter_sub, operand, indices, updates, **params())
    assert same_bits(found, added(operand, indices, -updates))


def test_clipped_indices_name_the_first_and_the_last() -> None:
    operand, indices, updates = given(5)
    inside = np.clip(indices, 0, ROWS - 1)
    for rule in (scattering.scatter_add, scattering.scatter, scattering.scatter_max):
        clipped = apply(rule, operand, indices, updates, **params(CLIP))
        assert same_bits(clipped, apply(rule, operand, inside, updates, **params()))


@pytest.mark.parametrize(
    "rule", [scattering.scatter_add, scattering.scatter_sub, scattering.scatter_max, scattering.scatter_min]
)
def test_the_order_of_updates_changes_no_bit(rule: Any) -> None:
    operand, indices, updates = given(6)
    updates[3, 0], updates[4, 1], operand[5, 2] = ODD_NAN, INFINITY, -INFINITY
    order = np.random.default_rng(7).permutation(PLACES)
    in_order = apply(rule, operand, indices, updates, **params())
    shuffled = apply(
        rule, operand, indices[order], updates[order], **params(unique_indices=True, indices_are_sorted=True)
    )
    assert same_bits(in_order, shuffled)


def test_updates_that_are_not_finite_make_nan_of_what_they_name_alone() -> None:
    operand, indices, updates = given(8)
    indices[2:5] = 3
    updates[2:5] = 0
    expected = apply(scattering.scatter_add, operand, indices, updates, **params()).copy()
    updates[2:5, 1], updates[3, 2] = (INFINITY, -INFINITY, ODD_NAN), INFINITY
    found = apply(scattering.scatter_add, operand, indices, updates, **params())
    assert np.all(bits(found)[3, 1:] == NAN_BITS)
    expected[3, 1:] = NAN
    assert same_bits(found, expected)


def test_huge_and_tiny_sums() -> None:
    operand = np.array([[3e38, 2.0**-125, 1]], np.float32)
    indices = np.zeros((2, 1), np.int32)
    updates = np.array([[3e38, 0, 0], [0, 0, 0]], np.float32)
    found = apply(scattering.scatter_add, operand, indices, updates, **params())
    assert same_bits(found, np.array([[INFINITY, 2.0**-125, 1]], np.float32))
    updates = np.array([[0, -1.5 * 2.0**-125, 0], [0, 0, 0]], np.float32)
    found = apply(scattering.scatter_add, operand, indices, updates, **params())
    assert same_bits(found, np.array([[3e38, 0, 1]], np.float32))


def test_extremes_are_those_of_all_updates() -> None:
    operand, indices, updates = given(9)
    updates[indices[:, 0] == 2] = -0.0
    operand[2], operand[4, 0] = 0.0, ODD_NAN
    for rule, better in ((scattering.scatter_max, max), (scattering.scatter_min, min)):
        expected = operand.copy()
        for (row,), update in zip(indices, updates, strict=True):
            if 0 <= row < ROWS:
                expected[row] = [
                    better(pair) if pair[0] == pair[0] else NAN for pair in zip(expected[row], update, strict=True)
                ]
        found = apply(rule, operand, indices, updates, **params())
        assert np.array_equal(found, expected, equal_nan=True)
        assert same_bits(found[[0, 2]], operand[[0, 2]])
    updates[indices[:, 0] == 5] = ODD_NAN
    assert np.all(bits(apply(scattering.scatter_max, operand, indices, updates, **params()))[5] == NAN_BITS)
    assert np.all(bits(apply(scattering.scatter_min, operand, indices, updates, **params()))[5] == NAN_BITS)


DTYPES = (np.float32, np.int32, np.uint32, np.int8, np.uint16, np.bool_, np.complex64, ml_dtypes.bfloat16, np.float16)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_of_overwriting_updates_the_last_stays(dtype: Any) -> None:
    operand, indices, updates = given(10)
    operand[0] = -0.0, 0.0, 1
    updates[1:4] = -0.0, 0.0, 1
    operand, updates = (np.asarray(x * 8).astype(dtype) for x in (operand, updates))
    if dtype == np.complex64:
        updates = updates + 1j * updates[::-1]
    expected = operand.copy()
    for (row,), update in zip(indices, updates, strict=True):
        if 0 <= row < ROWS:
            expected[row] = update
    found = apply(scattering.scatter, operand, indices, updates, **params())
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


def test_overwriting_keeps_the_bits_of_nan_and_of_denormals() -> None:
    operand, indices, updates = given(11)
    updates[:] = ODD_NAN
    found = apply(scattering.scatter, operand, indices, updates, **params())
    assert np.all(bits(found)[1:6] == bits(ODD_NAN))
    operand[:] = np.float32(2.0**-149)
    assert same_bits(apply(scattering.scatter, operand, indices, updates, **params())[[0, 6]], operand[[0, 6]])
    found = apply(scattering.scatter, operand, indices[1:2], updates[1:2], **params())
    assert same_bits(found[indices[1, 0]], updates[1])


def test_updates_along_a_batch_and_of_blocks() -> None:
    """With batching dimensions, windows, and several axes of indices: as `jax.numpy` on elements that are exact."""
    x = np.random.default_rng(12).integers(-99, 99, (4, 5, 6)).astype(np.float32)
    index = np.random.default_rng(13).integers(0, 5, (4, 2, 3)).astype(np.int32)
    update = np.random.default_rng(14).integers(-99, 99, (4, 2, 3, 6)).astype(np.float32)

    for rule, put in (
        (scattering.scatter_add, lambda a, i, u: a.at[i].add(u)),
        (scattering.scatter, lambda a, i, u: a.at[i].set(u)),
        (scattering.scatter_min, lambda a, i, u: a.at[i].min(u)),
    ):
        closed = jax.make_jaxpr(lambda x, i, u, put=put: jax.vmap(put)(x, i, u))(x, index, update)
        (equation,) = [equation for equation in closed.eqns if equation.primitive.name.startswith("scatter")]
        dimensions = equation.params["dimension_numbers"]
        assert dimensions.operand_batching_dims == (0,)
        expected = x.copy()
        for batch, one, two in np.ndindex(4, 2, 3):
            target, value = expected[batch, index[batch, one, two]], update[batch, one, two]
            target[:] = {"scatter-add": target + value, "scatter": value, "scatter-min": np.minimum(target, value)}[
                equation.primitive.name
            ]
        indices = index[..., None]
        (shape,) = [atom.aval.shape for atom in equation.invars[1:2]]
        found = apply(rule, x, indices.reshape(shape), update, **equation.params)
        assert same_bits(found, expected)


def test_integers_are_added_and_multiplied_as_they_are() -> None:
    operand, indices = np.arange(6, dtype=np.int32).reshape(2, 3), np.zeros((2, 1), np.int32)
    updates = np.array([[2, 2, 2], [3, 3, 2**31 - 1]], np.int32)
    assert apply(scattering.scatter_add, operand, indices, updates, **params())[0].tolist() == [5, 6, 3 - 2**31]
    assert apply(scattering.scatter_mul, operand, indices[:, :], updates[:, :], **params())[0, :2].tolist() == [0, 6]
    assert apply(scattering.scatter_min, operand, indices, -updates, **params())[0].tolist() == [-3, -3, 1 - 2**31]
    complex_found = apply(
        scattering.scatter_add, operand.astype(np.complex64), indices, updates[:, :] * np.complex64(1j), **params()
    )
    assert complex_found[0, :2].tolist() == [5j, 1 + 5j]


def test_products_need_indices_that_do_not_repeat() -> None:
    operand, _, updates = given(15)
    operand[0] = 1, -0.0, 3
    indices = np.array([[3], [1], [5], [9]], np.int32)
    found = apply(scattering.scatter_mul, operand, indices, updates[:4], **params(unique_indices=True))
    expected = operand.copy() + np.float32(0)
    expected[[3, 1, 5]] = clean(operand[[3, 1, 5]] * updates[:3])
    assert same_bits(found, expected)
    found = apply(scattering.scatter_mul, operand, indices[:1], updates[:1], **params())
    assert same_bits(found[3], expected[3])
    each = lax.ScatterDimensionNumbers((), (1,), (1,), (0,), (0,))
    columns = np.array([[2], [0], [0], [1]], np.int32)
    found = apply(scattering.scatter_mul, operand[1:5], columns, updates[:4, 0], **params(dimension_numbers=each))
    expected = operand[1:5].copy()
    expected[range(4), columns[:, 0]] *= updates[:4, 0]
    assert same_bits(found, clean(expected))
    with pytest.raises(NotImplementedError, match="unique_indices=True"):
        apply(scattering.scatter_mul, operand, indices, updates[:4], **params())


def test_what_has_no_order_or_no_words_is_refused() -> None:
    operand, indices, updates = given(16)
    for rule in (scattering.scatter_max, scattering.scatter_min):
        with pytest.raises(NotImplementedError, match="complex64"):
            apply(rule, operand.astype(np.complex64), indices, updates.astype(np.complex64), **params())
    with pytest.raises(NotImplementedError, match=r"x\.at\[indices\]\.set"):
        apply(scattering.scatter, operand, indices, updates, **params(update_jaxpr=jax.make_jaxpr(jnp.sin)(1.0).jaxpr))
    keys = jax.random.split(jax.random.key(0), 3)
    words = params(dimension_numbers=lax.ScatterDimensionNumbers((), (0,), (0,)))
    with pytest.raises(NotImplementedError, match="at most 32 bits"):
        jax.eval_shape(lambda keys: scattering.scatter(None, keys, indices[:2], keys[:2], **words), keys)


def test_no_updates_change_nothing() -> None:
    operand, indices, updates = given(17)
    for rule in (scattering.scatter_add, scattering.scatter, scattering.scatter_max):
        assert same_bits(apply(rule, operand, indices[:0], updates[:0], **params()), operand)
