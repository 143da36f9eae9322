"""How the sums of a convolution are computed: each way gives every bit of the exact sums.

======================================  ==============================================================================
a kernel over an image, on the CPU      XLA's float64 convolution of the integers, of so many input features at a time
                                        that no sum rounds
elsewhere, and over three axes          one float64 product, of whose operands the last spatial axis is laid out in
                                        columns, and shifted sums for the other axes: a GPU's library may choose a
                                        convolution (by FFT, Winograd's) that is no sum of the products
a kernel as large as an image (the      the same with the two windows exchanged; where that is many blocks of exact
gradient with respect to a kernel)      sums, in a loop over the image's lines, whose operands stay in the caches
======================================  ==============================================================================

Operands and results: G groups, N the left operand's batch, I what is contracted, O the features.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.contraction import (
    added,
    block_product,
    block_terms,
    halves_of_sums,
    join_of_sums,
)
from crh_train.portable.fixed_point import Integers

FEW_BLOCKS = 16  # of a sum over all positions, for which a loop over lines is not worth while
NAIVE_FEATURES = 16  # XLA's CPU has a slow path of its own for kernels of at most so many by so many features


class Window(NamedTuple):
    """How a kernel meets its input."""

    output: tuple[int, ...]  # spatial shapes
    taps: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]  # of the kernel
    padding: tuple[tuple[int, int, int], ...]  # of the input: before, after, between

    @property
    def by_position(self) -> bool:
        """Whether the kernel is the larger: then it is one image that meets another, as in a gradient."""
        return math.prod(self.output) < math.prod(self.taps)


def forward_sums(left: Integers, right: Integers, product_bits: int, *, window: Window) -> Array:
    """[G, N, *spatial, I] and [G, *taps, I, O] of so many bits a product -> [G, N, *output, O], rounded once."""
    together = block_terms(product_bits) // math.prod(window.taps)  # input features whose sums are exact

    def native(left: Array, right: Array) -> Array:
        return _native_forward(left, right, product_bits, window=window, together=together)

    def products(left: Array, right: Array) -> Array:
        return _forward(_padded(left, window.padding), right, product_bits, window=window)

    if not together or left.array.ndim > 5:  # XLA's CPU has no fast convolution over three axes
        return products(left.all(), right.all())
    chosen: Array = lax.platform_dependent(left.all(), right.all(), cpu=native, default=products)
    return chosen


def gradient_sums(left: Integers, right: Integers, product_bits: int, *, window: Window) -> Array:
    """[G, I, *spatial, N] and [G, I, *taps, O] -> [G, N, *output, O], for fewer outputs than taps."""
    left = left.moved(functools.partial(_padded, padding=window.padding))
    width, lines = window.taps[-1], math.prod(left.array.shape[2:-2])
    blocks = -(-left.array.shape[1] * lines * width // block_terms(product_bits))
    if blocks <= FEW_BLOCKS or len(window.taps) == 1 or width > block_terms(product_bits):
        return _gradient(left, right, product_bits, window=window)
    return _gradient_by_lines(left, right, product_bits, window=window)


def _native_forward(left: Array, right: Array, product_bits: int, *, window: Window, together: int) -> Array:
    rank, inputs = len(window.output), left.shape[-1]
    space = tuple(range(1, 1 + rank))
    numbers = lax.ConvDimensionNumbers((0, rank + 1, *space), (rank + 1, rank, *range(rank)), (0, rank + 1, *space))
    size = -(-inputs // -(-inputs // together))  # parts of about one size
    sums = []
    for first in range(0, inputs, size):
        last = min(first + size, inputs)
        some = lax.slice_in_dim(left, first, last, axis=rank + 2), lax.slice_in_dim(right, first, last, axis=rank + 1)
        sums.append(_native(*some, window, numbers))
    return added(sums, size * math.prod(window.taps), product_bits)


def _native(left: Array, right: Array, window: Window, numbers: lax.ConvDimensionNumbers) -> Array:
    """XLA's convolution of each group, of features enough for its fast path; `numbers` are those of one group."""
    inputs, features = (right.shape[1 + axis] for axis in (numbers.rhs_spec[1], numbers.rhs_spec[0]))
    missing = max(0, NAIVE_FEATURES + 1 - features) if inputs <= NAIVE_FEATURES else 0
    edges = [(0, missing if axis == 1 + numbers.rhs_spec[0] else 0, 0) for axis in range(right.ndim)]
    # Edges are left to XLA, whose convolution of what is padded already is four times slower.
    spread = _padded(left, [(0, 0, between) for *_, between in window.padding])
    widened = lax.pad(right, jnp.zeros((), right.dtype), edges)
    groups = []
    for group in range(left.shape[0]):
        result = lax.conv_general_dilated(
            lax.squeeze(lax.slice_in_dim(spread, group, group + 1), (0,)),
            lax.squeeze(lax.slice_in_dim(widened, group, group + 1), (0,)),
            window.strides,
            [(before, after) for before, after, _ in window.padding],
            rhs_dilation=window.dilation,
            dimension_numbers=numbers,
        )
        groups.append(lax.expand_dims(lax.slice_in_dim(result, 0, features, axis=numbers.out_spec[1]), (0,)))
    return lax.concatenate(groups, 0)


