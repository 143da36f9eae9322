"""Laws of products and kernel gradients of so many terms that float64 holds only parts of their sums: each way in which
the parts are added gives the documented value, in integers, and is the one that was meant.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
from jax import Array, lax
from jax.extend import core
from portable_rules import numbers, same_bits
from test_portable_contraction import as_matrices, product, run
from test_portable_convolution import by_definition

from crh_train.portable import portable

EXACT_TERMS = 2 ** (53 - 22 - 22)  # products of two numbers of 22 bits, whose sum float64 holds

PRODUCTS = {
    # shapes of both, ((contracted), (batch)) as in `lax.dot_general`, and how many products it becomes
    "written out, rows": ((3, 1500), (1500, 2), (((1,), (0,)), ((), ())), 3),
    "written out, transposed": ((1500, 3), (2, 1500), (((0,), (1,)), ((), ())), 3),
    "in one, rows": ((3, 2600), (2600, 2), (((1,), (0,)), ((), ())), 1),
    "in one, in order": ((2600, 3), (2600, 2), (((0,), (0,)), ((), ())), 1),
    "in one, right transposed": ((2600, 3), (2, 2600), (((0,), (1,)), ((), ())), 1),
    "in one, two axes": ((50, 53, 3), (50, 53, 2), (((0, 1), (0, 1)), ((), ())), 1),
    "in one, batched": ((2, 2600, 3), (2, 2600, 2), (((1,), (1,)), ((0,), (0,))), 1),
}

GRADIENTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], bool]] = {
    # shapes of the input and the kernel, parameters, and whether in a loop over lines
    "by lines": ((3, 40, 72, 2), (3, 3, 2, 2), {"padding": "SAME"}, True),
    "by lines, strides": ((3, 81, 121, 1), (3, 2, 1, 2), {"window_strides": (2, 3), "padding": "SAME"}, True),
    "by lines, dilated": ((2, 60, 80, 1), (2, 3, 1, 2), {"rhs_dilation": (3, 2), "padding": [(1, 4), (3, 0)]}, True),
    "by lines, three axes": ((2, 13, 14, 30, 1), (2, 3, 2, 1, 2), {"padding": "SAME"}, True),
    "by lines, groups": (
        (3, 40, 72, 4),
        (3, 3, 2, 4),
        {"padding": "SAME", "feature_group_count": 2},
        True,
    ),
    "in one, long lines": ((2, 8, 600, 1), (3, 3, 1, 2), {"padding": "SAME"}, False),
    "in one, few lines": ((3, 24, 36, 2), (3, 3, 2, 2), {"padding": "SAME"}, False),
}
LAYOUTS = {4: ("NHWC", "HWIO", "NHWC"), 5: ("NDHWC", "DHWIO", "NDHWC")}


def rising(seed: int, shape: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    """Numbers of one size, of one sign in one half of each of `axes` and of the other in the other: what adds so many
    of one sign that float64 rounds shows it in the little that is left in the end.
    """
    x = np.abs(numbers(seed, shape, 0, 1))
    for axis in axes:
        np.moveaxis(x, axis, 0)[shape[axis] // 2 :] *= -1
    return x


def equations(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """Of a program, and of the branches and the bodies in it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple) else (value,):
                if isinstance(inner, core.ClosedJaxpr):
                    yield from equations(inner.jaxpr)


def lowered(function: Callable[..., Any], *operands: np.ndarray) -> tuple[list[int], set[str]]:
    """How many terms each float64 product adds up, and the names of all primitives, of a portable function."""
    found = list(equations(jax.make_jaxpr(portable(function))(*operands).jaxpr))
    products = [equation for equation in found if equation.primitive.name == "dot_general"]
    terms = [
        math.prod(each.invars[0].aval.shape[axis] for axis in each.params["dimension_numbers"][0][0])
        for each in products
    ]
    return terms, {equation.primitive.name for equation in found}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_long_product_is_its_definition_in_integers(name: str) -> None:
    shape, other, dimensions, products = PRODUCTS[name]
    (contracted, other_contracted), (batch, other_batch) = dimensions
    left, right = rising(1, shape, contracted), rising(2, other, ())

    def program(left: Array, right: Array) -> Array:
        return lax.dot_general(left, right, dimensions)

    added, _ = lowered(program, left, right)
    assert len(added) == products
    assert max(added) <= EXACT_TERMS
    found = run(program, left, right)
    pairs = zip(as_matrices(left, contracted, batch), as_matrices(right, other_contracted, other_batch), strict=True)
    exact = np.stack([product(*pair, 3) for pair in pairs])
    assert same_bits(found, exact.reshape(found.shape))


def kernel_gradient(name: str) -> Callable[[Array, Array], Any]:
    shape, kernel, given, _ = GRADIENTS[name]
    parameters = {"window_strides": (1,) * (len(shape) - 2), "dimension_numbers": LAYOUTS[len(shape)]} | given

    def gradient(x: Array, cotangent: Array) -> Any:
        pull = jax.linear_transpose(
            lambda kernel: lax.conv_general_dilated(x, kernel, **parameters), jax.ShapeDtypeStruct(kernel, np.float32)
        )
        return pull(cotangent)

    return gradient


@pytest.mark.parametrize("digits", [3, 4])
@pytest.mark.parametrize("name", GRADIENTS)
def test_a_kernel_gradient_over_many_positions_is_its_definition_in_integers(name: str, digits: int) -> None:
    shape, kernel, given, by_lines = GRADIENTS[name]
    parameters = {"window_strides": (1,) * (len(shape) - 2), "dimension_numbers": LAYOUTS[len(shape)]} | given
    result = jax.eval_shape(
        lambda x, w: lax.conv_general_dilated(x, w, **parameters), *(np.zeros(s, np.float32) for s in (shape, kernel))
    )
    if digits == 3:
        x, cotangent = rising(3, shape, ()), rising(4, result.shape, (0, 1))
    else:
        x, cotangent = numbers(3, shape, -12, 3), numbers(4, result.shape, -12, 3)
    added, names = lowered(kernel_gradient(name), x, cotangent)
    assert max(added) <= EXACT_TERMS
    assert bool(names & {"while", "scan"}) == by_lines
    found = run(kernel_gradient(name), x, cotangent, digits=digits)
    for value, exact in zip(found, by_definition(kernel_gradient(name), x, cotangent, digits=digits), strict=True):
        assert same_bits(value, exact)


def test_permuting_positions_changes_no_bit_and_one_that_is_not_finite_reaches_its_channel_alone() -> None:
    x, cotangent = numbers(5, (3, 40, 72, 2), -12, 3), numbers(6, (3, 40, 72, 2), -12, 3)
    order = np.array([2, 0, 1])
    gradient = jax.jit(portable(kernel_gradient("by lines")))
    first = np.asarray(gradient(x, cotangent)[0])
    assert same_bits(first, np.asarray(gradient(x[order], cotangent[order])[0]))
    x[1, 20, 30, 1] = np.inf
    found = np.asarray(gradient(x, cotangent)[0])
    assert same_bits(found[:, :, 0], first[:, :, 0])
    assert np.isnan(found[:, :, 1]).all()
