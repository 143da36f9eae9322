"""U-Net in fastMRI's shape, each slice by itself; size by `model.channels` and `model.pools`.

Ronneberger et al., U-Net, MICCAI 2015, as in fastMRI's reference (Zbontar et al., arXiv:1811.08839;
fastmri/models/unet.py) without dropout: that draws random numbers in the step, and the reference's default for it is 0.
"""

import jax.numpy as jnp
from jax import Array

from crh_train.config import UnetConfig
from crh_train.errors import ConfigError
from crh_train.models.initializers import Fans, Kernel, Parameters, fans
from crh_train.models.layers import (
    LEAKY_SLOPE,
    average_pool,
    convolve,
    instance_norm,
    leaky_relu,
    model,
    per_slice,
    projection,
    upsample,
)
from crh_train.types import Model, Params


def make(config: UnetConfig, in_channels: int, out_channels: int) -> Model:
    """Tokens float32 [B, T, h, w, in_channels] -> [B, T, h, w, out_channels].

    Level l has `channels · 2^l` channels, l = 0 … pools. A block is twice (3×3 convolution, instance norm, leaky relu
    0.2). Down: a block, then 2×2 average pooling, for each level but the deepest, which is a block. Up: 2×2 transposed
    convolution, instance norm, leaky relu 0.2, then a block on it concatenated with that level's output on the way
    down. Last a 1×1 convolution. Only that one has a bias, as instance norm removes any other.
    Parameters: `down.LL.{0,1}.kernel`, `up.LL.{0,1}.kernel` (HWIO), `up.LL.transposed.kernel` [in, 2, 2, out],
    `output.{kernel,bias}`.

    Raises:
      ConfigError: residual with other output than input channels; when traced, rows or columns not divisible by
        2^pools, or only one token left at the deepest level, where instance norm would give zeros.
    """
    pools = config.pools
    width = [config.channels * 2**level for level in range(pools + 1)]

    parameters = projection(config, "output", (1, 1, width[0], out_channels))
    for level in range(pools + 1):
        parameters |= _block_kernels(f"down.{level:02d}", width[level - 1] if level else in_channels, width[level])
    for level in range(pools):
        name = f"up.{level:02d}"
        shape = (width[level + 1], 2, 2, width[level])
        # Each output pixel lies in one window: it sums over the input channels only.
        fan = Fans(fan_in=width[level + 1], fan_out=4 * width[level])
        parameters[f"{name}.transposed.kernel"] = Kernel(shape, fan, LEAKY_SLOPE)
        parameters |= _block_kernels(name, 2 * width[level], width[level])

    def apply(params: Params, x: Array) -> Array:
        _check_size(x.shape[1], x.shape[2], pools)
        skips = []
        for level in range(pools):
            x = _block(params, f"down.{level:02d}", x)
            skips.append(x)
            x = average_pool(x)
        x = _block(params, f"down.{pools:02d}", x)
        for level in reversed(range(pools)):
            name = f"up.{level:02d}"
            x = leaky_relu(instance_norm(upsample(x, params[f"{name}.transposed.kernel"])))
            x = _block(params, name, jnp.concatenate([x, skips[level]], axis=-1))
        return convolve(x, params["output.kernel"]) + params["output.bias"]

    return model(config, in_channels, out_channels, parameters, per_slice(apply))


def _block_kernels(name: str, in_channels: int, out_channels: int) -> Parameters:
    shapes = [(3, 3, in_channels, out_channels), (3, 3, out_channels, out_channels)]
    return {f"{name}.{index}.kernel": Kernel(shape, fans(shape), LEAKY_SLOPE) for index, shape in enumerate(shapes)}


def _block(params: Params, name: str, x: Array) -> Array:
    for index in range(2):
        x = leaky_relu(instance_norm(convolve(x, params[f"{name}.{index}.kernel"])))
    return x


def _check_size(rows: int, columns: int, pools: int) -> None:
    factor = 2**pools
    if rows % factor or columns % factor or rows * columns == factor * factor:
        raise ConfigError(
            f"model=unet with pools={pools} expects rows and columns of tokens divisible by {factor} and more than"
            f" {factor}×{factor}, got {rows}×{columns}: change data.shape, tokenizer.patch or model.pools"
        )
