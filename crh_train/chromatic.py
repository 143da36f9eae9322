"""Mathematics of the ChromaticTensor: an RGB field with a certainty for each cell, its energy, hue and coherence.

It knows nothing of images (`tokenizer.py` makes fields from them) or of training (`loss_functions.py`, `metrics.py`).
The definitions are those of "Chromatic terms" in the related specifications. `epsilon` smooths what is not smooth at
zero; it is small against 1, the colours' range, and the specification's definition is the limit at zero.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from crh_train.errors import ConfigError
from crh_train.reduction import fixed_axis_sum

CHANNELS = 4  # of a token: red, green, blue, certainty
DISCONTINUITY = 0.3  # a jump between neighbours over this counts as one


class ChromaticTensor(NamedTuple):
    """A colour field. `layers` are the consecutive slices of a sample; leading axes are batch axes."""

    colours: Array  # float32 [..., rows, cols, layers, 3], in [0, 1]
    certainty: Array  # float32 [..., rows, cols, layers], in [0, 1]


def to_chromatic_tensor(tokens: Array) -> ChromaticTensor:
    """Tokens float32 [B, T, h, w, 4] as colours [B, h, w, T, 3] and certainty [B, h, w, T]; moves bits, rounds nothing.

    Raises:
      ConfigError: tokens without exactly four channels, so not from the chromatic tokenizer.
    """
    if tokens.ndim != 5 or tokens.shape[-1] != CHANNELS:
        raise ConfigError(
            f"chromatic terms expect tokens [B, T, h, w, {CHANNELS}], got {list(tokens.shape)}:"
            " choose tokenizer=chromatic"
        )
    field = jnp.moveaxis(tokens, 1, 3)
    return ChromaticTensor(field[..., :3], field[..., 3])


def to_tokens(field: ChromaticTensor) -> Array:
    """The inverse of `to_chromatic_tensor`."""
    return jnp.moveaxis(jnp.concatenate([field.colours, field.certainty[..., None]], axis=-1), 3, 1)


def central_difference(values: Array, axis: int) -> Array:
    """(x[i+1] − x[i−1]) / 2 along `axis` (from the front), the border replicated: same shape, values per cell."""
    count = values.shape[axis]
    border = [(1, 1) if other == axis else (0, 0) for other in range(values.ndim)]
    padded = jnp.pad(values, border, mode="edge")
    following = lax.slice_in_dim(padded, 2, count + 2, axis=axis)
    preceding = lax.slice_in_dim(padded, 0, count, axis=axis)
    return (following - preceding) * 0.5


def jumps(colours: Array) -> tuple[Array, Array]:
    """Steps to the next row, [..., rows − 1, cols, layers, 3], and to the next column, [..., cols − 1, layers, 3]."""
    return colours[..., 1:, :, :, :] - colours[..., :-1, :, :, :], colours[..., 1:, :, :] - colours[..., :-1, :, :]


def saturation(colours: Array, epsilon: float) -> Array:
    """s = (max − min) · max / (max² + ε²) over the channels, clipped to [0, 1]: float32 [..., 3] -> [...], in [0, 1].

    For max ≫ ε > 0 this is HSV's (max − min) / max. It falls to 0 at black, where that has no limit.
    """
    clipped = jnp.clip(colours, 0.0, 1.0)
    largest = jnp.max(clipped, axis=-1)
    smallest = jnp.min(clipped, axis=-1)
    return (largest - smallest) * largest / (largest * largest + epsilon * epsilon)


def hue(colours: Array) -> Array:
    """HSV hue in degrees, [0, 360]; 0 for grey, which has none. float32 [..., 3] -> float32 [...].

    With d = max − min: 60·(g − b)/d where red is largest (plus 360 if negative), 60·(b − r)/d + 120 where green is,
    60·(r − g)/d + 240 where blue is; ties go to the earlier channel. A. R. Smith, Color gamut transform pairs,
    SIGGRAPH 1978.
    """
    red, green, blue = colours[..., 0], colours[..., 1], colours[..., 2]
    largest = jnp.max(colours, axis=-1)
    span = largest - jnp.min(colours, axis=-1)
    grey = span == 0
    divisor = jnp.where(grey, 1.0, span)
    from_red = 60.0 * ((green - blue) / divisor)
    from_red = jnp.where(from_red < 0, from_red + 360.0, from_red)
    from_green = 60.0 * ((blue - red) / divisor) + 120.0
    from_blue = 60.0 * ((red - green) / divisor) + 240.0
    degrees = jnp.where(red == largest, from_red, jnp.where(green == largest, from_green, from_blue))
    return jnp.where(grey, 0.0, degrees)


def energy(field: ChromaticTensor, variation_weight: float, saturation_weight: float, epsilon: float) -> Array:
    """Certainty-weighted energy of a field, float32 [...] over its batch axes; 0 or more.

        E = λ_tv · Σ c_i c_j ‖F_i − F_j‖ + λ_sat · mean(c · (sat(F) − 0.5)²)

    The sum runs over each pair of neighbours along rows and along columns (not along layers): a jump counts as far as
    both its cells are certain. With certainty 1 it is the specification's energy (λ_tv = 1, λ_sat = 0.1). The norm is
    ‖d‖²/(√(‖d‖² + ε²) + ε) = √(‖d‖² + ε²) − ε, written so that nothing cancels: 0 at 0, and smooth there.
    """
    colours, certainty = field
    down, across = jumps(colours)
    down_weight = certainty[..., 1:, :, :] * certainty[..., :-1, :, :]
    across_weight = certainty[..., 1:, :] * certainty[..., :-1, :]
    variation = fixed_axis_sum(down_weight * _smooth_norm(down, epsilon), 3) + fixed_axis_sum(
        across_weight * _smooth_norm(across, epsilon), 3
    )
    excess = saturation(colours, epsilon) - 0.5
    cells = certainty.shape[-3] * certainty.shape[-2] * certainty.shape[-1]
    mean_excess = fixed_axis_sum(certainty * (excess * excess), 3) * (1.0 / cells)
    return variation_weight * variation + saturation_weight * mean_excess


def discontinuities(colours: Array) -> Array:
    """How many neighbours along rows and columns differ by more than 0.3 (Euclidean): int32 [...] over batch axes."""
    counts = [jnp.sum(_norm(jump) > DISCONTINUITY, axis=(-3, -2, -1), dtype=jnp.int32) for jump in jumps(colours)]
    return counts[0] + counts[1]


def coherence(colours: Array) -> Array:
    """0.6 · (1 − Σ_c|mean_c − 0.5| / 1.5) + 0.4 · (1 − min(std_hue / 180°, 1)): float32 [...] over batch axes.

    In [0, 1]; colours are clipped to [0, 1] first. The standard deviation is that of the numbers in degrees (of the
    population, not circular, as the specification writes it): reds on either side of 0° count as far apart. Grey
    counts as hue 0.
    """
    clipped = jnp.clip(colours, 0.0, 1.0)
    per_cell = 1.0 / (colours.shape[-4] * colours.shape[-3] * colours.shape[-2])
    means = fixed_axis_sum(jnp.moveaxis(clipped, -1, -4), 3) * per_cell
    imbalance = jnp.sum(jnp.abs(means - 0.5), axis=-1)
    hues = hue(clipped)
    centred = hues - (fixed_axis_sum(hues, 3) * per_cell)[..., None, None, None]
    std_hue = jnp.sqrt(fixed_axis_sum(centred * centred, 3) * per_cell)
    score = 0.6 * (1.0 - imbalance / 1.5) + 0.4 * (1.0 - jnp.minimum(std_hue / 180.0, 1.0))
    return jnp.clip(score, 0.0, 1.0)  # a mean of ones may round above 1


def _norm(differences: Array) -> Array:
    return jnp.sqrt(jnp.sum(differences * differences, axis=-1))


def _smooth_norm(differences: Array, epsilon: float) -> Array:
    square = jnp.sum(differences * differences, axis=-1)
    return square / (jnp.sqrt(square + epsilon * epsilon) + epsilon)
