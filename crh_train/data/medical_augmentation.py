"""The field's augmentation, seeded: crop, flips, rotation, scale, elastic deformation, noise, blur, brightness, shift,
contrast, gamma. A pure function of (key, batch).

Which transforms there are, their order and how they are defined follow nnU-Net (Isensee et al., Nature Methods 18,
2021; batchgeneratorsv2) and MONAI. A sample's draws come from the key of the step and the sample's own index: they do
not depend on the batch's size, on the sample's place in it, or on which other transforms are switched on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from crh_train.config import MedicalAugmentationConfig, require_range
from crh_train.data import intensity, medical_geometry
from crh_train.data.augmentation import Augmentation
from crh_train.data.medical_draws import Draw, Drawn, Number, draw
from crh_train.errors import ConfigError
from crh_train.types import Batch


def make(config: MedicalAugmentationConfig, shape: Sequence[int]) -> Augmentation:
    """The augmentation of samples [T, H, W] or [T, H, W, M], in this order: patch, rotation, scale and elastic
    deformation; flips; noise; blur; brightness; shift; contrast; gamma.

    The first four are one resampling, linear for images and nearest for labels of pixels, about the patch's centre: its
    corners see the sample around it, and `padding` beyond. Within slices (`across_slices` false) all slices of a sample
    share one geometry. Magnitudes are uniform in their ranges, one for all slices and channels of a sample. Images may
    leave [0, 1] and are not clipped. Labels follow the geometry and nothing else; those of cases stay. Where nothing is
    done to a sample, its bits stay.

    Args:
      shape: rows and columns of the images.

    Raises:
      ConfigError: a range that is none, or a patch that is not [slices, rows, columns] or larger than the images; when
        traced, than their slices.
    """
    ranges = {
        name: require_range(f"augmentation.{name}_range", getattr(config, f"{name}_range"))
        for name in ("scale", "noise", "blur", "brightness", "shift", "contrast", "gamma")
    }
    rows, columns = shape
    patch = config.patch
    if patch is not None and (len(patch) != 3 or patch[1] > rows or patch[2] > columns):
        raise ConfigError(
            f"augmentation.patch must be [slices, rows, columns], not larger than the images of {rows}×{columns}, "
            f"got {patch}: change it, data.slices or data.shape"
        )
    geometry = medical_geometry.make(config, ranges["scale"])
    shades = _shades(config, ranges)

    def augment(key: Array, batch: Batch) -> Batch:
        size = batch.image.shape[1:4]
        if patch is not None and patch[0] > size[0]:
            raise ConfigError(
                f"augmentation.patch={patch} has more slices than a sample, {size[0]}: change it or data.slices"
            )
        drawn = jax.vmap(draw)(jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch.sample))
        several = batch.image.ndim == 5
        of_cases = batch.label is None or batch.label.ndim == 1
        image, label = geometry(
            drawn,
            (batch.image if several else batch.image[..., None], None if of_cases else batch.label),
            size if patch is None else tuple(patch),
        )
        for shade in shades:
            image = _shaded(shade, drawn, image)
        return Batch(image if several else image[..., 0], batch.label if of_cases else label, batch.sample)

    return augment


class Shade(NamedTuple):
    """A change of intensity."""

    number: Number
    probability: float
    change: Callable[[Drawn, Array], Array]  # of one sample [T, H, W, M]


def _shaded(shade: Shade, drawn: Drawn, images: Array) -> Array:
    """`images` [B, T, H, W, M], of which some are changed."""
    if shade.probability == 0:
        return images
    chosen = drawn.chance(shade.number, shade.probability)

    def changed(drawn: Drawn, images: Array) -> Array:
        return jnp.where(chosen[:, None, None, None, None], jax.vmap(shade.change)(drawn, images), images)

    # A condition of the whole batch: what no sample needs is not computed, and XLA's fusion stops here.
    shaded: Array = lax.cond(jnp.any(chosen), changed, lambda drawn, images: images, drawn, images)
    return shaded


def _shades(config: MedicalAugmentationConfig, ranges: Mapping[str, tuple[float, float]]) -> Sequence[Shade]:
    axes = (0, 1, 2) if config.across_slices else (1, 2)

    def noise(drawn: Drawn, image: Array) -> Array:
        deviation = drawn.within(Number.NOISE_DEVIATION, ranges["noise"])
        return image + deviation * drawn.normal(Draw.NOISE, image.shape)

    def blur(drawn: Drawn, image: Array) -> Array:
        deviation = drawn.within(Number.BLUR_DEVIATION, ranges["blur"])
        return intensity.blur(image, deviation, ranges["blur"][1], axes)

    def brightness(drawn: Drawn, image: Array) -> Array:
        return image * drawn.within(Number.BRIGHTNESS_FACTOR, ranges["brightness"])

    def shift(drawn: Drawn, image: Array) -> Array:
        return image + drawn.within(Number.SHIFT_AMOUNT, ranges["shift"])

    def contrast(drawn: Drawn, image: Array) -> Array:
        return intensity.contrast(image, drawn.within(Number.CONTRAST_FACTOR, ranges["contrast"]))

    def gamma(drawn: Drawn, image: Array) -> Array:
        return intensity.gamma(image, drawn.within(Number.GAMMA_EXPONENT, ranges["gamma"]))

    return (
        Shade(Number.NOISE, config.noise, noise),
        Shade(Number.BLUR, config.blur, blur),
        Shade(Number.BRIGHTNESS, config.brightness, brightness),
        Shade(Number.SHIFT, config.shift, shift),
        Shade(Number.CONTRAST, config.contrast, contrast),
        Shade(Number.GAMMA, config.gamma, gamma),
    )
