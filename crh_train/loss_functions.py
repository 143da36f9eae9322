"""Losses: prediction and target to one float32. Pure functions; the means are `reduction.fixed_axis_mean`.

They do not average over micro-batches (the engine does) and do not clip. Prediction and target are tokens float32
[B, T, h, w, C], but for cross entropy. Gradients are finite everywhere, at equal inputs and zero fields too. Each
checks the shapes when it is traced, because arrays of other shapes could silently broadcast.
"""

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from crh_train.chromatic import ChromaticTensor, central_difference, energy, to_chromatic_tensor
from crh_train.config import (
    ChromaticCoherenceConfig,
    CrossEntropyConfig,
    DiceCrossEntropyConfig,
    L1Config,
    MseConfig,
    StructuralConfig,
    TemporalSmoothnessConfig,
)
from crh_train.errors import ConfigError
from crh_train.reduction import fixed_axis_mean, fixed_axis_sum
from crh_train.types import Loss


def make_mse(config: MseConfig) -> Loss:
    """mean((y − ŷ)²) over all elements.

    Raises (when traced):
      ConfigError: prediction and target of different shapes.
    """

    def mse(prediction: Array, target: Array) -> Array:
        _require_shape("mse", prediction, target.shape)
        return _mean_square(prediction - target)

    return mse


def make_l1(config: L1Config) -> Loss:
    """mean(|y − ŷ|) over all elements, with slope 0 where they are equal. What fastMRI's U-Net is trained with.

    Raises (when traced):
      ConfigError: prediction and target of different shapes.
    """

    def l1(prediction: Array, target: Array) -> Array:
        _require_shape("l1", prediction, target.shape)
        error = prediction - target
        return fixed_axis_mean(error * lax.stop_gradient(jnp.sign(error)))  # the slope of JAX's abs at 0 is 1

    return l1


def make_cross_entropy(config: CrossEntropyConfig) -> Loss:
    """mean(−Σ_k y_k log softmax(ŷ)_k), y the one-hot class: logits float32 [B, T, h, w, K], target int32 [B, T, h, w];
    or [B, K] and [B].

    The logarithm of the softmax is optax's, which subtracts the largest logit. One-hot, and not a gather, because
    a gather's gradient is a scatter, whose additions a GPU orders as they come. A class outside 0 … K − 1 makes the
    loss NaN, which stops the run.

    Raises (when traced):
      ConfigError: a target that is not one integer class for each token.
    """

    def cross_entropy(logits: Array, target: Array) -> Array:
        if not jnp.issubdtype(target.dtype, jnp.integer):
            raise ConfigError(f"loss={config.name} expects integer classes, got {target.dtype}: choose task=tissue")
        _require_shape(config.name, target, logits.shape[:-1])
        classes = logits.shape[-1]
        losses = optax.softmax_cross_entropy(logits, jax.nn.one_hot(target, classes, dtype=jnp.float32))
        return fixed_axis_mean(jnp.where((target >= 0) & (target < classes), losses, jnp.nan))

    return cross_entropy


def make_dice_cross_entropy(config: DiceCrossEntropyConfig) -> Loss:
    """Soft Dice and cross entropy: logits float32 [B, T, h, w, K], target int32 [B, T, h, w]. With p = softmax(ŷ) and y
    the one-hot class:

        L = λ_d · mean over samples and classes of (1 − (2 Σ p y + s) / (Σ p + Σ y + s)) + λ_c · cross entropy

    λ_d = `dice_weight`, λ_c = `cross_entropy_weight`, s = `smooth`; Σ is over the pixels of a sample, or with
    `batch_dice` of all of the batch. Without `include_background` the mean leaves out class 0. A class that is neither
    there nor predicted costs nothing. It is MONAI's `DiceCELoss(softmax=True, to_onehot_y=True, smooth_nr=s,
    smooth_dr=s, batch=…, include_background=…)`, and nnU-Net's `DC_and_CE_loss` plus λ_d. Milletari et al., V-Net, 3DV
    2016; Isensee et al., nnU-Net, Nature Methods 18, 2021.

    Raises (when traced):
      ConfigError: a target that is not one integer class for each token.
    """
    cross_entropy = make_cross_entropy(CrossEntropyConfig(name=config.name))

    def dice_cross_entropy(logits: Array, target: Array) -> Array:
        entropy = cross_entropy(logits, target)
        first = 0 if config.include_background else 1

        def by_class(values: Array) -> Array:
            """The sums of [B, T, h, w, K] over pixels: [B or 1, classes]."""
            moved = jnp.moveaxis(values[..., first:], -1, 0)
            whole = moved[:, None] if config.batch_dice else moved
            return fixed_axis_sum(whole, whole.ndim - 2).T

        probability = jax.nn.softmax(logits, axis=-1)
        truth = jax.nn.one_hot(target, logits.shape[-1], dtype=jnp.float32)
        overlap, sizes = by_class(probability * truth), by_class(probability + truth)
        dice = (2.0 * overlap + config.smooth) / (sizes + config.smooth)
        return config.dice_weight * fixed_axis_mean(1.0 - dice) + config.cross_entropy_weight * entropy

    return dice_cross_entropy


