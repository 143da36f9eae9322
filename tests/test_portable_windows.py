"""The laws: each window's result is that of its elements by themselves, whatever strides, dilations and padding; a
pooling's derivatives go to the first extreme of each window, and what meets there is added exactly."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import jax
import numpy as np
import pytest
from jax import lax
from portable_rules import NAN_BITS, apply, bits, exact_sum, exponent, numbers, same_bits

from crh_train.portable import windows

NAN, INFINITY = np.float32(np.nan), np.float32(np.inf)
ODD_NAN = np.uint32(0xFFC12345).view(np.float32)


def window(dimensions: Any, strides: Any, padding: Any, base: Any = None, dilation: Any = None) -> dict[str, Any]:
    ones = (1,) * len(dimensions)
    return {
        "window_dimensions": dimensions,
        "window_strides": strides,
        "padding": padding,
        "base_dilation": base or ones,
        "window_dilation": dilation or ones,
    }


WINDOWS = [
    window((1, 2, 2), (1, 2, 2), ((0, 0), (0, 0), (0, 0))),
    window((1, 3, 2), (1, 2, 1), ((0, 0), (1, 2), (0, 1))),
    window((2, 3, 1), (1, 1, 1), ((0, 1), (4, 0), (0, 0))),
    window((1, 2, 2), (1, 1, 3), ((0, 0), (1, 1), (2, 0)), (1, 2, 3), (1, 3, 2)),
    window((1, 1, 1), (2, 1, 3), ((0, 0), (2, 1), (-1, 0))),
    window((3, 8, 1), (1, 1, 1), ((0, 0), (0, 0), (0, 0))),
]


def selections(
    shape: tuple[int, ...], given: dict[str, Any]
) -> Iterator[tuple[tuple[int, ...], list[tuple[int, ...]]]]:
    """Each window's place, and the elements in it, in row-major order, by the definition."""
    axes = list(zip(shape, *given.values(), strict=True))
    sizes = []
    for size, width, stride, (low, high), base, dilation in axes:
        sizes.append(((size - 1) * base + 1 + low + high - (width - 1) * dilation - 1) // stride + 1)
    for place in np.ndindex(*sizes):
        choices = []
        for at, (size, width, stride, (low, _), base, dilation) in zip(place, axes, strict=True):
            wide = [at * stride + offset * dilation - low for offset in range(width)]
            choices.append([where // base for where in wide if where % base == 0 and 0 <= where // base < size])
        yield place, list(product(*choices))


def output(shape: tuple[int, ...], given: dict[str, Any]) -> np.ndarray:
    places = [place for place, _ in selections(shape, given)]
    return np.zeros(np.max(places, axis=0) + 1, np.float32)


def sample() -> np.ndarray:
    """Numbers with many equals and both zeros."""
    x = numbers(0, (3, 8, 6))
    return np.where(np.random.default_rng(1).random(x.shape) < 0.5, np.sign(x) * np.float32(-0.0), x).astype(np.float32)


@pytest.mark.parametrize("given", WINDOWS, ids=str)
def test_a_window_sum_is_its_definition_in_integers(given: dict[str, Any]) -> None:
    x = numbers(2, (3, 8, 6))
    alone = [axis for axis in range(3) if (*(given[name][axis] for name in list(given)[:4]),) == (1, 1, (0, 0), 1)]
    expected = output(x.shape, given)
    for place, elements in selections(x.shape, given):
        sharing = x[tuple(slice(place[axis], place[axis] + 1) if axis in alone else slice(None) for axis in range(3))]
        terms = int(np.prod(given["window_dimensions"]))
        expected[place] = exact_sum([x[element] for element in elements], exponent(sharing.ravel()), terms)
    assert same_bits(apply(windows.reduce_window_sum, x, **given), expected)


@pytest.mark.parametrize("given", WINDOWS, ids=str)
def test_a_window_extreme_is_that_of_its_elements(given: dict[str, Any]) -> None:
    x = sample()
    for rule, better, outside in (
        (windows.reduce_window_max, max, -INFINITY),
        (windows.reduce_window_min, min, INFINITY),
    ):
        expected = output(x.shape, given)
        for place, elements in selections(x.shape, given):
            expected[place] = better((x[element] for element in elements), default=outside) + np.float32(0)
        assert same_bits(apply(rule, x, **given), expected)


def test_nan_and_infinity_stay_in_their_windows() -> None:
    given = WINDOWS[0]
    x = numbers(3, (1, 4, 6))
    sums, greatest = apply(windows.reduce_window_sum, x, **given), apply(windows.reduce_window_max, x, **given)
    for bad, largest in ((ODD_NAN, NAN), (INFINITY, INFINITY), (-INFINITY, greatest[0, 1, 2])):
        y = x.copy()
        y[0, 2, 5] = bad
        if bad == -INFINITY:
            largest = np.sort(y[0, 2:, 4:].ravel())[-1]
        found = apply(windows.reduce_window_sum, y, **given)
        assert bits(found)[0, 1, 2] == NAN_BITS
        assert same_bits(np.delete(found.ravel(), 5), np.delete(sums.ravel(), 5))
        found = apply(windows.reduce_window_max, y, **given)
        assert same_bits(found[0, 1, 2], largest)
        assert same_bits(np.delete(found.ravel(), 5), np.delete(greatest.ravel(), 5))


def test_windows_of_integers_and_of_nothing() -> None:
    given = window((2,), (2,), ((0, 0),))
    x = np.array([1, 2, 2**31 - 1, 1], np.int32)
    assert apply(windows.reduce_window_sum, x, **given).tolist() == [3, -(2**31)]
    assert apply(windows.reduce_window_max, x, **given).tolist() == [2, 2**31 - 1]
    assert apply(windows.reduce_window_min, x, **given).tolist() == [1, 1]
    for empty in (np.zeros(0, np.float32), np.zeros(1, np.float32)):
        assert apply(windows.reduce_window_sum, empty, **given).shape == (0,)
        assert apply(windows.reduce_window_max, empty, **given).shape == (0,)


def test_a_window_sum_of_complex_numbers_is_that_of_its_parts() -> None:
    x = numbers(4, (2, 3, 8, 6))
    found = apply(windows.reduce_window_sum, x[0] + 1j * x[1], **WINDOWS[1])
    for part, numbers_of_it in ((found.real, x[0]), (found.imag, x[1])):
        assert same_bits(part, apply(windows.reduce_window_sum, numbers_of_it, **WINDOWS[1]))


def _reduce_window(computation: Any, x: np.ndarray, initial: np.float32, given: dict[str, Any]) -> np.ndarray:
    def program(x: jax.Array, initial: jax.Array) -> jax.Array:
        return lax.reduce_window(x, initial, computation, *given.values())

    (equation,) = jax.make_jaxpr(program)(x, initial).eqns
    assert equation.primitive.name == "reduce_window"
    (found,) = apply(windows.reduce_window, x, initial, **equation.params)
    return found


def test_a_window_reduction_by_one_known_operation_is_recognised() -> None:
    x, given = numbers(5, (3, 8, 6)), WINDOWS[1]
    assert same_bits(
        _reduce_window(lax.add, x, np.float32(3), given), apply(windows.reduce_window_sum, x, **given) + np.float32(3)
    )
    greatest, least = apply(windows.reduce_window_max, x, **given), apply(windows.reduce_window_min, x, **given)
    assert same_bits(_reduce_window(lax.max, x, np.float32(0.5), given), np.maximum(greatest, np.float32(0.5)))
    assert same_bits(_reduce_window(lax.min, x, np.float32(0.5), given), np.minimum(least, np.float32(0.5)))
    for computation in (lax.mul, lax.sub):
        with pytest.raises(NotImplementedError, match=computation.__name__):
            _reduce_window(computation, x, np.float32(1), given)


def first_extreme(x: np.ndarray, elements: list[tuple[int, ...]], sign: int) -> tuple[int, ...]:
    missing = [element for element in elements if np.isnan(x[element])]
    return missing[0] if missing else max(elements, key=lambda element: sign * x[element])


@pytest.mark.parametrize("select", [lax.ge_p, lax.le_p], ids=str)
@pytest.mark.parametrize("given", [given for given in WINDOWS if given["base_dilation"] == (1, 1, 1)][:4], ids=str)
def test_a_pooling_sends_its_gradient_to_the_first_extreme(given: dict[str, Any], select: Any) -> None:
    x = sample()
    x[1, 3, 2:5], x[1, 4, 2], x[2, 5, 5] = (INFINITY, ODD_NAN, -INFINITY), NAN, INFINITY
    source = numbers(6, output(x.shape, given).shape)
    arrived: dict[tuple[int, ...], list[np.float32]] = {element: [] for element in np.ndindex(*x.shape)}
    for place, elements in selections(x.shape, given):
        if elements:
            arrived[first_extreme(x, elements, 1 if select is lax.ge_p else -1)].append(source[place])
    overlap = int(
        np.prod([-(-w // s) for w, s in zip(given["window_dimensions"], given["window_strides"], strict=True)])
    )
    alone = [axis for axis in range(3) if (*(given[name][axis] for name in list(given)[:4]),) == (1, 1, (0, 0), 1)]
    expected = np.zeros(x.shape, np.float32)
    for element, terms in arrived.items():
        sharing = source[
            tuple(slice(element[axis], element[axis] + 1) if axis in alone else slice(None) for axis in range(3))
        ]
        expected[element] = exact_sum(terms, exponent(sharing.ravel()), overlap) if overlap > 1 else sum(terms)
    params = {name: given[name] for name in ("window_dimensions", "window_strides", "padding")}
    found = apply(windows.select_and_scatter_add, source, x, select_prim=select, **params)
    assert same_bits(found, expected)


@pytest.mark.parametrize("width", [2, 3])
def test_a_gradient_that_is_not_finite_stays_where_it_goes(width: int) -> None:
    x, source = numbers(7, (1, 9)), numbers(8, (1, 4))
    params = {
        "window_dimensions": (1, width),
        "window_strides": (1, 2),
        "padding": ((0, 0), (0, 0)),
        "select_prim": lax.ge_p,
    }
    before = apply(windows.select_and_scatter_add, source, x, **params)
    target = int(np.argmax(x[0, 4 : 4 + width])) + 4
    source[0, 2] = ODD_NAN
    after = apply(windows.select_and_scatter_add, source, x, **params)
    assert np.isnan(after[0, target])
    assert np.isnan(after).sum() == 1
    assert same_bits(np.delete(after, target), np.delete(before, target))


@pytest.mark.parametrize("select", [lax.ge_p, lax.le_p], ids=str)
@pytest.mark.parametrize("given", WINDOWS, ids=str)
def test_a_pooling_s_tangent_is_that_of_the_first_extreme(given: dict[str, Any], select: Any) -> None:
    x, tangents = sample(), numbers(9, (3, 8, 6))
    x[1, 3, 2:5] = INFINITY, ODD_NAN, -INFINITY
    expected = output(x.shape, given)
    for place, elements in selections(x.shape, given):
        if elements:
            expected[place] = tangents[first_extreme(x, elements, 1 if select is lax.ge_p else -1)]
    assert same_bits(apply(windows.select_and_gather_add, tangents, x, select_prim=select, **given), expected)
