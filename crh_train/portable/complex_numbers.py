"""Arithmetic of complex64 as pairs of float32; no logarithms or powers, which have no rule.

Elementwise functions take a fence and clean complex64 arrays of one shape. Both parts of a product and of a quotient
are rounded once from what float64 makes of exact products, so that neither cancels nor overflows on the way.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable import contraction, convolution, exponential, trigonometric
from crh_train.portable.fences import Fence, copy_sign, flush, is_finite, narrow, widen
from crh_train.portable.scope import Scope

_INFINITY = np.float32(np.inf)


def add(fence: Fence, x: Array, y: Array) -> Array:
    """x + y, each part correctly rounded."""
    return lax.complex(flush(lax.add(lax.real(x), lax.real(y))), flush(lax.add(lax.imag(x), lax.imag(y))))


def subtract(fence: Fence, x: Array, y: Array) -> Array:
    """x - y, each part correctly rounded."""
    return lax.complex(flush(lax.sub(lax.real(x), lax.real(y))), flush(lax.sub(lax.imag(x), lax.imag(y))))


def multiply(fence: Fence, x: Array, y: Array) -> Array:
    """(ac - bd) + (ad + bc)i, each part within 0.5000001 ulp, even where it cancels."""
    return _narrow(_product(x, y))


def square(fence: Fence, x: Array) -> Array:
    """x · x, as `multiply`."""
    return multiply(fence, x, x)


def divide(fence: Fence, x: Array, y: Array) -> Array:
    """x / y, each part within 0.5000002 ulp. A number by zero is infinite, a finite one by an infinite one zero."""
    real, imaginary = _product(x, conjugate(fence, y))
    denominator = _squared_modulus(y)
    by_zero = lax.eq(denominator, lax.full_like(denominator, 0))
    real = lax.select(by_zero, widen(lax.real(x)), real)
    imaginary = lax.select(by_zero, widen(lax.imag(x)), imaginary)
    divisor = fence(lax.select(by_zero, widen(lax.real(y)), denominator))  # its zero has a sign
    quotient = _narrow((lax.div(real, divisor), lax.div(imaginary, divisor)))
    vanishes = _is_infinite(y) & is_finite(lax.real(x)) & is_finite(lax.imag(x))
    return lax.select(vanishes, lax.full_like(x, 0), quotient)


def negative(fence: Fence, x: Array) -> Array:
    """-x: the sign bits alone."""
    return lax.complex(lax.neg(lax.real(x)), lax.neg(lax.imag(x)))


def conjugate(fence: Fence, x: Array) -> Array:
    """a - bi: the sign bit alone."""
    return lax.complex(lax.real(x), lax.neg(lax.imag(x)))


def real(fence: Fence, x: Array) -> Array:
    """The real part, float32."""
    return lax.real(x)


def imaginary(fence: Fence, x: Array) -> Array:
    """The imaginary part, float32."""
    return lax.imag(x)


def absolute(fence: Fence, x: Array) -> Array:
    """√(a² + b²) within 0.5000002 ulp, float32; infinity if a part is, as C's hypot."""
    modulus = narrow(lax.sqrt(_squared_modulus(x)))
    return lax.select(_is_infinite(x), lax.full_like(modulus, _INFINITY), modulus)


def sign(fence: Fence, x: Array) -> Array:
    """x / |x|, each part within 0.5000003 ulp; 0 of 0."""
    modulus = fence(lax.sqrt(_squared_modulus(x)))
    direction = _narrow((lax.div(widen(lax.real(x)), modulus), lax.div(widen(lax.imag(x)), modulus)))
    return lax.select(lax.eq(modulus, lax.full_like(modulus, 0)), lax.full_like(x, 0), direction)


