"""Seeded augmentation of a batch: flips, quarter turns, intensity scale, noise. A pure function of (key, batch).

A sample's draws come from the key of the step and the sample's own index, each draw from its own sub-key: they do not
depend on the batch's size, on the sample's place in it, or on which other augmentations are switched on.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum

import jax
import jax.numpy as jnp
from jax import Array

from crh_train.config import AugmentationConfig
from crh_train.errors import ConfigError
from crh_train.types import Batch

Augmentation = Callable[[Array, Batch], Batch]
"""key of the step (`derive(root, Purpose.AUGMENT, step)`), batch -> batch of the same shapes and dtypes."""


class Draw(IntEnum):
    """The sub-keys of a sample's key. A number released is never given to another draw."""

    FLIP_ROWS = 0
    FLIP_COLUMNS = 1
    ROTATE_90 = 2
    INTENSITY_SCALE = 3
    NOISE = 4


def make(config: AugmentationConfig, shape: Sequence[int]) -> Augmentation:
    """The augmentation of samples [T, H, W] or [T, H, W, M], in this order: quarter turns, flips, scale, noise.

    All slices of a sample share geometry and scale; noise is drawn for every pixel. Labels of pixels follow geometry
    and nothing else; those of cases stay. With all off, the batch comes back as it is. Scale and noise may take
    intensities a little out of [0, 1]; they are not clipped, which would bias the noise.

    Args:
      shape: rows and columns of the images.

    Raises:
      ConfigError: quarter turns are on and images are not square.
    """
    if config.rotate_90 and shape[0] != shape[1]:
        raise ConfigError(f"augmentation.rotate_90 needs square images, data.shape is {list(shape)}; set it to false")

    def turn(key: Array, pictures: Array) -> Array:
        if config.rotate_90:
            quarters = jax.random.randint(_sub_key(key, Draw.ROTATE_90), (), 0, 4)
            pictures = jnp.where(quarters % 2 == 1, jnp.rot90(pictures, axes=(-2, -1)), pictures)
            pictures = jnp.where(quarters >= 2, pictures[..., ::-1, ::-1], pictures)
        if config.flip_rows:
            pictures = jnp.where(_coin(key, Draw.FLIP_ROWS), pictures[..., ::-1, :], pictures)
        if config.flip_columns:
            pictures = jnp.where(_coin(key, Draw.FLIP_COLUMNS), pictures[..., ::-1], pictures)
        return pictures

    def shade(key: Array, image: Array) -> Array:
        if config.intensity_scale > 0:
            spread = config.intensity_scale
            draw = jax.random.uniform(_sub_key(key, Draw.INTENSITY_SCALE), minval=1.0 - spread, maxval=1.0 + spread)
            image = _rounded(image * draw)
        if config.noise > 0:
            image = image + _rounded(config.noise * jax.random.normal(_sub_key(key, Draw.NOISE), image.shape))
        return image

    def augment(key: Array, batch: Batch) -> Batch:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch.sample)
        several = batch.image.ndim == 5  # channels, last, which stay where they are
        turn_image = jax.vmap(turn, in_axes=(None, -1), out_axes=-1) if several else turn
        image = jax.vmap(lambda k, picture: shade(k, turn_image(k, picture)))(keys, batch.image)
        label = batch.label
        if label is not None and label.ndim > 1:
            label = jax.vmap(turn)(keys, label)
        return Batch(image, label, batch.sample)

    return augment


def _sub_key(key: Array, draw: Draw) -> Array:
    return jax.random.fold_in(key, int(draw))


def _coin(key: Array, draw: Draw) -> Array:
    return jax.random.bernoulli(_sub_key(key, draw))


def _rounded(product: Array) -> Array:
    """`product`, rounded before it is added to anything.

    Of two products that are added, a compiler contracts either one with the addition, and XLA's choice was seen to
    change with the size of the batch. The select stands between them; it changes nothing but denormal numbers.
    """
    return jnp.where(jnp.abs(product) < 2.0**-126, 0.0, product)
