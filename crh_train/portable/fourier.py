"""Discrete Fourier transforms (`fft`): exact sums of fixed-point numbers by correctly rounded twiddle factors.

**Value.** The axes are transformed one after another, from the last to the first (the last axis of an inverse real
transform comes last), each rounded to float32. Along an axis, the numbers of one transform are brought to one power of
two, the least e with |x| < 2^e for all their parts, and are transformed in float64:

- *Directly*, if the length n is at most 256 or prime: the parts are rounded to 30 bits below the scale, the cosines and
  sines of 2πm/n to multiples of 2^-25, and the sums of their products are exact, then rounded to float64.
- Else in two steps (Cooley and Tukey 1965). With p the largest divisor of n up to √n, and q = n / p: transforms of
  length p, their results times twiddle factors that are correctly rounded to float64, then transforms of length q,
  each with a scale of its own.

An inverse divides by n in float64. Then comes the only rounding to float32. A number that is not finite makes NaN of
its transform. `Accuracy` changes nothing.

**Error bound.** Of each axis: k · n · max|x| · 2^-24 beside half a unit in the last place, with max|x| the largest part
in the transform and k the number of direct transforms that n is made of. Normwise it is 3e-8 on Gaussian data, a third
of stock float32's, and mostly the one rounding to float32.

**Lowering.** The numbers at j and n - j share their cosines and, but for the sign, their sines. So their sums and
differences are taken first, which are exact, and the products are of half the length for half the results.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.contraction import halves
from crh_train.portable.fences import Fence, narrow, widen
from crh_train.portable.fixed_point import power_of_two, shared_exponent
from crh_train.portable.scope import Scope

_DIRECT = 256  # the longest composite length that is transformed at once
_NUMBER_BITS, _LOW_BITS = 30, 15  # of the numbers, and of their lower half
_TWIDDLE_BITS = 25
_LONGEST = 4096  # 2 · 4096 products of 15 and 25 bits sum exactly in float64
_PRECISION = 160  # bits of π and of what comes from it; 2^-150 remains of error


class Turn(NamedTuple):
    """The cosine and the sine of an angle, as integers that count 2^-160."""

    cosine: int
    sine: int


def fft(scope: Scope, x: Array, *, fft_type: lax.FftType, fft_lengths: tuple[int, ...]) -> Array:
    """`lax.fft` of clean float32 or complex64 over the last axes; see above.

    Of an inverse real transform's input, the imaginary parts that a real signal cannot have are ignored.
    """
    kind = lax.FftType(fft_type)
    for length in fft_lengths:
        _check(length)
    parts = _stack(lax.real(x), lax.imag(x)) if x.dtype == jnp.complex64 else _stack(x, lax.full_like(x, 0))
    last = parts.ndim - 1
    others = range(last - 1, last - len(fft_lengths), -1)
    inverse = kind in (lax.FftType.IFFT, lax.FftType.IRFFT)
    if kind != lax.FftType.IRFFT:
        parts = _along(scope.fence, parts, last, inverse)
    if kind == lax.FftType.RFFT:
        parts = lax.slice_in_dim(parts, 0, fft_lengths[-1] // 2 + 1, axis=last)
    for axis in others:
        parts = _along(scope.fence, parts, axis, inverse)
    if kind == lax.FftType.IRFFT:
        return _along(scope.fence, _hermitian(parts, fft_lengths[-1]), last, inverse)[0]
    return lax.complex(parts[0], parts[1])


def twiddles(length: int) -> list[Turn]:
    """Cosine and sine of 2πm / length for m = 0 … length - 1, within 2^-150, from integers alone.

    By Taylor's series in the first eighth of the circle and by symmetry elsewhere, so that what is 0, ±1 or a pair of
    equal numbers is so exactly.
    """
    pi = 4 * (4 * _inverse_tangent(5) - _inverse_tangent(239))  # Machin
    return [_turn(4 * m, length, pi) for m in range(length)]


def _turn(m: int, length: int, pi: int) -> Turn:
    """Of the angle m / (4 · length) of the whole circle."""
    if m > 2 * length:
        cosine, sine = _turn(4 * length - m, length, pi)
        return Turn(cosine, -sine)
    if m > length:
        cosine, sine = _turn(2 * length - m, length, pi)
        return Turn(-cosine, sine)
    if 2 * m > length:
        cosine, sine = _turn(length - m, length, pi)
        return Turn(sine, cosine)
    angle = pi * m // (2 * length)
    sums, term, order = [0, 0, 0, 0], 1 << _PRECISION, 0
    while term:
        sums[order % 4] += term
        order += 1
        term = (term * angle >> _PRECISION) // order
    return Turn(sums[0] - sums[2], sums[1] - sums[3])


def _inverse_tangent(divisor: int) -> int:
    """arctan(1 / divisor) · 2^160."""
    total, power, order = 0, (1 << _PRECISION) // divisor, 1
    while power:
        total += power // order * (2 - order % 4)
        power //= divisor**2
        order += 2
    return total


def _check(length: int) -> None:
    longest = max(_factors(length))
    if longest > _LONGEST:
        raise NotImplementedError(
            f"a transform of length {length} has the prime factor {longest}; sums are exact up to {_LONGEST}: pad to "
            "a length without such a factor"
        )


def _factors(length: int) -> list[int]:
    """The lengths of the direct transforms that one of `length` is made of."""
    first = _divisor(length)
    return [length] if first == 1 else [*_factors(first), *_factors(length // first)]


def _divisor(length: int) -> int:
    """The largest divisor up to √length; 1 where the transform is direct."""
    if length <= _DIRECT:
        return 1
    return max(divisor for divisor in range(1, math.isqrt(length) + 1) if length % divisor == 0)


def _stack(real: Array, imaginary: Array) -> Array:
    return lax.concatenate([lax.expand_dims(real, (0,)), lax.expand_dims(imaginary, (0,))], 0)


def _hermitian(half: Array, length: int) -> Array:
    """[2, …, length // 2 + 1] -> [2, …, length]: the whole spectrum of a real signal."""
    last, paired = half.ndim - 1, (length - 1) // 2
    inner = lax.slice_in_dim(half, 1, paired + 1, axis=last)
    edges = [(0, 0, 0)] * (last - 1) + [(1, half.shape[last] - 1 - paired, 0)]
    lower = _stack(half[0], lax.pad(inner[1], jnp.zeros((), jnp.float32), edges))
    upper = lax.rev(_stack(inner[0], lax.neg(inner[1])), (last,))
    return lax.concatenate([lower, upper], last)


def _along(fence: Fence, parts: Array, axis: int, inverse: bool) -> Array:
    """float32 [2, …] -> its transform along `axis`; the inverse that of exchanged parts, exchanged, over n."""
    order = [*(other for other in range(parts.ndim) if other != axis), axis]
    moved = lax.transpose(parts, order)
    length = moved.shape[-1]
    rows = lax.reshape(moved, (2, moved.size // (2 * length), length))
    if inverse:
        rows = lax.rev(rows, (0,))
    exponents = shared_exponent(rows, (0, 2))
    normalised = _scaled(widen(rows), -exponents)
    values = _scaled(_transform(fence, normalised, lax.full_like(exponents, 0)), exponents)
    if inverse:
        values = lax.rev(lax.div(values, fence(lax.full_like(values, length))), (0,))
    # What is not finite became NaN when it was split in halves, and every result has a product of it.
    result = lax.reshape(narrow(values), moved.shape)
    return lax.transpose(result, [order.index(other) for other in range(parts.ndim)])


def _scaled(values: Array, exponents: Array) -> Array:
    return lax.mul(values, lax.broadcast_in_dim(power_of_two(exponents), values.shape, (0, 1, 2)))


def _transform(fence: Fence, values: Array, exponents: Array) -> Array:
    """float64 [2, R, n], magnitudes below 2^`exponents`, int32 [1, R, 1] -> forward transform along n, float64."""
    _, rows, length = values.shape
    first = _divisor(length)
    if first == 1:
        return _direct(values, exponents)
    second = length // first
    grid = lax.transpose(lax.reshape(values, (2, rows, first, second)), (0, 1, 3, 2))
    repeated = lax.reshape(lax.broadcast_in_dim(exponents, (1, rows, second), (0, 1, 2)), (1, rows * second, 1))
    columns = _transform(fence, lax.reshape(grid, (2, rows * second, first)), repeated)
    turned = _turned(fence, lax.reshape(columns, (2, rows, second, first)), length)
    lines = lax.reshape(lax.transpose(turned, (0, 1, 3, 2)), (2, rows * first, second))
    result = _transform(fence, lines, shared_exponent(narrow(lines), (0, 2)))
    return lax.reshape(lax.transpose(lax.reshape(result, (2, rows, first, second)), (0, 1, 3, 2)), values.shape)


def _turned(fence: Fence, values: Array, length: int) -> Array:
    """float64 [2, R, q, p]: number (a, b) by exp(-2πi · a · b / length); each product rounded, and their sum."""
    turns = twiddles(length)
    second, first = values.shape[2:]
    index = np.outer(np.arange(second), np.arange(first))
    unit = 1 << _PRECISION  # Python's division of integers is correctly rounded
    cosine = jnp.asarray(np.array([turn.cosine / unit for turn in turns])[index], jnp.float64)
    sine = jnp.asarray(np.array([turn.sine / unit for turn in turns])[index], jnp.float64)

    def product(part: Array, factor: Array) -> Array:
        return fence(lax.mul(part, lax.broadcast_in_dim(factor, part.shape, (1, 2))))

    real, imaginary = values[0], values[1]
    return _stack(
        lax.add(product(real, cosine), product(imaginary, sine)),
        lax.sub(product(imaginary, cosine), product(real, sine)),
    )


def _direct(values: Array, exponents: Array) -> Array:
    """As `_transform`, at once."""
    length = values.shape[2]
    paired, half = (length - 1) // 2, length // 2 + 1
    integers = lax.round(_scaled(values, _NUMBER_BITS - exponents), lax.RoundingMethod.TO_NEAREST_EVEN)
    parts = lax.concatenate(halves(integers), 1)  # upper rows, then lower
    mirrored = lax.rev(lax.slice_in_dim(parts, length - paired, length, axis=2), (2,))
    mirrored = lax.pad(mirrored, jnp.zeros((), jnp.float64), [(0, 0, 0), (0, 0, 0), (1, half - 1 - paired, 0)])
    firsts = lax.slice_in_dim(parts, 0, half, axis=2)
    cosines, sines = _matrices(length)
    even = lax.dot_general(lax.add(firsts, mirrored), cosines, (((2,), (0,)), ((), ())))
    odd = lax.dot_general(lax.sub(firsts, mirrored), sines, (((2,), (0,)), ((), ())))
    crossed = _stack(odd[1], lax.neg(odd[0]))  # by -i
    reflected = lax.rev(lax.slice_in_dim(lax.sub(even, crossed), 1, paired + 1, axis=2), (2,))
    sums = lax.concatenate([lax.add(even, crossed), reflected], 2)
    rows = values.shape[1]
    high, low = lax.slice_in_dim(sums, 0, rows, axis=1), lax.slice_in_dim(sums, rows, 2 * rows, axis=1)
    # The product is exact, so an FMA changes nothing.
    total = lax.add(lax.mul(high, lax.full_like(high, 2.0**_LOW_BITS)), low)
    return _scaled(total, exponents - (_NUMBER_BITS + _TWIDDLE_BITS))


def _matrices(length: int) -> tuple[Array, Array]:
    """Cosine and sine of 2πjk / length for j, k ≤ length / 2, as float64 integers that count 2^-25."""
    step = 1 << (_PRECISION - _TWIDDLE_BITS)
    rounded = [[(number + step // 2) // step for number in turn] for turn in twiddles(length)]
    table = jnp.asarray(np.array(rounded, np.float64))
    positions = [lax.broadcasted_iota(jnp.int32, (length // 2 + 1,) * 2, axis) for axis in (0, 1)]
    index = lax.rem(lax.mul(*positions), jnp.full_like(positions[0], length))
    return table[index, 0], table[index, 1]