def square_root(fence: Fence, x: Array) -> Array:
    """√x with a real part that is not negative, each part within 0.5000004 ulp; infinity for an infinite part b."""
    real, imaginary = widen(lax.real(x)), widen(lax.imag(x))
    modulus = fence(lax.sqrt(_squared_modulus(x)))
    half_sum = lax.mul(lax.add(modulus, lax.abs(real)), lax.full_like(real, 0.5))  # exact
    large = fence(lax.sqrt(half_sum))
    small = lax.div(lax.abs(imaginary), fence(lax.mul(large, lax.full_like(large, 2))))
    small = lax.select(lax.eq(large, lax.full_like(large, 0)), large, small)
    negative = lax.lt(real, lax.full_like(real, 0))
    root_real = narrow(lax.select(negative, small, large))
    root_imaginary = copy_sign(narrow(lax.select(negative, large, small)), lax.imag(x))
    infinite = lax.eq(lax.abs(lax.imag(x)), lax.full_like(root_real, _INFINITY))
    return lax.complex(
        lax.select(infinite, lax.full_like(root_real, _INFINITY), root_real),
        lax.select(infinite, lax.imag(x), root_imaginary),
    )


def exp(fence: Fence, x: Array) -> Array:
    """e^a (cos b + i sin b), each part within 1.6 ulp; real where b is zero. Infinite once e^a is."""
    size, angle = exponential.exp(fence, lax.real(x)), lax.imag(x)
    real = lax.mul(size, trigonometric.cos(fence, angle))
    imaginary = lax.mul(size, trigonometric.sin(fence, angle))
    imaginary = lax.select(lax.eq(angle, lax.full_like(angle, 0)), angle, imaginary)
    return lax.complex(flush(real), flush(imaginary))


def integer_power(fence: Fence, x: Array, *, y: int) -> Array:
    """x^y for an integer y, by squaring in float64; 1 / x^-y of the rounded power if y is negative."""
    base, power, left = (widen(lax.real(x)), widen(lax.imag(x))), None, abs(y)
    while left:
        if left & 1:
            power = base if power is None else _fenced_product(fence, power, base)
        left >>= 1
        if left:
            base = _fenced_product(fence, base, base)
    if power is None:
        return lax.full_like(x, 1)
    if y > 0:
        return _narrow(power)
    return divide(fence, lax.full_like(x, 1), _narrow(power))


def equal(fence: Fence, x: Array, y: Array) -> Array:
    """Whether both parts are equal, bool."""
    return lax.eq(lax.real(x), lax.real(y)) & lax.eq(lax.imag(x), lax.imag(y))


def not_equal(fence: Fence, x: Array, y: Array) -> Array:
    """Whether a part differs, bool."""
    return lax.bitwise_not(equal(fence, x, y))


COMPLEX: Mapping[str, Callable[..., Array]] = {
    "abs": absolute,
    "add": add,
    "add_any": add,
    "conj": conjugate,
    "div": divide,
    "eq": equal,
    "exp": exp,
    "imag": imaginary,
    "integer_pow": integer_power,
    "mul": multiply,
    "ne": not_equal,
    "neg": negative,
    "real": real,
    "sign": sign,
    "sqrt": square_root,
    "square": square,
    "sub": subtract,
}


def reduce_prod(scope: Scope, operand: Array, *, axes: tuple[int, ...], out_sharding: object = None) -> Array:
    """Product along `axes` in row-major order as a binary tree: of 2w elements, i by i + w; each product as `multiply`.

    The axis is first lengthened by ones to a power of two.
    """
    if out_sharding is not None:
        raise NotImplementedError(f"out_sharding={out_sharding} of a reduction: use automatic sharding")
    kept = [axis for axis in range(operand.ndim) if axis not in axes]
    shape = [operand.shape[axis] for axis in kept]
    count = math.prod(operand.shape[axis] for axis in axes)
    width = 1 << max(count - 1, 0).bit_length()
    factors = lax.reshape(lax.transpose(operand, (*kept, *sorted(axes))), (*shape, count))
    product = lax.concatenate([factors, lax.full((*shape, width - count), 1, jnp.complex64)], len(shape))
    while width > 1:
        width //= 2
        low, high = (lax.slice_in_dim(product, start, start + width, axis=-1) for start in (0, width))
        product = multiply(scope.fence, low, high)
    return lax.squeeze(product, (len(shape),))


