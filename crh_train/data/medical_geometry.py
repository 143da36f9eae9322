"""Geometry of `medical_augmentation`: which patch of a sample is seen, and how it is turned, scaled, bent, flipped."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from crh_train.config import MedicalAugmentationConfig
from crh_train.data import deformation
from crh_train.data.medical_draws import Draw, Drawn, Number

Size = tuple[int, ...]
Pictures = tuple[Array, Array | None]  # images [B, T, H, W, M], and labels [B, T, H, W] of any pixels


def make(config: MedicalAugmentationConfig, scales: tuple[float, float]) -> Callable[[Drawn, Pictures, Size], Pictures]:
    """draws of a batch, its pictures, the patch's slices, rows and columns -> pictures of that size."""
    resampled = config.rotation > 0 or config.scale > 0 or config.elastic > 0
    most = math.radians(config.rotation_degrees)
    flips = (
        (1, Number.FLIP_SLICES, config.flip_slices),
        (2, Number.FLIP_ROWS, config.flip_rows),
        (3, Number.FLIP_COLUMNS, config.flip_columns),
    )

    def coordinates(drawn: Drawn, offset: Array, patch: Size) -> Array:
        """Of one sample, along the axes that are resampled: [D, *those of the patch]."""
        turned = drawn.chance(Number.ROTATION, config.rotation)
        angles = [
            jnp.where(turned, drawn.within(number, (-most, most)), 0.0)
            for number in (Number.ANGLE_SLICES, Number.ANGLE_ROWS, Number.ANGLE_COLUMNS)
        ]
        scaled = drawn.chance(Number.SCALE, config.scale)
        scale = jnp.where(scaled, drawn.within(Number.SCALE_FACTOR, scales), 1.0)
        if config.across_slices:
            matrix = deformation.rotation_about_axes(angles)
        else:
            patch, offset, matrix = patch[1:], offset[1:], deformation.rotation_within(angles[0])
        found = deformation.affine(patch, offset, matrix, scale)
        if config.elastic > 0:
            points = (len(patch), *deformation.control_points(patch, config.elastic_spacing))
            bent = drawn.chance(Number.ELASTIC, config.elastic)
            moves = jnp.where(bent, config.elastic_deviation * drawn.normal(Draw.ELASTIC, points), 0.0)
            found = found + deformation.displacement(moves, patch, config.elastic_spacing)
        return found

    def resample(cropped: Array, whole: Array, place: Array, offset: Array, function: deformation.Resample) -> Array:
        """Of one sample, [T, H, W, M], at `coordinates`; what it is where nothing is moved says its shape."""
        if config.across_slices:
            return function(whole, place, config.padding)
        some = lax.dynamic_slice_in_dim(whole, offset[0], cropped.shape[0], axis=0)
        beside = jnp.moveaxis(some, 0, 2)  # [H, W, T, M]
        joined = function(beside.reshape(*beside.shape[:2], -1), place, config.padding)
        return jnp.moveaxis(joined.reshape(*joined.shape[:2], *beside.shape[2:]), 2, 0)

    def geometry(drawn: Drawn, pictures: Pictures, patch: Size) -> Pictures:
        images, labels = pictures
        offsets = _offsets(drawn, images.shape[1:4], patch)
        wholes = (images,) if labels is None else (images, labels[..., None])
        found = tuple(jax.vmap(lambda x, first: _cropped(x, first, patch))(whole, offsets) for whole in wholes)
        if resampled:
            moved = (
                drawn.chance(Number.ROTATION, config.rotation)
                | drawn.chance(Number.SCALE, config.scale)
                | drawn.chance(Number.ELASTIC, config.elastic)
            )
            places = jax.vmap(lambda d, first: coordinates(d, first, patch))
            shape = jax.eval_shape(places, drawn, offsets).shape
            # Conditions of the whole batch: what no sample needs is not computed, and what one computes is not computed
            # again for each of its uses, as XLA's fusion would.
            some = jnp.any(moved)
            place = lax.cond(some, places, lambda d, first: jnp.zeros(shape, jnp.float32), drawn, offsets)
            functions = (deformation.linear, deformation.nearest)

            def resample_all(place: Array, found: tuple[Array, ...]) -> tuple[Array, ...]:
                return tuple(
                    _where(
                        moved,
                        jax.vmap(lambda c, x, p, first, function=function: resample(c, x, p, first, function))(
                            cropped, whole, place, offsets
                        ),
                        cropped,
                    )
                    for cropped, whole, function in zip(found, wholes, functions, strict=False)
                )

            found = lax.cond(some, resample_all, lambda place, found: found, place, found)
        for axis, number, probability in flips:
            if probability > 0:
                flipped = drawn.chance(number, probability)
                found = tuple(_where(flipped, jnp.flip(one, axis), one) for one in found)
        return found[0], None if labels is None else found[1][..., 0]

    return geometry


def _offsets(drawn: Drawn, size: Size, patch: Size) -> Array:
    """The first slice, row and column of each sample's patch, one as likely as another: int32 [B, 3]."""
    most = jnp.array(size, jnp.int32) - jnp.array(patch, jnp.int32)
    number = drawn.numbers[:, Number.FIRST_SLICE : Number.FIRST_COLUMN + 1]
    return jnp.minimum(jnp.floor(number * (most + 1)).astype(jnp.int32), most)


def _cropped(picture: Array, first: Array, patch: Size) -> Array:
    return lax.dynamic_slice(picture, (first[0], first[1], first[2], jnp.int32(0)), (*patch, picture.shape[-1]))


def _where(chosen: Array, changed: Array, image: Array) -> Array:
    """Of each sample, bool [B], one or the other."""
    return jnp.where(chosen.reshape(-1, *(1,) * (image.ndim - 1)), changed, image)