def _forward(left: Array, right: Array, product_bits: int, *, window: Window) -> Array:
    """One product for all taps: the columns that a tap sees lie side by side in the rows of the left matrix, and what
    the kernel's rows make of it lies side by side in the result, whose shifted slices are then added.
    """
    groups, batch, *padded, inputs = left.shape
    features, (*leading, across) = right.shape[-1], window.taps
    if across * inputs > block_terms(product_bits):
        return _tap_by_tap(left, right, product_bits, window=window)
    columns = _columns(left, across, window.output[-1], window.dilation[-1], window.strides[-1])
    rank = len(leading)
    kernel = lax.transpose(right, (0, rank + 1, rank + 2, *range(1, rank + 1), rank + 3))
    kernel = lax.reshape(kernel, (groups, across * inputs, math.prod(leading) * features))
    rows = (groups, batch * math.prod(padded[:-1]) * window.output[-1], across * inputs)
    made = lax.dot_general(lax.reshape(columns, rows), kernel, (((2,), (1,)), ((0,), (0,))))
    made = lax.reshape(made, (groups, batch, *padded[:-1], window.output[-1], math.prod(leading), features))
    terms = []
    for number, tap in enumerate(np.ndindex(*leading)):
        start = [at * step for at, step in zip(tap, window.dilation, strict=False)]
        rows_of_tap = lax.index_in_dim(made, number, made.ndim - 2, keepdims=False)
        seen = _strided(rows_of_tap, [*start, 0], window.output, [*window.strides[:-1], 1])
        terms.append(seen)
    return added(terms, across * inputs, product_bits)


def _gradient(left: Integers, right: Integers, product_bits: int, *, window: Window) -> Array:
    """As `_forward` with the two windows exchanged: shifted rows of the right matrix are padded to lie side by side."""
    groups, inputs, *padded, batch = left.array.shape
    terms = inputs * math.prod(padded[:-1]) * window.taps[-1]
    seen = _windows(left.array, window.output[-1], window.taps[-1], window.strides[-1], window.dilation[-1])
    shifted = []
    for position in np.ndindex(*window.output[:-1]):
        starts = [at * stride for at, stride in zip(position, window.strides, strict=False)]
        shifted.append(_placed(right.array, starts, padded[:-1], window.dilation))
    lhs, rhs = (lax.reshape(x, (groups, terms, x.shape[-1])) for x in (_beside(left, seen), _beside(right, shifted)))
    return _features_last(block_product(lhs, rhs, product_bits, (1, 1)), batch, window)


