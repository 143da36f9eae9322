"""Changes of intensity, of one image float32 [T, H, W] or [T, H, W, M] by one drawn number each. Pure; draws nothing.

Those that look at the image's own values (contrast, gamma) look at each channel by itself.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax

_SPATIAL = (0, 1, 2)


def blur(image: Array, deviation: Array, largest: float, axes: Sequence[int]) -> Array:
    """Gaussian of standard deviation `deviation` pixels along `axes`, cut off at three of the `largest` ones.

    The edge's value goes on outside. The weights are those of the pixels' centres, divided by their sum.
    """
    reach = math.ceil(3 * largest)
    distance = lax.iota(jnp.float32, 2 * reach + 1) - reach
    weights = jnp.exp(-(distance * distance) / (2.0 * deviation * deviation))
    weights = weights / jnp.sum(weights)
    for axis in axes:
        edges = [(reach, reach) if other == axis else (0, 0) for other in range(image.ndim)]
        padded = jnp.pad(image, edges, mode="edge")
        size = image.shape[axis]

        def add(tap: Array, blurred: Array, padded: Array = padded, size: int = size, axis: int = axis) -> Array:
            return blurred + weights[tap] * lax.dynamic_slice_in_dim(padded, tap, size, axis)

        # A loop, because XLA would fuse the axes and compute the first one's sums again for each term of the others'.
        image = lax.fori_loop(0, 2 * reach + 1, add, jnp.zeros_like(image))
    return image


def contrast(image: Array, factor: Array) -> Array:
    """mean + factor · (x − mean), clipped to the image's own range: batchgenerators' with `preserve_range`."""
    mean = jnp.mean(image, axis=_SPATIAL, keepdims=True)
    low, high = _range(image)
    return jnp.clip(mean + factor * (image - mean), low, high)


def gamma(image: Array, exponent: Array) -> Array:
    """((x − low) / (high − low))^exponent · (high − low) + low, low and high the image's own; a constant one as it is.

    MONAI's AdjustContrast.
    """
    low, high = _range(image)
    width = high - low
    unit = (image - low) / jnp.where(width > 0, width, 1.0)
    return jnp.where(width > 0, jnp.power(unit, exponent) * width + low, image)


def _range(image: Array) -> tuple[Array, Array]:
    return jnp.min(image, axis=_SPATIAL, keepdims=True), jnp.max(image, axis=_SPATIAL, keepdims=True)
