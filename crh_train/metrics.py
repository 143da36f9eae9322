"""Numbers about a run: compensated sums, gradient norms, and image and class metrics.

Pure float32 functions without masks or padding: every element counts. They decide nothing and write nothing; the
coherence of colour fields is in `chromatic.py`, running averages on the host are in `averages.py`.

Convention of the image metrics, fastMRI's (Zbontar et al., fastMRI: An Open Dataset and Benchmarks for Accelerated
MRI, 2018): a volume is [slices, H, W], one number comes out of a volume, and the range of the data is the maximum of
the target volume. Validation averages over volumes, not over pixels of all of them.

Every function of a prediction and a target raises `UsageError` where their shapes differ: broadcasting one against
the other would give a number, and a wrong one.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from crh_train.errors import UsageError

SSIM_WINDOW = 7  # pixels along each side
SSIM_K1 = 0.01
SSIM_K2 = 0.03


# --- compensated sums ----------------------------------------------------------------------------------------------


def kahan_add(total: Array, compensation: Array, value: Array) -> tuple[Array, Array]:
    """Add `value` to `total`; `compensation` is what the total has too much by rounding. Start both from zero.

    Source: Kahan, Further remarks on reducing truncation errors, 1965. The error does not grow with the number of
    terms. XLA keeps the order of float operations as written; under its fast-math flags the compensation would vanish.
    """
    corrected = value - compensation
    new_total = total + corrected
    return new_total, (new_total - total) - corrected


def accumulate(total_tree: Any, compensation_tree: Any, tree: Any) -> tuple[Any, Any]:
    """`kahan_add` leaf by leaf over three trees of one structure: a micro-batch's gradients onto those before it.

    Start both from zeros. Called once per micro-batch in index order; the mean is the totals over their number.
    """
    sums = jax.tree.map(kahan_add, total_tree, compensation_tree, tree)
    totals, compensations = jax.tree.transpose(jax.tree.structure(tree), jax.tree.structure((0, 0)), sums)
    return totals, compensations


# --- gradient norms, coherence -------------------------------------------------------------------------------------


def leaf_norms(tree: Any) -> Array:
    """Euclidean norm of each leaf, float32 [leaves], in JAX's order of leaves: by sorted key.

    Finite wherever the norm is a float32, however large or small the entries; a non-finite entry gives a non-finite
    norm.
    """
    return jnp.stack([_norm(leaf) for leaf in jax.tree.leaves(tree)])


def global_norm(leaf_norms: Array) -> Array:
    """Norm over all leaves from `leaf_norms` [leaves], their squares added from the first to the last; float32 []."""
    factor = _moderate(leaf_norms)
    total = jnp.zeros([], jnp.float32)
    for norm in leaf_norms * factor:
        total = total + norm * norm
    return jnp.sqrt(total) / factor


def coherence_cosine(prediction: Array, target: Array) -> Array:
    """Cosine similarity over all elements, ⟨p, t⟩ / (‖p‖ ‖t‖), float32 [] in [−1, 1].

    1 where both are zero everywhere, 0 where just one is. For class targets, of probabilities and one-hot targets.
    """
    _require_same_shape(prediction, target)
    prediction, target = prediction * _moderate(prediction), target * _moderate(target)
    squares = jnp.sum(prediction * prediction), jnp.sum(target * target)
    norms = jnp.sqrt(squares[0]) * jnp.sqrt(squares[1])
    cosine = jnp.clip(jnp.sum(prediction * target) / jnp.where(norms == 0, 1.0, norms), -1.0, 1.0)
    return jnp.where((squares[0] == 0) & (squares[1] == 0), 1.0, cosine)


# --- images --------------------------------------------------------------------------------------------------------


def mse(prediction: Array, target: Array) -> Array:
    """Mean squared error over all elements, any shape; float32 []."""
    _require_same_shape(prediction, target)
    return jnp.mean(jnp.square(prediction - target))


def nmse(prediction: Array, target: Array) -> Array:
    """Normalised mean squared error of a volume [slices, H, W], ‖t − p‖² / ‖t‖² (fastMRI); float32 [].

    Not finite where the target is zero everywhere.
    """
    _require_same_shape(prediction, target)
    return jnp.sum(jnp.square(target - prediction)) / jnp.sum(jnp.square(target))


def psnr(prediction: Array, target: Array) -> Array:
    """Peak signal-to-noise ratio of a volume [slices, H, W], 10 log₁₀(max(t)² / mse), dB (fastMRI); float32 [].

    The maximum and the mean are the whole volume's. Infinite where the two are equal.
    """
    return 10 * jnp.log10(jnp.square(jnp.max(target)) / mse(prediction, target))


def ssim(prediction: Array, target: Array) -> Array:
    """Structural similarity of each slice of a volume [slices, H, W], averaged over slices (fastMRI); float32 [].

    With means μ, sample variances σ² and covariance over a 7×7 uniform window (scikit-image's default), R the volume's
    maximum, C₁ = (0.01 R)² and C₂ = (0.03 R)²:

        (2 μₚμₜ + C₁)(2 σₚₜ + C₂) / ((μₚ² + μₜ² + C₁)(σₚ² + σₜ² + C₂))

    averaged over the windows that lie wholly inside the slice. NaN where the target's maximum is zero.
    Source: Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004.

    Raises:
        UsageError: if the shapes differ, or a slice is smaller than the window.
    """
    _require_same_shape(prediction, target)
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
    return jnp.mean(luminance * (2 * covariance + c2) / (variance_p + variance_t + c2))


# --- classes -------------------------------------------------------------------------------------------------------


def accuracy(predicted: Array, target: Array) -> Array:
    """Fraction of elements of the same class: int32 classes of any shape, float32 []."""
    _require_same_shape(predicted, target)
    return jnp.sum(predicted == target, dtype=jnp.int32) / target.size


def f1_macro(predicted: Array, target: Array, classes: int) -> Array:
    """F1 of each class, 2 TP / (2 TP + FP + FN), averaged without weights; float32 [].

    int32 classes in [0, `classes`) of any shape, all elements pooled. scikit-learn's convention (`average="macro"`,
    `zero_division=0`): a class that is in neither of the two is left out of the average, one that is in only one of
    them counts with 0.
    """
    _require_same_shape(predicted, target)
    predicted_k, target_k = (x.reshape(-1, 1) == jnp.arange(classes) for x in (predicted, target))
    both = jnp.sum(predicted_k & target_k, axis=0, dtype=jnp.int32)
    either = jnp.sum(predicted_k, axis=0, dtype=jnp.int32) + jnp.sum(target_k, axis=0, dtype=jnp.int32)
    f1 = 2 * both / jnp.maximum(either, 1)
    return jnp.sum(f1) / jnp.sum(either > 0)


def _moderate(x: Array) -> Array:
    """A power of two that brings the largest magnitude in `x` between 2^-48 and 2^48, float32 [].

    Squares of what is multiplied by it, and sums of them, neither overflow nor vanish; being a power of two it rounds
    nothing, and for ordinary values it is 1. (Dividing by the largest magnitude would round, and XLA may multiply by
    its reciprocal, which is flushed to zero for the largest numbers.)
    """
    largest = jnp.max(jnp.abs(x), initial=0.0)
    return jnp.where(largest > 2.0**48, 2.0**-96, jnp.where(largest < 2.0**-48, 2.0**96, 1.0))


def _norm(x: Array) -> Array:
    factor = _moderate(x)
    return jnp.sqrt(jnp.sum(jnp.square(x * factor))) / factor


def _window_mean(x: Array) -> Array:
    """[slices, H, W] -> [slices, H − 6, W − 6]"""
    window = (1, SSIM_WINDOW, SSIM_WINDOW)
    total: Array = lax.reduce_window(x, 0.0, lax.add, window, (1, 1, 1), "VALID")
    return total / SSIM_WINDOW**2


def _require_same_shape(prediction: Array, target: Array) -> None:
    if prediction.shape != target.shape:
        raise UsageError(
            f"a metric expects prediction and target of one shape, got {list(prediction.shape)} and "
            f"{list(target.shape)}: bring the model's output to the target's shape"
        )
