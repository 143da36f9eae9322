"""The image from a noisy one, whose noise is drawn anew for each sample at each step."""

from enum import IntEnum

import jax
import jax.numpy as jnp
from jax import Array

from crh_train.config import DenoisingConfig, require_range
from crh_train.tasks.images import require_one_channel
from crh_train.types import Layout, Task


class Draw(IntEnum):
    """The sub-keys of a sample's key. A number released is never given to another draw."""

    SIGMA = 0
    REAL = 1
    IMAGINARY = 2


def make(config: DenoisingConfig, layout: Layout) -> Task:
    """Input: the image with noise. Target: the image, of one channel.

    σ is uniform in `config.sigma`, one for each sample; n and m are standard normal, for each pixel:

        gaussian   x + σ n                            as of the real part of an MR image, or of CT
        rician     √((x + σ n)² + (σ m)²)             as of the magnitude of a complex MR image of one coil

    Gudbjartsson and Patz, The Rician distribution of noisy MRI data, MRM 34, 1995. Noise is not clipped.

    Raises:
      ConfigError: several channels, or `sigma` that is no range.
    """
    require_one_channel(config.name, layout)
    low, high = require_range("task.sigma", config.sigma)

    def noisy(key: Array, image: Array) -> Array:
        sub_key = {draw: jax.random.fold_in(key, int(draw)) for draw in Draw}
        sigma = low + (high - low) * jax.random.uniform(sub_key[Draw.SIGMA])
        real = image + sigma * jax.random.normal(sub_key[Draw.REAL], image.shape)
        if config.noise == "gaussian":
            return real
        imaginary = sigma * jax.random.normal(sub_key[Draw.IMAGINARY], image.shape)
        return jnp.sqrt(real * real + imaginary * imaginary)

    return Task(lambda image, label: (image, image), classes=0, draw=jax.vmap(noisy))
