"""Geometry of pictures: where each pixel of the result comes from, and one resampling. Pure JAX; draws nothing.

D axes take part, 2 (rows, columns) or 3 (slices before them); coordinates are pixels, counted from 0 along each axis of
what is resampled. What is not moved keeps its bits: by a rotation of 0°, a scale of 1 and a displacement of 0, every
coordinate is a whole number, of which linear interpolation gives the pixel itself.
"""

import itertools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Resample = Callable[[Array, Array, str], Array]
"""pictures [*spatial, R], coordinates [D, *shape], padding -> [*shape, R]: `linear` or `nearest`."""


def affine(shape: Sequence[int], offset: Array, rotation: Sequence[Sequence[Array]], scale: Array) -> Array:
    """Coordinates of a patch [*shape] that is seen from `offset` on, turned and enlarged about its own centre: float32
    [D, *shape].

    Args:
      offset: of the patch within what is resampled, int32 [D].
      rotation: D × D, orthonormal.
      scale: by which things grow, float32 [].
    """
    relative = [lax.broadcasted_iota(jnp.float32, shape, axis) - (size - 1) / 2 for axis, size in enumerate(shape)]
    coordinates = []
    for axis, (row, size) in enumerate(zip(rotation, shape, strict=True)):
        turned = row[0] / scale * relative[0]
        for factor, distance in zip(row[1:], relative[1:], strict=True):
            turned = turned + factor / scale * distance
        coordinates.append(turned + ((size - 1) / 2 + offset[axis].astype(jnp.float32)))
    return jnp.stack(coordinates)


def rotation_within(angle: Array) -> list[list[Array]]:
    """By `angle`, float32 [] in radians, within rows and columns: 2 × 2."""
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    return [[cosine, -sine], [sine, cosine]]


def rotation_about_axes(angles: Sequence[Array]) -> list[list[Array]]:
    """By three angles in radians, about the axis of the slices, then of the rows, then of the columns: 3 × 3."""
    product: list[list[Array]] | None = None
    one, zero = jnp.float32(1.0), jnp.float32(0.0)
    for axis, angle in enumerate(angles):
        within = rotation_within(angle)
        others = [other for other in range(3) if other != axis]
        turn = [[one if i == j else zero for j in range(3)] for i in range(3)]
        for (i, row), (j, column) in itertools.product(enumerate(others), repeat=2):
            turn[row][column] = within[i][j]
        product = turn if product is None else _times(turn, product)
    assert product is not None
    return product


def _times(left: Sequence[Sequence[Array]], right: Sequence[Sequence[Array]]) -> list[list[Array]]:
    return [
        [left[i][0] * right[0][j] + left[i][1] * right[1][j] + left[i][2] * right[2][j] for j in range(3)]
        for i in range(3)
    ]


def control_points(shape: Sequence[int], spacing: float) -> tuple[int, ...]:
    """How many points of a coarse grid, `spacing` pixels apart, decide on the displacement within a patch [*shape]."""
    return tuple(int((size - 1) / spacing) + 4 for size in shape)


def displacement(points: Array, shape: Sequence[int], spacing: float) -> Array:
    """The uniform cubic B-spline through the plane of a coarse grid: float32 [D, *control_points] -> [D, *shape].

    Free-form deformation: Rueckert et al., IEEE TMI 18, 1999. It has continuous second derivatives, and is nowhere
    larger than the largest of its points.
    """
    for axis, size in enumerate(shape, start=1):
        weights = _spline_weights(size, spacing)
        moved = jnp.tensordot(points, weights, axes=((axis,), (1,)), precision=lax.Precision.HIGHEST)
        points = jnp.moveaxis(moved, -1, axis)
    return points


def _spline_weights(size: int, spacing: float) -> np.ndarray:
    """float32 [size, points]: what each point counts at each pixel; host arithmetic of IEEE's four operations alone."""
    (count,) = control_points([size], spacing)
    weights = np.zeros((size, count))
    for pixel in range(size):
        first, t = divmod(pixel / spacing, 1.0)
        basis = ((1 - t) * (1 - t) * (1 - t), (3 * t - 6) * t * t + 4, ((3 - 3 * t) * t + 3) * t + 1, t * t * t)
        weights[pixel, int(first) : int(first) + 4] = [value / 6 for value in basis]
    return weights.astype(np.float32)


def linear(pictures: Array, coordinates: Array, padding: str) -> Array:
    """`pictures` float32 [*spatial, R] at `coordinates` [D, *shape], by linear interpolation: [*shape, R].

    Outside lie zeros, with `padding` "edge" the nearest pixel's values.
    """
    inside = _bounded(coordinates, pictures.shape, padding)
    lower = [jnp.floor(coordinate) for coordinate in inside]
    fractions = [(coordinate - floor)[..., None] for coordinate, floor in zip(inside, lower, strict=True)]
    starts = [floor.astype(jnp.int32) for floor in lower]
    corners = [
        _taken(pictures, [start + step for start, step in zip(starts, steps, strict=True)])
        for steps in itertools.product((0, 1), repeat=len(starts))
    ]
    for fraction in reversed(fractions):  # the last axis' neighbours lie side by side
        pairs = zip(corners[::2], corners[1::2], strict=True)
        corners = [near + fraction * (far - near) for near, far in pairs]
    return corners[0]


def nearest(pictures: Array, coordinates: Array, padding: str) -> Array:
    """`pictures` of any type [*spatial, R] at the pixel nearest to `coordinates`, the later of two: [*shape, R]."""
    inside = _bounded(coordinates, pictures.shape, padding)
    return _taken(pictures, [jnp.floor(coordinate + 0.5).astype(jnp.int32) for coordinate in inside])


def _bounded(coordinates: Array, shape: Sequence[int], padding: str) -> list[Array]:
    """So that no index overflows; one pixel outside is as far as any."""
    beyond = {"zero": 1.0, "edge": 0.0}[padding]
    return [
        jnp.clip(coordinate, -beyond, size - 1 + beyond) for coordinate, size in zip(coordinates, shape, strict=False)
    ]


def _taken(pictures: Array, indices: Sequence[Array]) -> Array:
    """The pixels at whole coordinates, zeros outside."""
    sizes = pictures.shape[: len(indices)]
    position, valid = jnp.int32(0), jnp.bool_(True)
    for index, size in zip(indices, sizes, strict=True):
        position = position * size + jnp.clip(index, 0, size - 1)
        valid = valid & (index >= 0) & (index < size)
    flat = pictures.reshape(-1, pictures.shape[-1])
    found = flat.at[position].get(mode="promise_in_bounds")
    return jnp.where(valid[..., None], found, jnp.zeros((), pictures.dtype))
