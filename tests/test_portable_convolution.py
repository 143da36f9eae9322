"""Laws of the portable convolutions: the documented value in integers, forward and in both gradients, for every window,
layout and grouping, whatever the devices.

`python tests/test_portable_convolution.py` prints, as JSON, the hashes of `sharded_convolutions` on all devices of this
process.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from jax.extend import core
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from portable_elsewhere import print_from_all_devices, said_on_four_devices
from portable_rules import NAN_BITS, bits, clean, numbers, same_bits
from test_portable_contraction import DIGITS, halves, integers, kept_bits, run

from crh_train.portable import portable


def correlation(left: np.ndarray, right: np.ndarray, window: Any) -> np.ndarray:
    """Integers [N, I, *padded] and [O, I, *taps] -> their sums of products [N, O, *output]."""
    output, strides, dilation = window
    sums = np.zeros((len(left), len(right), *output), object)
    for place in np.ndindex(*output):
        start = [at * stride for at, stride in zip(place, strides, strict=True)]
        taps = [
            slice(at, at + (n - 1) * by + 1, by) for at, n, by in zip(start, right.shape[2:], dilation, strict=True)
        ]
        seen = left[(slice(None), slice(None), *taps)].reshape(len(left), -1)
        sums[(slice(None), slice(None), *place)] = seen @ right.reshape(len(right), -1).T
    return sums


def spread(x: np.ndarray, padding: Sequence[tuple[int, int]], dilation: Sequence[int]) -> np.ndarray:
    """Zeros between and around the last axes; a negative padding takes away."""
    sizes = [max((n - 1) * step + 1, 0) for n, step in zip(x.shape[2:], dilation, strict=True)]
    dilated = np.zeros((*x.shape[:2], *sizes), object)
    dilated[(..., *[slice(None, None, step) for step in dilation])] = x
    padded = np.pad(dilated, ((0, 0), (0, 0), *[(max(low, 0), max(high, 0)) for low, high in padding]))
    ends = [(max(-low, 0), n - max(-high, 0)) for (low, high), n in zip(padding, padded.shape[2:], strict=True)]
    return np.frompyfunc(int, 1, 1)(padded[(..., *[slice(*end) for end in ends])])  # numpy pads with its own zeros


def group(left: np.ndarray, right: np.ndarray, params: dict[str, Any], digits: int) -> np.ndarray:
    """[N, I, *spatial] and [O, I, *taps] -> float32 [N, O, *output], by the definition."""
    kept = kept_bits(digits, math.prod(right.shape[1:]))
    rows, row_units = zip(*[integers(row, kept[0]) for row in left], strict=True)
    columns, column_units = zip(*[integers(column, kept[1]) for column in right], strict=True)
    padded = spread(np.stack(rows), params["padding"], params["lhs_dilation"])
    kernel = np.stack(columns)
    dilation, strides = params["rhs_dilation"], params["window_strides"]
    sizes = zip(padded.shape[2:], kernel.shape[2:], dilation, strides, strict=True)
    window = [max((n - (taps - 1) * by - 1) // stride + 1, 0) for n, taps, by, stride in sizes], strides, dilation
    if kept[0] < 30:
        sums = correlation(padded, kernel, window).astype(np.float64)
    else:
        (high, low), (other_high, other_low) = halves(padded), halves(kernel)
        middle = correlation(high, other_low, window) + correlation(low, other_high, window)
        upper = (correlation(high, other_high, window) * 2**30).astype(np.float64) + (middle * 2**15).astype(np.float64)
        sums = upper + correlation(low, other_low, window).astype(np.float64)
    units = np.add.outer(np.array(row_units), np.array(column_units))
    with np.errstate(over="ignore", under="ignore"):
        value = np.ldexp(sums, units.reshape(*units.shape, *[1] * (sums.ndim - 2))).astype(np.float32)
    return clean(value) + np.float32(0)


def convolution(lhs: np.ndarray, rhs: np.ndarray, digits: int, **params: Any) -> np.ndarray:
    """What `conv_general_dilated` with these parameters is by definition, of clean finite float32."""
    numbers_ = params["dimension_numbers"]
    left, right = np.transpose(clean(lhs), numbers_.lhs_spec), np.transpose(clean(rhs), numbers_.rhs_spec)
    features, batches = params["feature_group_count"], params["batch_group_count"]
    kernels = np.split(right, features * batches)
    lefts = [part for rows in np.split(left, batches) for part in np.split(rows, features, 1)]
    made = [group(part, kernel, params, digits) for part, kernel in zip(lefts, kernels, strict=True)]
    return np.transpose(np.concatenate(made, 1), np.argsort(numbers_.out_spec))


def by_definition(function: Callable[..., Any], *operands: Any, digits: int = 3) -> list[np.ndarray]:
    """A program of convolutions and of moves alone, each convolution by its definition."""
    closed = jax.make_jaxpr(function)(*operands)
    values: dict[Any, Any] = dict(zip(closed.jaxpr.invars, jax.tree.leaves(operands), strict=True))
    for equation in closed.jaxpr.eqns:
        given = [atom.val if isinstance(atom, core.Literal) else values[atom] for atom in equation.invars]
        if equation.primitive.name == "conv_general_dilated":
            made = convolution(*map(np.asarray, given), digits, **equation.params)
        else:
            assert equation.primitive.name in ("rev", "transpose", "reshape", "copy", "squeeze", "broadcast_in_dim")
            made = np.asarray(equation.primitive.bind(*given, **equation.params))
        values[equation.outvars[0]] = made
    return [values[atom] for atom in closed.jaxpr.outvars]


CASES: dict[str, tuple[Sequence[int], Sequence[int], dict[str, Any]]] = {
    # shapes of the input and the kernel, parameters
    "NCHW": ((2, 3, 5, 4), (4, 3, 3, 2), {"padding": "SAME", "layout": ("NCHW", "OIHW", "NCHW")}),
    "NHWC, strides": ((2, 7, 6, 3), (3, 3, 3, 4), {"window_strides": (2, 3), "padding": "SAME"}),
    "mixed layouts": ((5, 2, 4, 3), (4, 2, 2, 3), {"padding": "VALID", "layout": ("HNWC", "OHWI", "CWNH")}),
    "one axis": ((2, 9, 3), (4, 3, 5), {"padding": [(3, 1)], "layout": ("NWC", "WIO", "NWC")}),
    "three axes": ((2, 3, 4, 3, 2), (2, 2, 2, 2, 3), {"padding": "VALID", "layout": ("NDHWC", "DHWIO", "NDHWC")}),
    "dilated kernel": ((2, 9, 8, 2), (3, 2, 2, 3), {"rhs_dilation": (2, 3), "padding": [(2, 1), (0, 2)]}),
    "dilated input": ((2, 4, 3, 2), (3, 3, 2, 3), {"lhs_dilation": (2, 3), "padding": [(1, 2), (2, 1)]}),
    "everything at once": (
        (2, 6, 5, 2),
        (2, 3, 2, 3),
        {"lhs_dilation": (2, 1), "rhs_dilation": (1, 2), "window_strides": (3, 2), "padding": [(2, -1), (-1, 3)]},
    ),
    "negative padding": ((2, 7, 8, 2), (3, 2, 2, 3), {"padding": [(-1, -2), (-2, 0)]}),
    "feature groups": ((2, 5, 4, 6), (3, 2, 2, 6), {"feature_group_count": 3, "padding": "SAME"}),
    "depthwise, strided": (
        (2, 5, 5, 4),
        (3, 3, 1, 8),
        {"feature_group_count": 4, "window_strides": (2, 2), "padding": "SAME"},
    ),
    "batch groups": ((6, 4, 4, 2), (2, 2, 2, 6), {"batch_group_count": 3, "padding": "VALID"}),
    "kernel larger than the input": ((2, 3, 2, 2), (4, 5, 2, 3), {"padding": [(2, 2), (3, 2)]}),
    "1 by 1": ((2, 3, 3, 5), (1, 1, 5, 2), {"padding": "VALID"}),
    "many features": ((1, 3, 3, 90), (3, 3, 90, 2), {"padding": "SAME"}),
}


def of(name: str) -> Callable[[Array, Array], Array]:
    given = dict(CASES[name][2])
    layout = given.pop("layout", ("NHWC", "HWIO", "NHWC"))
    parameters = {"window_strides": (1,) * (len(CASES[name][0]) - 2), "dimension_numbers": layout} | given
    return lambda x, kernel: lax.conv_general_dilated(x, kernel, **parameters)


def operands(name: str, low: int = -12) -> tuple[np.ndarray, np.ndarray]:
    seed = 2 * list(CASES).index(name)
    return numbers(seed, CASES[name][0], low, 3), numbers(seed + 1, CASES[name][1], low, 3)


def check(programs: dict[str, Callable[..., Any]], given: dict[str, Any], digits: int = 3) -> None:
    """All in one compiled program."""
    found = run(lambda given: {name: programs[name](*given[name]) for name in programs}, given, digits=digits)
    for name, program in programs.items():
        expected = by_definition(program, *given[name], digits=digits)
        for value, exact in zip(jax.tree.leaves(found[name]), expected, strict=True):
            assert same_bits(value, exact), name


def test_a_convolution_is_its_definition_in_integers() -> None:
    check({name: of(name) for name in CASES}, {name: operands(name) for name in CASES})


@pytest.mark.parametrize("digits", [2, 4])
def test_other_digits(digits: int) -> None:
    names = ("NCHW", "everything at once", "feature groups", "kernel larger than the input")
    check({name: of(name) for name in names}, {name: operands(name) for name in names}, digits)


def gradients(name: str) -> Callable[[Array, Array, Array], Any]:
    return lambda x, kernel, cotangent: jax.vjp(of(name), x, kernel)[1](cotangent)


def test_both_gradients_are_their_definitions_in_integers() -> None:
    given = {}
    for name in CASES:
        x, kernel = operands(name)
        given[name] = (x, kernel, numbers(99, jax.eval_shape(of(name), x, kernel).shape, -12, 3))
    check({name: gradients(name) for name in CASES}, given)


def test_a_convolution_without_a_spatial_axis_is_a_product() -> None:
    x, kernel = numbers(6, (3, 4)), numbers(7, (4, 5))

    def convolve(x: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(x, kernel, (), [], dimension_numbers=("NC", "IO", "NC"))

    check({"no axis": convolve}, {"no axis": (x, kernel)})


def test_gradients_with_4_digits() -> None:
    x, kernel = operands("NHWC, strides", -40)
    cotangent = numbers(98, jax.eval_shape(of("NHWC, strides"), x, kernel).shape, -40, 3)
    check({"gradients": gradients("NHWC, strides")}, {"gradients": (x, kernel, cotangent)}, 4)


def test_every_scale_of_sample_and_of_feature() -> None:
    x, kernel = numbers(1, (7, 4, 2), -3, 1), numbers(2, (3, 2, 7), -3, 1)
    scales = np.float32([0, 2.0**-125, 2.0**-80, 1, 2.0**60, 2.0**120, 2.0**127])
    x, kernel = clean(x * scales[:, None, None]), clean(kernel * scales)
    x[3, 0, 0], kernel[0, 0, 3], x[6, 1, 1] = -0.0, 0.0, 3e38

    def convolve(x: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))

    check({"scales": convolve}, {"scales": (x, kernel)})


@pytest.mark.parametrize("bad", [np.inf, np.nan, np.uint32(0xFFC12345).view(np.float32)])
def test_what_is_not_finite_makes_nan_of_its_own_sample_and_feature(bad: float) -> None:
    x, kernel = operands("NHWC, strides")
    x[1, 0, 0, 2], kernel[2, 2, 1, 3] = bad, -bad
    found = run(of("NHWC, strides"), x, kernel)
    assert np.all(bits(found[1]) == NAN_BITS)
    assert np.all(bits(found[..., 3]) == NAN_BITS)
    expected = by_definition(of("NHWC, strides"), *operands("NHWC, strides"))[0]
    assert same_bits(found[0, ..., :3], expected[0, ..., :3])


def test_permuting_the_input_features_changes_no_bit() -> None:
    x, kernel = operands("many features", -30)
    order = np.random.default_rng(0).permutation(90)
    first, second = run(
        lambda a, b: [of("many features")(*a), of("many features")(*b)],
        (x, kernel),
        (x[..., order], kernel[:, :, order]),
    )
    assert np.any(first)
    assert same_bits(first, second)


def test_empty_and_too_small_inputs_and_integers() -> None:
    empty = np.zeros((0, 5, 5, 2), np.float32)
    kernel = np.ones((3, 3, 2, 4), np.float32)

    def program(empty: Array, kernel: Array, small: Array) -> list[Array]:
        valid = {"window_strides": (1, 1), "padding": "VALID", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        nothing = lax.conv_general_dilated(
            small[..., :0], kernel[:, :, :0], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        whole = lax.conv_general_dilated(small.astype(jnp.int8), kernel[:1].astype(jnp.int8), **valid)
        return [
            lax.conv_general_dilated(empty, kernel, **valid),
            lax.conv_general_dilated(small, kernel, **valid),
            nothing,
            whole,
        ]

    none, too_small, nothing, whole = run(program, empty, kernel, np.full((1, 2, 5, 2), 3, np.float32))
    assert (none.shape, too_small.shape) == ((0, 3, 3, 4), (1, 0, 3, 4))
    assert same_bits(nothing, np.zeros((1, 2, 5, 4), np.float32))
    assert np.array_equal(whole, np.full((1, 2, 3, 4), 18, np.int8))


def sharded_convolutions() -> dict[str, str]:
    """The hash of the value and both gradients of a convolution whose batch is spread over all devices."""
    mesh = Mesh(np.array(jax.devices()), ("devices",))
    x, kernel, cotangent = numbers(3, (8, 6, 6, 3)), numbers(4, (3, 3, 3, 4)), numbers(5, (8, 3, 3, 4))
    batch = NamedSharding(mesh, PartitionSpec("devices"))

    def program(x: Array, kernel: Array, cotangent: Array) -> Any:
        value, pull = jax.vjp(
            lambda x, kernel: lax.conv_general_dilated(
                x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            ),
            x,
            kernel,
        )
        return value, *pull(cotangent)

    found = {}
    for digits in DIGITS:
        made = jax.jit(portable(program, digits=digits))(
            jax.device_put(x, batch), kernel, jax.device_put(cotangent, batch)
        )
        for name, value in zip(("value", "of the input", "of the kernel"), made, strict=True):
            found[f"{name}, {digits} digits"] = hashlib.sha256(np.asarray(value).tobytes()).hexdigest()
    return found


def test_four_devices_have_the_bits_of_one() -> None:
    hashes = said_on_four_devices(__file__)
    assert hashes == sharded_convolutions()


if __name__ == "__main__":
    print_from_all_devices(sharded_convolutions())


@pytest.mark.parametrize("digits", [2, 3, 4])
@pytest.mark.parametrize(
    ("rows", "columns", "inputs", "features"), [(20, 24, 16, 16), (12, 16, 64, 24), (40, 33, 5, 7), (8, 8, 200, 3)]
)
def test_both_lowerings_give_the_same_bits(digits, rows, columns, inputs, features, monkeypatch):
    """The convolution that the CPU has and the products that other devices use; forwards and both gradients."""
    x, w, seed = (
        np.random.default_rng(number).standard_normal(shape, np.float32)
        for number, shape in enumerate(
            [(2, rows, columns, inputs), (3, 3, inputs, features), (2, rows, columns, features)]
        )
    )

    def passes(x, w, seed):
        result, pull = jax.vjp(
            lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")),
            x,
            w,
        )
        return result, *pull(seed)

    native = jax.jit(portable(passes, digits=digits))(x, w, seed)
    chosen = []
    monkeypatch.setattr(
        lax, "platform_dependent", lambda *operands, cpu, default: chosen.append(cpu) or default(*operands)
    )
    products = jax.jit(portable(passes, digits=digits))(x, w, seed)
    assert chosen
    for one, other in zip(native, products, strict=True):
        np.testing.assert_array_equal(np.asarray(one).view(np.uint32), np.asarray(other).view(np.uint32))
