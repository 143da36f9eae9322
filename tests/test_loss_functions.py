"""Each loss against its formula in float64 NumPy, its zeros, finite gradients everywhere, and refusals."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crh_train import config as c
from crh_train import loss_functions as losses
from crh_train.errors import ConfigError
from crh_train.types import Loss

SHAPE = (3, 4, 6, 5, 4)  # B, T, h, w, C
GENERATOR = np.random.default_rng(0)
PREDICTION = GENERATOR.uniform(size=SHAPE).astype(np.float32)
TARGET = GENERATOR.uniform(size=SHAPE).astype(np.float32)
CLASSES = GENERATOR.integers(0, 4, SHAPE[:-1]).astype(np.int32)
EPSILON = 1e-3
BOUND = 1e-6  # relative, against float64

IMAGE_LOSSES: dict[str, Loss] = {
    "mse": losses.make_mse(c.MseConfig(name="mse")),
    "l1": losses.make_l1(c.L1Config(name="l1")),
    "structural": losses.make_structural(
        c.StructuralConfig(name="structural", edge_weight=4.0, gradient_weight=0.5, epsilon=EPSILON)
    ),
    "chromatic_coherence": losses.make_chromatic_coherence(
        c.ChromaticCoherenceConfig(
            name="chromatic_coherence",
            fidelity_weight=1.0,
            coherence_weight=0.5,
            variation_weight=1.0,
            saturation_weight=0.1,
            epsilon=1e-6,
        )
    ),
    "temporal_smoothness": losses.make_temporal_smoothness(
        c.TemporalSmoothnessConfig(name="temporal_smoothness", fidelity_weight=1.0, smoothness_weight=0.1)
    ),
}
DICE = c.DiceCrossEntropyConfig(
    name="dice_cross_entropy",
    dice_weight=0.7,
    cross_entropy_weight=0.4,
    smooth=1e-5,
    include_background=False,
    batch_dice=False,
)
CROSS_ENTROPY = losses.make_cross_entropy(c.CrossEntropyConfig(name="cross_entropy"))
JITTED = {name: jax.jit(loss) for name, loss in (IMAGE_LOSSES | {"cross_entropy": CROSS_ENTROPY}).items()}
GRADIENTS = {name: jax.jit(jax.grad(loss, (0, 1))) for name, loss in IMAGE_LOSSES.items()}


def reference_mse(p: np.ndarray, t: np.ndarray) -> float:
    return float(np.mean((p - t) ** 2))


def reference_l1(p: np.ndarray, t: np.ndarray) -> float:
    return float(np.mean(np.abs(p - t)))


def reference_structural(p: np.ndarray, t: np.ndarray) -> float:
    def rho(x: np.ndarray) -> np.ndarray:
        return np.sqrt(x**2 + EPSILON**2) - EPSILON

    def central(x: np.ndarray, axis: int) -> np.ndarray:
        padded = np.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(x.ndim)], mode="edge")
        last = padded.shape[axis]
        return (np.take(padded, range(2, last), axis) - np.take(padded, range(last - 2), axis)) / 2

    magnitude = rho(np.hypot(central(t, 2), central(t, 3)))
    edge = magnitude / (magnitude.max(axis=(2, 3), keepdims=True) + EPSILON)
    r = p - t
    gradient = np.mean(rho(np.diff(r, axis=2))) + np.mean(rho(np.diff(r, axis=3)))
    return float(np.mean((1 + 4.0 * edge) * rho(r)) + 0.5 * gradient)


def reference_chromatic_coherence(p: np.ndarray, t: np.ndarray) -> float:
    colours, certainty = p[..., :3], t[..., 3]
    energy = 0.0
    for axis in (2, 3):
        size = SHAPE[axis]
        pair = np.take(certainty, range(1, size), axis) * np.take(certainty, range(size - 1), axis)
        energy += float(np.sum(pair * np.linalg.norm(np.diff(colours, axis=axis), axis=-1)))
    saturation = (colours.max(-1) - colours.min(-1)) / colours.max(-1)
    energy += 0.1 * float(np.sum(certainty * (saturation - 0.5) ** 2)) / np.prod(SHAPE[1:4])
    return float(np.mean((colours - t[..., :3]) ** 2) + 0.5 * energy / np.prod(SHAPE[:4]))


def reference_temporal_smoothness(p: np.ndarray, t: np.ndarray) -> float:
    return float(np.mean((p - t) ** 2) + 0.1 * np.mean(np.diff(p - t, n=2, axis=1) ** 2))


REFERENCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "mse": reference_mse,
    "l1": reference_l1,
    "structural": reference_structural,
    "chromatic_coherence": reference_chromatic_coherence,
    "temporal_smoothness": reference_temporal_smoothness,
}


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_loss_is_its_formula_in_float64(name: str) -> None:
    found = JITTED[name](PREDICTION, TARGET)
    expected = REFERENCES[name](PREDICTION.astype(np.float64), TARGET.astype(np.float64))
    assert found.dtype == jnp.float32
    assert found.shape == ()
    assert abs(float(found) - expected) <= BOUND * expected


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_cross_entropy_is_its_formula_in_float64(scale: float) -> None:
    logits = scale * PREDICTION
    wide = logits.astype(np.float64)
    largest = wide.max(-1, keepdims=True)
    log_sum = np.log(np.exp(wide - largest).sum(-1)) + largest[..., 0]
    expected = np.mean(log_sum - np.take_along_axis(wide, CLASSES[..., None], -1)[..., 0])
    found = JITTED["cross_entropy"](logits, CLASSES)
    assert found.dtype == jnp.float32
    assert abs(float(found) - expected) <= BOUND * expected


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("batch", [False, True])
def test_dice_cross_entropy_is_monais_in_float64(background: bool, batch: bool) -> None:
    """monai.losses.DiceCELoss(softmax=True, to_onehot_y=True, batch=batch, include_background=background)."""
    wide = 3 * PREDICTION.astype(np.float64)
    soft = np.exp(wide) / np.exp(wide).sum(-1, keepdims=True)
    entropy = -np.mean(np.log(np.take_along_axis(soft, CLASSES[..., None], -1)))
    one_hot = np.eye(4)[CLASSES]
    p, y = (a if background else a[..., 1:] for a in (soft, one_hot))
    axes = (0, 1, 2, 3) if batch else (1, 2, 3)
    dice = 1 - (2 * np.sum(p * y, axes) + 1e-5) / (np.sum(p, axes) + np.sum(y, axes) + 1e-5)
    expected = 0.7 * dice.mean() + 0.4 * entropy
    config = dataclasses.replace(DICE, include_background=background, batch_dice=batch)
    found = jax.jit(losses.make_dice_cross_entropy(config))(3 * PREDICTION, CLASSES)
    assert found.dtype == jnp.float32
    assert abs(float(found) - expected) <= BOUND * expected


def test_dice_cross_entropy_of_a_perfect_prediction_is_nothing_and_of_even_ones_finite() -> None:
    loss = losses.make_dice_cross_entropy(dataclasses.replace(DICE, include_background=True))
    gradient = jax.jit(jax.value_and_grad(loss))
    sure = 200 * jax.nn.one_hot(CLASSES, 4)
    assert float(gradient(sure, CLASSES)[0]) == 0
    absent = jnp.zeros_like(CLASSES)  # of classes 1 to 3 there is none, and none is predicted: smooth / smooth
    assert float(gradient(200 * jax.nn.one_hot(absent, 4), absent)[0]) == 0
    for logits in (jnp.zeros(SHAPE), jnp.full(SHAPE, 1e4), jnp.zeros(SHAPE).at[..., 0].set(1e4), sure):
        value, slope = gradient(logits, CLASSES)
        assert np.isfinite(value)
        assert np.all(np.isfinite(slope))


def test_dice_cross_entropy_refuses_what_are_no_classes() -> None:
    loss = losses.make_dice_cross_entropy(DICE)
    with pytest.raises(ConfigError, match="loss=dice_cross_entropy expects integer classes, got float32"):
        loss(PREDICTION, TARGET)
    assert np.isnan(loss(PREDICTION, CLASSES + 1))


def test_cross_entropy_of_whole_samples() -> None:
    logits, classes = PREDICTION[:, 0, 0, 0], CLASSES[:, 0, 0, 0]
    assert float(CROSS_ENTROPY(logits, classes)) == pytest.approx(
        float(CROSS_ENTROPY(logits[:, None, None, None], classes[:, None, None, None])), rel=1e-7
    )
    assert np.all(np.isfinite(jax.grad(CROSS_ENTROPY)(logits, classes)))


@pytest.mark.parametrize("name", ["mse", "l1", "structural", "temporal_smoothness"])
def test_a_right_answer_costs_nothing_and_pulls_nowhere(name: str) -> None:
    assert float(JITTED[name](TARGET, TARGET)) == 0
    assert not np.any(GRADIENTS[name](TARGET, TARGET)[0])


@pytest.mark.parametrize("name", IMAGE_LOSSES)
@pytest.mark.parametrize(("prediction", "target"), [(0.0, 0.0), (0.5, 0.5), (0.0, 1.0), (1e-20, 0.0), (-1e3, 1e3)])
def test_gradients_are_finite_at_even_fields(name: str, prediction: float, target: float) -> None:
    at = jnp.full(SHAPE, prediction), jnp.full(SHAPE, target)
    for gradient in GRADIENTS[name](*at):
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("level", [0.0, 1e4, -1e4])
def test_cross_entropy_has_finite_gradients(level: float) -> None:
    even = jnp.full(SHAPE, level)
    gradient = jax.jit(jax.grad(CROSS_ENTROPY))
    for logits in (even, even.at[..., 0].set(1e4)):
        assert np.all(np.isfinite(gradient(logits, CLASSES)))


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_gradient_is_the_slope(name: str) -> None:
    direction = np.random.default_rng(1).normal(size=SHAPE)
    step = 1e-5
    wide = PREDICTION.astype(np.float64), TARGET.astype(np.float64)
    ahead, behind = (REFERENCES[name](wide[0] + s * direction, wide[1]) for s in (step, -step))
    found = np.sum(np.asarray(GRADIENTS[name](PREDICTION, TARGET)[0]) * direction)
    assert np.isclose(found, (ahead - behind) / (2 * step), rtol=1e-3)


def test_an_error_at_an_edge_costs_more_than_the_same_error_elsewhere() -> None:
    target = jnp.zeros((1, 1, 8, 8, 1)).at[:, :, :, 4:].set(1.0)
    at_edge = target.at[0, 0, 4, 4, 0].add(0.1)
    elsewhere = target.at[0, 0, 4, 1, 0].add(0.1)
    loss = JITTED["structural"]
    assert float(loss(at_edge, target)) > 2 * float(loss(elsewhere, target))


def test_a_constant_or_linear_error_along_the_sequence_is_smooth_and_a_flicker_is_not() -> None:
    def extra(error: jax.Array) -> float:
        prediction = jnp.zeros(SHAPE) + error[:, None, None, None]
        return float(JITTED["temporal_smoothness"](prediction, jnp.zeros(SHAPE)) - jnp.mean(error**2))

    assert extra(jnp.array([0.5, 0.5, 0.5, 0.5])) == 0
    assert extra(jnp.array([0.25, 0.5, 0.75, 1.0])) == 0
    assert extra(jnp.array([0.5, -0.5, 0.5, -0.5])) == pytest.approx(0.1 * 4)


def test_an_uncertain_edge_may_stay_sharp() -> None:
    field = jnp.full(SHAPE, 0.5).at[:, :, :, 2:, :3].set(0.9)
    loss = JITTED["chromatic_coherence"]
    assert float(loss(field, field.at[..., 3].set(1.0))) > 2 * float(loss(field, field.at[..., 3].set(0.1)))


def test_predicted_certainty_is_without_effect() -> None:
    gradient = GRADIENTS["chromatic_coherence"](PREDICTION, TARGET)[0]
    assert not np.any(gradient[..., 3])
    assert np.all(np.any(gradient[..., :3], axis=-1))


def test_a_class_that_does_not_exist_makes_the_loss_nan() -> None:
    for outside in (-1, 4):
        classes = CLASSES.copy()
        classes[0, 0, 0, 0] = outside
        assert np.isnan(JITTED["cross_entropy"](PREDICTION, classes))


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_shapes_that_would_broadcast_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"loss={name} expects prediction and target to match"):
        IMAGE_LOSSES[name](PREDICTION, TARGET[..., :1])


def test_targets_that_are_no_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="expects integer classes, got float32"):
        CROSS_ENTROPY(PREDICTION, TARGET)
    with pytest.raises(ConfigError, match="loss=cross_entropy expects"):
        CROSS_ENTROPY(PREDICTION, CLASSES[..., None])


def test_what_a_loss_cannot_measure_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least 2×2 tokens, got 1×5"):
        IMAGE_LOSSES["structural"](PREDICTION[:, :, :1], TARGET[:, :, :1])
    with pytest.raises(ConfigError, match=r"at least 3 slices in a sample, got 2"):
        IMAGE_LOSSES["temporal_smoothness"](PREDICTION[:, :2], TARGET[:, :2])
    with pytest.raises(ConfigError, match="choose tokenizer=chromatic"):
        IMAGE_LOSSES["chromatic_coherence"](PREDICTION[..., :1], TARGET[..., :1])
