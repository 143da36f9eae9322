"""U-Net over slices, rows and columns; size by `model.channels`, `model.pools` and `model.slice_pools`.

Çiçek et al., 3D U-Net, MICCAI 2016, with the blocks of nnU-Net (Isensee et al., Nature Methods 18, 2021): instance norm
and leaky relu 0.01. It pools by averages, where those have maxima and strides, as `unet` does.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from crh_train.config import Unet3dConfig
from crh_train.errors import ConfigError
from crh_train.models.initializers import Fans, Kernel, Parameters, fans
from crh_train.models.layers import INSTANCE_EPSILON, convolve, model, projection
from crh_train.types import Model, Params

SLOPE = 0.01  # of leaky relu below zero; nnU-Net's
Factors = tuple[int, int, int]  # by which a pool divides slices, rows and columns


def make(config: Unet3dConfig, in_channels: int, out_channels: int) -> Model:
    """Tokens float32 [B, T, h, w, in_channels] -> [B, T, h, w, out_channels].

    Level l has `channels · 2^l` channels, l = 0 … pools. A block is twice (3×3×3 convolution, instance norm over
    slices, rows and columns, leaky relu 0.01). Down: a block, then average pooling, for each level but the deepest,
    which is a block; the last `slice_pools` pools are 2×2×2, those before 1×2×2. Up: transposed convolution of the
    same window and stride, instance norm, leaky relu 0.01, then a block on it concatenated with that level's output on
    the way down. Last a 1×1×1 convolution. Only that one has a bias, as instance norm removes any other.
    Parameters: `down.LL.{0,1}.kernel`, `up.LL.{0,1}.kernel` [3, 3, 3, in, out], `up.LL.transposed.kernel`
    [in, 1 or 2, 2, 2, out], `output.kernel` [1, 1, in, out], `output.bias`.

    Raises:
      ConfigError: more pools across slices than pools, or residual with other output than input channels; when traced,
        slices, rows or columns that cannot be pooled so often, or only one token left at the deepest level, where
        instance norm would give zeros.
    """
    pools = config.pools
    if config.slice_pools > pools:
        raise ConfigError(
            f"model.slice_pools={config.slice_pools} must be at most model.pools={pools}, of which they are"
        )
    factors: list[Factors] = [(2 if level >= pools - config.slice_pools else 1, 2, 2) for level in range(pools)]
    width = [config.channels * 2**level for level in range(pools + 1)]

    parameters = projection(config, "output", (1, 1, width[0], out_channels))
    for level in range(pools + 1):
        parameters |= _block_kernels(f"down.{level:02d}", width[level - 1] if level else in_channels, width[level])
    for level in range(pools):
        name = f"up.{level:02d}"
        # Each output pixel lies in one window: it sums over the input channels only.
        fan = Fans(fan_in=width[level + 1], fan_out=math.prod(factors[level]) * width[level])
        parameters[f"{name}.transposed.kernel"] = Kernel((width[level + 1], *factors[level], width[level]), fan, SLOPE)
        parameters |= _block_kernels(name, 2 * width[level], width[level])

    def apply(params: Params, x: Array) -> Array:
        _check_size(x.shape[1:4], config)
        skips = []
        for level in range(pools):
            x = _block(params, f"down.{level:02d}", x)
            skips.append(x)
            x = average_pool(x, factors[level])
        x = _block(params, f"down.{pools:02d}", x)
        for level in reversed(range(pools)):
            name = f"up.{level:02d}"
            x = _activate(upsample(x, params[f"{name}.transposed.kernel"]))
            x = _block(params, name, jnp.concatenate([x, skips[level]], axis=-1))
        flat = x.reshape(-1, *x.shape[2:])
        y = convolve(flat, params["output.kernel"]) + params["output.bias"]
        return y.reshape(*x.shape[:2], *y.shape[1:])

    return model(config, in_channels, out_channels, parameters, apply)


def convolve_volume(x: Array, weights: Array) -> Array:
    """3-D cross-correlation, zero padding to the same size: [N, t, h, w, in], [a, b, c, in, out] -> [N, t, h, w, out].

    A 2-D one, whose input features are those of `a` neighbouring slices side by side: the same sums, several times
    faster than XLA's convolution over three axes on CPUs.
    """
    images, slices, rows, columns, inputs = x.shape
    taps, *window, _, outputs = weights.shape
    padded = jnp.pad(x, ((0, 0), (taps // 2, taps // 2), (0, 0), (0, 0), (0, 0)))
    beside = jnp.concatenate([padded[:, tap : tap + slices] for tap in range(taps)], axis=-1)
    kernel = jnp.moveaxis(weights, 0, 2).reshape(*window, taps * inputs, outputs)
    made = convolve(beside.reshape(images * slices, rows, columns, taps * inputs), kernel)
    return made.reshape(images, slices, rows, columns, outputs)


def instance_norm(x: Array) -> Array:
    """(x − mean) / √(variance + 1e-5) over t, h and w of each sample and channel: [N, t, h, w, C]."""
    centred = x - jnp.mean(x, axis=(1, 2, 3), keepdims=True)
    variance = jnp.mean(centred * centred, axis=(1, 2, 3), keepdims=True)
    return centred * lax.rsqrt(variance + INSTANCE_EPSILON)


def average_pool(x: Array, factors: Factors) -> Array:
    """Mean of each block of so many slices, rows and columns, which they must divide: [N, t, h, w, C] -> smaller."""
    for axis, factor in enumerate(factors, start=1):
        if factor == 2:
            even, odd = (lax.slice_in_dim(x, first, None, 2, axis) for first in (0, 1))
            x = (even + odd) * 0.5
    return x


def upsample(x: Array, weights: Array) -> Array:
    """Transposed convolution with a stride of its window, as one product for each input pixel (`layers.upsample`).

    [N, t, h, w, in], [in, a, b, c, out] -> [N, a·t, b·h, c·w, out].
    """
    images, slices, rows, columns, _ = x.shape
    _, a, b, c, outputs = weights.shape
    blocks = jnp.einsum("nthwi,iabco->ntahbwco", x, weights, precision=lax.Precision.HIGHEST)
    return blocks.reshape(images, a * slices, b * rows, c * columns, outputs)


def _block_kernels(name: str, in_channels: int, out_channels: int) -> Parameters:
    shapes = [(3, 3, 3, in_channels, out_channels), (3, 3, 3, out_channels, out_channels)]
    return {f"{name}.{index}.kernel": Kernel(shape, fans(shape), SLOPE) for index, shape in enumerate(shapes)}


def _block(params: Params, name: str, x: Array) -> Array:
    for index in range(2):
        x = _activate(convolve_volume(x, params[f"{name}.{index}.kernel"]))
    return x


def _activate(x: Array) -> Array:
    return jax.nn.leaky_relu(instance_norm(x), SLOPE)


def _check_size(shape: tuple[int, ...], config: Unet3dConfig) -> None:
    within, across = 2**config.pools, 2**config.slice_pools
    slices, rows, columns = shape
    deepest = slices * rows * columns // (within * within * across)
    if rows % within or columns % within or slices % across or deepest < 2:
        raise ConfigError(
            f"model=unet3d with pools={config.pools} and slice_pools={config.slice_pools} expects rows and columns of "
            f"tokens divisible by {within}, slices by {across}, and more than {across}×{within}×{within}, got "
            f"{slices}×{rows}×{columns}: change data.slices and data.shape, augmentation.patch or the model's pools"
        )