def _gradient_by_lines(left: Integers, right: Integers, product_bits: int, *, window: Window) -> Array:
    """As `_gradient`, by so many lines at a time that their sum is exact; with one sum an input, which may be spread
    over devices.
    """
    groups, inputs, *padded, _ = left.array.shape
    leading, width = padded[:-1], window.taps[-1]
    lines = math.prod(leading)
    together = block_terms(product_bits) // width
    steps = -(-lines // together)
    together = -(-lines // steps)
    sizes = [math.prod(leading[axis + 1 :]) for axis in range(len(leading))]  # lines of one step along each axis
    shifts = [
        int(np.dot(position, np.multiply(window.strides[:-1], sizes))) for position in np.ndindex(window.output[:-1])
    ]
    furthest, filled = max(shifts), steps * together - lines

    def in_lines(x: Array, before: int) -> Array:
        joined = lax.reshape(x, (groups * inputs, lines, *x.shape[-2:]))
        return lax.pad(joined, jnp.zeros((), x.dtype), ((0, 0, 0), (before, filled, 0), (0, 0, 0), (0, 0, 0)))

    def some(x: Array, start: Array) -> Array:
        ones = [1] * (len(leading) - 1)  # as many axes as before, because scales have them
        return lax.reshape(
            lax.dynamic_slice_in_dim(x, start, together, 1), (groups, inputs, *ones, together, *x.shape[-2:])
        )

    origin = [0] * len(leading)
    lefts = in_lines(left.array, 0)
    rights = in_lines(_placed(right.array, origin, leading, window.dilation), furthest)

    def step(number: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        start = number * np.int32(together)
        seen = _windows(some(lefts, start), window.output[-1], width, window.strides[-1], window.dilation[-1])
        shifted = [some(rights, start + np.int32(furthest - shift)) for shift in shifts]
        beside = _beside(left, seen), _beside(right, shifted)
        lhs, rhs = (lax.reshape(x, (groups * inputs, together * width, x.shape[-1])) for x in beside)
        made = lax.dot_general(lhs, rhs, (((1,), (1,)), ((0,), (0,))))
        high, low = halves_of_sums(made)
        return lax.add(sums[0], high), lax.add(sums[1], low)

    shape = (groups * inputs, window.output[-1] * left.array.shape[-1], len(shifts) * right.array.shape[-1])
    zeros = lax.full(shape, 0, jnp.float64)
    high, low = lax.fori_loop(np.int32(0), np.int32(steps), step, (zeros, zeros))
    summed = [lax.reduce_sum(lax.reshape(part, (groups, inputs, *shape[1:])), (1,)) for part in (high, low)]
    return _features_last(join_of_sums(*summed), left.array.shape[-1], window)


def _features_last(made: Array, batch: int, window: Window) -> Array:
    """[G, across · N, leading · O] -> [G, N, *output, O]."""
    *leading, across = window.output
    parts = lax.reshape(made, (made.shape[0], across, batch, *leading, made.shape[2] // math.prod(leading)))
    return lax.transpose(parts, (0, 2, *range(3, parts.ndim - 1), 1, parts.ndim - 1))


def _placed(x: Array, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]) -> Array:
    """[G, I, *spatial, O] with all but the last spatial axis in zeros of so many `sizes`, from `starts`, spread."""
    edges = [
        (start, size - start - (count - 1) * step - 1, step - 1)
        for start, size, count, step in zip(starts, sizes, x.shape[2:], steps, strict=False)
    ]
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (0, 0, 0), *edges, (0, 0, 0), (0, 0, 0)))


def _beside(integers: Integers, parts: Sequence[Array]) -> Array:
    """The integers of the parts, side by side in the last axis."""
    # XLA's CPU makes them where they belong, if they are made of each part by itself and an axis keeps the parts apart;
    # else it makes them elsewhere, and moves them slowly.
    *outer, last = parts[0].shape
    apart = [lax.reshape(integers.of(part), (*outer, 1, last)) for part in parts]
    return lax.reshape(lax.concatenate(apart, len(outer)), (*outer, len(parts) * last))


def _columns(x: Array, count: int, width: int, step: int, stride: int) -> Array:
    """[.., W, C] -> [.., width, count · C]: `_windows` side by side."""
    return lax.concatenate(_windows(x, count, width, step, stride), x.ndim - 1)


def _windows(x: Array, count: int, width: int, step: int, stride: int) -> list[Array]:
    """[.., W, C] -> `count` times [.., width, C]: windows of the last spatial axis, `step` apart."""
    axis = x.ndim - 2
    return [lax.slice_in_dim(x, at * step, at * step + (width - 1) * stride + 1, stride, axis) for at in range(count)]


def _tap_by_tap(left: Array, right: Array, product_bits: int, *, window: Window) -> Array:
    """As `_forward`, for so many input features that a row of taps has too many terms."""
    groups, inputs = left.shape[0], left.shape[-1]
    rows = left.shape[1] * math.prod(window.output)
    block = block_terms(product_bits)
    spans = [slice(first, min(first + block, inputs)) for first in range(0, inputs, block)]
    products = []
    for tap in np.ndindex(window.taps):
        start = [at * step for at, step in zip(tap, window.dilation, strict=True)]
        seen = lax.reshape(_strided(left, start, window.output, window.strides), (groups, rows, inputs))
        products += [
            lax.dot_general(seen[..., span], right[:, *tap, span], (((2,), (1,)), ((0,), (0,)))) for span in spans
        ]
    total = added(products, min(block, inputs), product_bits)
    return lax.reshape(total, (groups, left.shape[1], *window.output, right.shape[-1]))


def _padded(x: Array, padding: Sequence[tuple[int, int, int]]) -> Array:
    """The spatial axes, all between the first two and the last, with zeros before, after and between."""
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (0, 0, 0), *padding, (0, 0, 0)))


def _strided(x: Array, start: Sequence[int], count: Sequence[int], step: Sequence[int]) -> Array:
    """`count` elements of each spatial axis, `step` apart."""
    stop = [at + (n - 1) * by + 1 for at, n, by in zip(start, count, step, strict=True)]
    return lax.slice(x, (0, 0, *start, 0), (*x.shape[:2], *stop, x.shape[-1]), (1, 1, *step, 1))
