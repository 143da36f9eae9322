"""How the sums of a convolution are computed: two ways, of which each gives every bit of the exact sums.

On the CPU XLA's float64 convolution of the integers, of so many terms at a time that none rounds. Elsewhere, and where
that cannot be, one float64 product, of whose operands the last spatial axis is laid out in columns, and shifted sums
for the other axes: a GPU's library may choose a convolution (by FFT, Winograd's) that is no sum of the products.

Operands and results are float64 integers: G groups, N the left operand's batch, I what is contracted, O the features.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.contraction import added, block_product, block_terms, halves, join

PIECE_BITS = 11  # of the lower of two pieces of an operand
NAIVE_FEATURES = 16  # XLA's CPU has a slow path of its own for kernels of at most so many by so many features
FAST_FEATURES = 32  # of a kernel as large as an image; beyond, it leaves the caches


class Window(NamedTuple):
    """How a kernel meets its input."""

    output: tuple[int, ...]  # spatial shapes
    taps: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]  # of the kernel
    padding: tuple[tuple[int, int, int], ...]  # of the input: before, after, between


def forward_sums(left: Array, right: Array, product_bits: int, *, window: Window) -> Array:
    """[G, N, *spatial, I] and [G, *taps, I, O] of so many bits a product -> [G, N, O, *output], rounded once."""
    taps = math.prod(window.taps)
    together = block_terms(product_bits) // taps  # input features whose sums are exact

    def native(left: Array, right: Array) -> Array:
        return _native_forward(left, right, product_bits, window=window, together=together)

    def products(left: Array, right: Array) -> Array:
        return _forward(_padded(left, window.padding), right, product_bits, window=window)

    return _by_platform(left, right, native if together else None, products)


def gradient_sums(left: Array, right: Array, product_bits: int, *, window: Window) -> Array:
    """[G, I, *spatial, N] and [G, I, *taps, O] -> [G, N, O, *output], for fewer outputs than taps."""
    terms = math.prod(right.shape[1:-1])

    def native(left: Array, right: Array) -> Array:
        return _native_gradient(left, right, window=window, exact=terms <= block_terms(product_bits))

    def products(left: Array, right: Array) -> Array:
        return _gradient(_padded(left, window.padding), right, product_bits, window=window)

    return _by_platform(left, right, native if terms <= block_terms(product_bits - PIECE_BITS) else None, products)


def _by_platform(
    left: Array, right: Array, native: Callable[[Array, Array], Array] | None, products: Callable[[Array, Array], Array]
) -> Array:
    if native is None or left.ndim > 5:  # XLA's CPU has no fast convolution over three axes
        return products(left, right)
    chosen: Array = lax.platform_dependent(left, right, cpu=native, default=products)
    return chosen


def _native_forward(left: Array, right: Array, product_bits: int, *, window: Window, together: int) -> Array:
    rank, inputs = len(window.output), left.shape[-1]
    space = tuple(range(1, 1 + rank))
    numbers = lax.ConvDimensionNumbers((0, rank + 1, *space), (rank + 1, rank, *range(rank)), (0, rank + 1, *space))
    sums = []
    for first in range(0, inputs, together):
        last = min(first + together, inputs)
        some = lax.slice_in_dim(left, first, last, axis=rank + 2), lax.slice_in_dim(right, first, last, axis=rank + 1)
        sums.append(_native(*some, window, numbers))
    total = added(sums, together * math.prod(window.taps), product_bits)
    return lax.transpose(total, (0, 1, rank + 2, *range(2, rank + 2)))


def _native_gradient(left: Array, right: Array, *, window: Window, exact: bool) -> Array:
    """A sum over all pixels is not exact as it is: then the right operand goes in two pieces of half as many bits."""
    rank, features = len(window.output), right.shape[-1]
    space = tuple(range(1, 1 + rank))
    numbers = lax.ConvDimensionNumbers((rank + 1, 0, *space), (rank + 1, 0, *space), (0, 1, *range(2, rank + 2)))
    pieces = right if exact else lax.concatenate(halves(right, PIECE_BITS), right.ndim - 1)
    chunks = [
        _native(
            left,
            lax.slice_in_dim(pieces, at, min(at + FAST_FEATURES, pieces.shape[-1]), axis=rank + 2),
            window,
            numbers,
        )
        for at in range(0, pieces.shape[-1], FAST_FEATURES)
    ]
    total = lax.concatenate(chunks, 2)
    if exact:
        return total
    high, low = (lax.slice_in_dim(total, at, at + features, axis=2) for at in (0, features))
    return join(high, low, PIECE_BITS)


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
    total = added(terms, across * inputs, product_bits)
    return lax.transpose(total, (0, 1, total.ndim - 1, *range(2, total.ndim - 1)))


def _gradient(left: Array, right: Array, product_bits: int, *, window: Window) -> Array:
    """As `_forward` with the two windows exchanged: shifted rows of the right matrix are padded to lie side by side."""
    groups, inputs, *padded, batch = left.shape
    features, (*leading, across) = right.shape[-1], window.output
    columns = _columns(left, across, window.taps[-1], window.strides[-1], window.dilation[-1])
    shifted = []
    for position in np.ndindex(*leading):
        edges = [
            (at * stride, size - at * stride - (tap - 1) * step - 1, step - 1)
            for at, stride, size, tap, step in zip(
                position, window.strides, padded, window.taps, window.dilation, strict=False
            )
        ][: len(leading)]
        around = ((0, 0, 0), (0, 0, 0), *edges, (0, 0, 0), (0, 0, 0))
        shifted.append(lax.pad(right, jnp.zeros((), right.dtype), around))
    terms = inputs * math.prod(padded[:-1]) * window.taps[-1]
    made = block_product(
        lax.reshape(columns, (groups, terms, across * batch)),
        lax.reshape(lax.concatenate(shifted, right.ndim - 1), (groups, terms, len(shifted) * features)),
        product_bits,
    )
    made = lax.reshape(made, (groups, across, batch, *leading, features))
    return lax.transpose(made, (0, 2, made.ndim - 1, *range(3, made.ndim - 1), 1))


def _columns(x: Array, count: int, width: int, step: int, stride: int) -> Array:
    """[.., W, C] -> [.., width, count · C]: `count` windows of the last spatial axis side by side, `step` apart."""
    axis = x.ndim - 2
    seen = [lax.slice_in_dim(x, at * step, at * step + (width - 1) * stride + 1, stride, axis) for at in range(count)]
    return lax.concatenate(seen, x.ndim - 1)


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
    total = lax.reshape(total, (groups, left.shape[1], *window.output, right.shape[-1]))
    return lax.transpose(total, (0, 1, total.ndim - 1, *range(2, total.ndim - 1)))


def _padded(x: Array, padding: Sequence[tuple[int, int, int]]) -> Array:
    """The spatial axes, all between the first two and the last, with zeros before, after and between."""
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (0, 0, 0), *padding, (0, 0, 0)))


def _strided(x: Array, start: Sequence[int], count: Sequence[int], step: Sequence[int]) -> Array:
    """`count` elements of each spatial axis, `step` apart."""
    stop = [at + (n - 1) * by + 1 for at, n, by in zip(start, count, step, strict=True)]
    return lax.slice(x, (0, 0, *start, 0), (*x.shape[:2], *stop, x.shape[-1]), (1, 1, *step, 1))
