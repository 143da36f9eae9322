"""How near an image is to another. Pure float32 functions.

Convention, fastMRI's (Zbontar et al., fastMRI: An Open Dataset and Benchmarks for Accelerated MRI, 2018): a volume is
[slices, H, W], one number comes out of a volume, and the range of the data is the maximum of the target volume, for
each of its slices too. The channels of a slice count as slices.

`valid`, bool [slices], says which slices count; the others are there so that volumes of unlike lengths have one shape,
and repeat a slice that counts. Every function raises `UsageError` where the shapes of prediction and target differ.
"""

import jax.numpy as jnp
from jax import Array, lax

from crh_train.errors import UsageError
from crh_train.metrics.shapes import require_same_shape

SSIM_WINDOW = 7  # pixels along each side
SSIM_K1 = 0.01
SSIM_K2 = 0.03


def mse(prediction: Array, target: Array, valid: Array | None = None) -> Array:
    """Mean squared error over all elements, any shape; float32 []."""
    require_same_shape(prediction, target)
    return _mean(jnp.square(prediction - target), valid)


def nmse(prediction: Array, target: Array, valid: Array | None = None) -> Array:
    """Normalised mean squared error of a volume [slices, H, W], ‖t − p‖² / ‖t‖² (fastMRI); float32 [].

    Not finite where the target is zero everywhere.
    """
    require_same_shape(prediction, target)
    error, norm = (_counting(jnp.square(x), valid) for x in (target - prediction, target))
    return jnp.sum(error) / jnp.sum(norm)


def psnr(prediction: Array, target: Array, valid: Array | None = None) -> Array:
    """Peak signal-to-noise ratio of a volume [slices, H, W], 10 log₁₀(max(t)² / mse), dB (fastMRI); float32 [].

    The maximum and the mean are the whole volume's. Infinite where the two are equal.
    """
    return 10 * jnp.log10(jnp.square(jnp.max(target)) / mse(prediction, target, valid))


def psnr_by_slice(prediction: Array, target: Array) -> Array:
    """`psnr` of each slice's own error; the maximum is the whole volume's. float32 [slices]"""
    require_same_shape(prediction, target)
    error = jnp.mean(jnp.square(prediction - target), axis=(1, 2))
    return 10 * jnp.log10(jnp.square(jnp.max(target)) / error)


def ssim(prediction: Array, target: Array, valid: Array | None = None) -> Array:
    """Structural similarity of each slice of a volume [slices, H, W], averaged over slices (fastMRI); float32 [].

    With means μ, sample variances σ² and covariance over a 7×7 uniform window (scikit-image's default), R the volume's
    maximum, C₁ = (0.01 R)² and C₂ = (0.03 R)²:

        (2 μₚμₜ + C₁)(2 σₚₜ + C₂) / ((μₚ² + μₜ² + C₁)(σₚ² + σₜ² + C₂))

    averaged over the windows that lie wholly inside the slice. NaN where the target's maximum is zero.
    Source: Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004.

    Raises:
        UsageError: if the shapes differ, or a slice is smaller than the window.
    """
    return _mean(_similarity(prediction, target), valid)


def ssim_by_slice(prediction: Array, target: Array) -> Array:
    """What `ssim` averages: float32 [slices]. Raises as `ssim` does."""
    return jnp.mean(_similarity(prediction, target), axis=(1, 2))


def _similarity(prediction: Array, target: Array) -> Array:
    """[slices, H, W] -> [slices, H − 6, W − 6], a similarity for each window."""
    require_same_shape(prediction, target)
    if target.ndim != 3 or min(target.shape[1:]) < SSIM_WINDOW:
        raise UsageError(
            f"ssim expects a volume [slices, H, W] with H and W at least {SSIM_WINDOW}, got {list(target.shape)}: "
            "choose larger slices (data.shape)"
        )
    maximum = jnp.max(target)
    c1, c2 = jnp.square(SSIM_K1 * maximum), jnp.square(SSIM_K2 * maximum)
    sample = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    mean_p, mean_t = _window_mean(prediction), _window_mean(target)
    variance_p = sample * (_window_mean(prediction * prediction) - mean_p * mean_p)
    variance_t = sample * (_window_mean(target * target) - mean_t * mean_t)
    covariance = sample * (_window_mean(prediction * target) - mean_p * mean_t)
    luminance = (2 * mean_p * mean_t + c1) / (mean_p * mean_p + mean_t * mean_t + c1)
    return luminance * (2 * covariance + c2) / (variance_p + variance_t + c2)


def _window_mean(x: Array) -> Array:
    """[slices, H, W] -> [slices, H − 6, W − 6]"""
    window = (1, SSIM_WINDOW, SSIM_WINDOW)
    total: Array = lax.reduce_window(x, 0.0, lax.add, window, (1, 1, 1), "VALID")
    return total / SSIM_WINDOW**2


def _counting(x: Array, valid: Array | None) -> Array:
    """`x` with zeros in the slices that do not count."""
    return x if valid is None else jnp.where(valid.reshape(-1, *[1] * (x.ndim - 1)), x, 0.0)


def _mean(x: Array, valid: Array | None) -> Array:
    if valid is None:
        return jnp.mean(x)
    count = jnp.sum(valid, dtype=jnp.int32) * (x.size // len(valid))
    return jnp.sum(_counting(x, valid)) / count
