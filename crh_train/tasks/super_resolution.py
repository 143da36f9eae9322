"""The image from one of lower resolution within its slices, brought back to the same grid."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from crh_train.config import SuperResolutionConfig
from crh_train.errors import ConfigError
from crh_train.tasks.images import require_one_channel
from crh_train.types import Layout, Task


def make(config: SuperResolutionConfig, layout: Layout) -> Task:
    """Input: the image degraded by `config.factor` along rows and columns. Target: the image, of one channel.

    kspace       the magnitude of the image whose centred k-space is cut to rows/factor × columns/factor and filled with
                 zeros to the grid: what an MR scanner gives that samples less far out, ringing at edges included
    block_mean   the mean of each factor×factor block, in all of its pixels: what larger detectors would see

    Raises:
      ConfigError: several channels, or a factor that does not divide rows and columns, of a patch too when traced.
    """
    require_one_channel(config.name, layout)
    degrade = {"kspace": _low_frequencies, "block_mean": _block_mean}[config.method]
    _require_divisible(config, layout.rows, layout.columns)

    def pair(image: Array, label: Array | None) -> tuple[Array, Array]:
        _require_divisible(config, *image.shape[-2:])
        return degrade(image, config.factor), image

    return Task(pair, classes=0)


def _low_frequencies(image: Array, factor: int) -> Array:
    """float32 [..., H, W] -> the same shape; centring of the image commutes with the mask, so only that is shifted."""
    down, across = (_central(size, size // factor) for size in image.shape[-2:])
    kspace = jnp.fft.fft2(image) * (down[:, None] * across)
    return jnp.abs(jnp.fft.ifft2(kspace))


def _central(size: int, count: int) -> np.ndarray:
    """Which of `size` frequencies, as the transform orders them, are the `count` around zero: float32, 1 or 0."""
    mask = np.zeros(size, np.float32)
    first = size // 2 - count // 2
    mask[first : first + count] = 1
    return np.fft.ifftshift(mask)


def _block_mean(image: Array, factor: int) -> Array:
    *outer, rows, columns = image.shape
    blocks = image.reshape(*outer, rows // factor, factor, columns // factor, factor)
    means = jnp.mean(blocks, axis=(-3, -1), keepdims=True)
    return jnp.broadcast_to(means, blocks.shape).reshape(image.shape)


def _require_divisible(config: SuperResolutionConfig, rows: int, columns: int) -> None:
    if rows % config.factor or columns % config.factor:
        raise ConfigError(
            f"task.factor={config.factor} must divide rows and columns of the images, got {rows}×{columns}: "
            "change task.factor, data.shape or augmentation.patch"
        )