def dot_general(scope: Scope, left: Array, right: Array, *, dimension_numbers: Any, **params: Any) -> Array:
    """`lax.dot_general` of clean complex64: each part one contraction of float32 over twice the terms.

    Real and imaginary parts share the scale of their row or column; see `contraction` for the bound.
    """
    (left_contract, right_contract), batch = dimension_numbers
    numbers = ((*left_contract, left.ndim), (*right_contract, right.ndim)), batch
    rows = _pairs(lax.real(left), lax.imag(left), left.ndim)
    real, imaginary = (
        contraction.dot_general(scope, rows, _pairs(*parts, right.ndim), dimension_numbers=numbers, **params)
        for parts in _columns(right)
    )
    return lax.complex(real, imaginary)


def conv_general_dilated(
    scope: Scope,
    lhs: Array,
    rhs: Array,
    *,
    dimension_numbers: lax.ConvDimensionNumbers,
    feature_group_count: int,
    **params: Any,
) -> Array:
    """`lax.conv_general_dilated` of clean complex64: each part one convolution of float32 with twice the features."""
    axis = dimension_numbers.lhs_spec[1]
    features = (feature_group_count, lhs.shape[axis] // feature_group_count)
    grouped = lax.reshape(lhs, (*lhs.shape[:axis], *features, *lhs.shape[axis + 1 :]))
    pairs = _pairs(lax.real(grouped), lax.imag(grouped), axis + 1)
    doubled = lax.reshape(pairs, (*lhs.shape[:axis], 2 * lhs.shape[axis], *lhs.shape[axis + 1 :]))
    params |= {"dimension_numbers": dimension_numbers, "feature_group_count": feature_group_count}
    real, imaginary = (
        convolution.conv_general_dilated(
            scope, doubled, lax.concatenate(parts, dimension_numbers.rhs_spec[1]), **params
        )
        for parts in _columns(rhs)
    )
    return lax.complex(real, imaginary)


STRUCTURED: Mapping[str, Callable[..., Array]] = {
    "conv_general_dilated": conv_general_dilated,
    "dot_general": dot_general,
    "reduce_prod": reduce_prod,
}


def _columns(x: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """What (real, imaginary) is multiplied by, part by part, to give the real and the imaginary part of the product."""
    return (lax.real(x), lax.neg(lax.imag(x))), (lax.imag(x), lax.real(x))


def _pairs(first: Array, second: Array, axis: int) -> Array:
    """Stacked along a new axis."""
    return lax.concatenate([lax.expand_dims(first, (axis,)), lax.expand_dims(second, (axis,))], axis)


def _product(x: Array, y: Array) -> tuple[Array, Array]:
    """Both parts of x · y in float64, rounded once: the products are exact, so an FMA changes nothing."""
    a, b, c, d = (widen(part) for number in (x, y) for part in (lax.real(number), lax.imag(number)))
    return lax.sub(lax.mul(a, c), lax.mul(b, d)), lax.add(lax.mul(a, d), lax.mul(b, c))


def _fenced_product(fence: Fence, x: tuple[Array, Array], y: tuple[Array, Array]) -> tuple[Array, Array]:
    """Of float64 parts: six operations, each rounded."""
    (a, b), (c, d) = x, y
    ac, bd, ad, bc = (fence(lax.mul(*factors)) for factors in ((a, c), (b, d), (a, d), (b, c)))
    return fence(lax.sub(ac, bd)), fence(lax.add(ad, bc))


def _squared_modulus(x: Array) -> Array:
    """a² + b² in float64, rounded once: the squares are exact, so an FMA changes nothing."""
    real, imaginary = widen(lax.real(x)), widen(lax.imag(x))
    return lax.add(lax.mul(real, real), lax.mul(imaginary, imaginary))


def _narrow(parts: tuple[Array, Array]) -> Array:
    return lax.complex(*map(narrow, parts))


def _is_infinite(x: Array) -> Array:
    return lax.bitwise_or(
        *(lax.eq(lax.abs(part), lax.full_like(part, _INFINITY)) for part in (lax.real(x), lax.imag(x)))
    )
