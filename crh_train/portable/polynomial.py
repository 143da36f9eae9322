"""Polynomials in fenced float64, the heart of every function's rule; see `exponential`, `trigonometric`, `special`."""

from collections.abc import Sequence

import numpy as np
from jax import Array, lax

from crh_train.portable.fences import Fence


def horner(fence: Fence, x: Array, coefficients: Sequence[float]) -> Array:
    """float64 x -> float64 of the same shape: (…(c₀x + c₁)x + …)x + cₙ, each product and each sum rounded once.

    `coefficients` starts with the highest degree. No product can be contracted with the sum that follows it.

    Raises `ValueError` for no coefficients.
    """
    if not coefficients:
        raise ValueError("a polynomial has one coefficient or more, not none")
    value = lax.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = fence(value * x) + np.float64(coefficient)
    return value