def make_structural(config: StructuralConfig) -> Loss:
    """Edge-weighted and edge-preserving loss for images, from Charbonnier's penalty ρ(x) = √(x² + ε²) − ε:

        L = mean((1 + λ_e · e) · ρ(ŷ − y)) + λ_g · (mean ρ(∂_rows(ŷ − y)) + mean ρ(∂_columns(ŷ − y)))
        e = m / (max m + ε),   m = √(‖∇y‖² + ε²) − ε

    λ_e = `edge_weight`, λ_g = `gradient_weight`, ε = `epsilon`. ∂ is the difference to the next token. ‖∇y‖ is the
    target's gradient by central differences and the maximum that of its slice and channel, so e is in [0, 1): an
    edge counts up to 1 + λ_e times. ρ is |x| for |x| ≫ ε, which keeps edges sharp where a square blurs them, and smooth
    at zero; it is computed as x² / (√(x² + ε²) + ε), where nothing cancels. Charbonnier et al., ICIP 1994.

    Neighbours are tokens and channels do not mix. With `tokenizer.patch` p > 1 a difference is therefore between
    pixels p apart, so edges are seen at that coarser scale: use patch 1 for the pixel's own.

    Raises (when traced):
      ConfigError: different shapes, or fewer than 2×2 tokens.
    """
    epsilon = config.epsilon

    def penalty(square: Array) -> Array:
        return square / (jnp.sqrt(square + epsilon * epsilon) + epsilon)

    def structural(prediction: Array, target: Array) -> Array:
        _require_shape("structural", prediction, target.shape)
        if target.shape[2] < 2 or target.shape[3] < 2:
            raise ConfigError(
                f"loss=structural expects at least 2×2 tokens, got {target.shape[2]}×{target.shape[3]}:"
                " change data.shape or tokenizer.patch"
            )
        down, across = central_difference(target, 2), central_difference(target, 3)
        magnitude = penalty(down * down + across * across)
        edge = magnitude / (jnp.max(magnitude, axis=(2, 3), keepdims=True) + epsilon)
        error = prediction - target
        fidelity = fixed_axis_mean((1.0 + config.edge_weight * edge) * penalty(error * error))
        error_down = error[:, :, 1:] - error[:, :, :-1]
        error_across = error[:, :, :, 1:] - error[:, :, :, :-1]
        gradient = fixed_axis_mean(penalty(error_down * error_down)) + fixed_axis_mean(
            penalty(error_across * error_across)
        )
        return fidelity + config.gradient_weight * gradient

    return structural


def make_chromatic_coherence(config: ChromaticCoherenceConfig) -> Loss:
    """Fidelity of the colours, and a penalty on discontinuity of the predicted colour field F̂:

        L = λ_f · mean((F̂ − F)²) + λ_c · mean over samples of E(F̂, certainty of F) / cells

    E is `chromatic.energy` with λ_tv = `variation_weight`, λ_sat = `saturation_weight` and `epsilon`; λ_f =
    `fidelity_weight`, λ_c = `coherence_weight`. The certainty is the target's: it is low at true edges, which are so
    not smoothed away, and a model cannot escape the penalty by doubting. The predicted certainty enters nowhere and
    gets no gradient. E sums over neighbours; dividing it by rows × columns × layers frees λ_c from the image's size.

    Raises (when traced):
      ConfigError: different shapes, or tokens that are not chromatic.
    """

    def chromatic_coherence(prediction: Array, target: Array) -> Array:
        _require_shape("chromatic_coherence", prediction, target.shape)
        predicted, true = to_chromatic_tensor(prediction), to_chromatic_tensor(target)
        energies = energy(
            ChromaticTensor(predicted.colours, true.certainty),
            config.variation_weight,
            config.saturation_weight,
            config.epsilon,
        )
        cells = true.certainty.size // energies.size
        fidelity = _mean_square(predicted.colours - true.colours)
        return config.fidelity_weight * fidelity + config.coherence_weight * (fixed_axis_mean(energies) * (1.0 / cells))

    return chromatic_coherence


def make_temporal_smoothness(config: TemporalSmoothnessConfig) -> Loss:
    """Fidelity, and a penalty on an error that jitters along the sequence of slices. With r = ŷ − y:

        L = λ_f · mean(r²) + λ_s · mean((r[t+1] − 2 r[t] + r[t−1])²)

    λ_f = `fidelity_weight`, λ_s = `smoothness_weight`; the second mean is over t = 1 … T − 2. It is the second
    difference of the error and not of the prediction: anatomy does bend from slice to slice, and a recurrent model
    should follow it, so a right answer costs nothing. What is punished is what flickers on top of the anatomy.

    Raises (when traced):
      ConfigError: different shapes, or fewer than three slices in a sample.
    """

    def temporal_smoothness(prediction: Array, target: Array) -> Array:
        _require_shape("temporal_smoothness", prediction, target.shape)
        if target.shape[1] < 3:
            raise ConfigError(
                f"loss=temporal_smoothness expects at least 3 slices in a sample, got {target.shape[1]}:"
                " raise data.slices"
            )
        error = prediction - target
        bend = (error[:, 2:] - error[:, 1:-1]) - (error[:, 1:-1] - error[:, :-2])
        return config.fidelity_weight * _mean_square(error) + config.smoothness_weight * _mean_square(bend)

    return temporal_smoothness


def _mean_square(values: Array) -> Array:
    return fixed_axis_mean(values * values)


def _require_shape(loss: str, found: Array, expected: tuple[int, ...]) -> None:
    if found.shape != expected:
        raise ConfigError(
            f"loss={loss} expects prediction and target to match, got {list(found.shape)} instead of {list(expected)}:"
            " check that loss, task and tokenizer go together"
        )
