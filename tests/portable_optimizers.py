"""Optimizers, schedules and losses of optax, as a user calls them: programs of `portable_libraries`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from portable_samples import Sample, with_gradient

OPTIMIZERS: Mapping[str, Callable[[], optax.GradientTransformationExtraArgs]] = {
    "adabelief": lambda: optax.adabelief(1e-2),
    "adafactor": lambda: optax.adafactor(1e-2, min_dim_size_to_factor=4),
    "adagrad": lambda: optax.adagrad(1e-1),
    "adam": lambda: optax.adam(1e-2),
    "adamax": lambda: optax.adamax(1e-2),
    "adamw, clipped, scheduled": lambda: optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-2, 2, 6), weight_decay=1e-2),
    ),
    "amsgrad": lambda: optax.amsgrad(1e-2),
    "lamb": lambda: optax.lamb(1e-2),
    "lars": lambda: optax.lars(1e-1),
    "lion": lambda: optax.lion(1e-2),
    "nadam": lambda: optax.nadam(1e-2),
    "novograd": lambda: optax.novograd(1e-2),
    "radam": lambda: optax.radam(1e-2, threshold=2.0),
    "rmsprop": lambda: optax.rmsprop(1e-2, centered=True, momentum=0.9),
    "sgd, Nesterov": lambda: optax.sgd(1e-2, momentum=0.9, nesterov=True),
    "sm3": lambda: optax.sm3(1e-2),
    "yogi": lambda: optax.yogi(1e-2),
    "of several steps": lambda: optax.MultiSteps(optax.adam(1e-2), 2).gradient_transformation(),
    "clipped adaptively, finite, averaged": lambda: optax.apply_if_finite(
        optax.chain(optax.adaptive_grad_clip(0.1), optax.centralize(), optax.ema(0.9), optax.scale(-0.1)), 2
    ),
}


def optimizers(given: Sample) -> Mapping[str, Any]:
    """Parameters and state after three steps."""
    parameters = {"weight": 0.25 * given.image[0, :, :5], "bias": 0.25 * given.image[1, 0, :5]}
    gradients = {"weight": given.image[:, :, 3:].reshape(2, 8, 5), "bias": given.rows[:2, :5]}
    several = jax.tree.map(lambda x: jnp.stack([x[0], x[1], 0.5 * x[0]]), gradients)

    def train(optimizer: optax.GradientTransformationExtraArgs) -> Any:
        def step(carry: Any, gradient: Any) -> tuple[Any, None]:
            parameters, state = carry
            updates, state = optimizer.update(gradient, state, parameters)
            return (optax.apply_updates(parameters, updates), state), None

        return lax.scan(step, (parameters, optimizer.init(parameters)), several)[0]

    return {name: train(make()) for name, make in OPTIMIZERS.items()}


def schedules(given: Sample) -> Mapping[str, Any]:
    """Of the first counts."""
    counts = given.labels[0] + jnp.arange(16)
    made = {
        "cosine": optax.cosine_decay_schedule(0.1, 12, 0.05, 1.5),
        "cosine, one cycle": optax.cosine_onecycle_schedule(14, 0.1),
        "cosine, restarted": optax.sgdr_schedule(
            [
                {"init_value": 0.0, "peak_value": v, "warmup_steps": 2, "decay_steps": 6, "end_value": 0.0}
                for v in (1, 2)
            ]
        ),
        "exponential": optax.exponential_decay(0.1, 3, 0.7, transition_begin=2, end_value=0.01),
        "exponential, stepped": optax.exponential_decay(0.1, 3, 0.7, staircase=True),
        "joined": optax.join_schedules([optax.constant_schedule(0.3), optax.linear_schedule(0.3, 0.1, 5)], [6]),
        "linear": optax.linear_schedule(0.1, 0.01, 9, 3),
        "linear, one cycle": optax.linear_onecycle_schedule(14, 0.1),
        "piecewise": optax.piecewise_constant_schedule(0.1, {3: 0.5, 9: 0.1}),
        "piecewise, interpolated": optax.piecewise_interpolate_schedule("cosine", 0.1, {3: 0.5, 9: 0.1}),
        "polynomial": optax.polynomial_schedule(0.1, 0.01, 2.5, 8, 2),
        "warmup, cosine": optax.warmup_cosine_decay_schedule(0.0, 0.1, 4, 14, 0.01, 2.0),
        "warmup, exponential": optax.warmup_exponential_decay_schedule(0.0, 0.1, 4, 3, 0.6),
    }
    return {name: jax.vmap(schedule)(counts) for name, schedule in made.items()}


def losses(given: Sample) -> Mapping[str, Any]:
    labels, targets = given.labels, given.unit
    distribution = targets / jnp.sum(targets, -1, keepdims=True)
    binary = jnp.where(targets > 0.5, 1.0, 0.0)
    sparse = jnp.array([[1, 2], [3, 0]]), jnp.array([[0.0, 0.0], [0.0, 1.0]])
    functions: Mapping[str, Callable[[Array], Array]] = {
        "cosine_distance": lambda x: optax.cosine_distance(x, targets, epsilon=1e-6),
        "ctc_loss": lambda x: optax.ctc_loss(x.reshape(2, 3, 8), jnp.zeros((2, 3)), *sparse),
        "dice_loss": lambda x: optax.losses.dice_loss(x, binary),
        "hinge_loss": lambda x: optax.hinge_loss(x, 2 * binary - 1),
        "huber_loss": lambda x: optax.huber_loss(x, targets, delta=0.75),
        "kl_divergence": lambda x: optax.kl_divergence(jax.nn.log_softmax(x), distribution),
        "l2_loss": lambda x: optax.l2_loss(x, targets),
        "log_cosh": lambda x: optax.log_cosh(x, targets),
        "poly_loss_cross_entropy": lambda x: optax.losses.poly_loss_cross_entropy(x, distribution),
        "sigmoid_binary_cross_entropy": lambda x: optax.sigmoid_binary_cross_entropy(x, binary),
        "sigmoid_focal_loss": lambda x: optax.sigmoid_focal_loss(x, binary, alpha=0.25),
        "smooth_labels": lambda x: optax.softmax_cross_entropy(x, optax.smooth_labels(jax.nn.one_hot(labels, 8), 0.1)),
        "softmax_cross_entropy": lambda x: optax.softmax_cross_entropy(x, distribution),
        "softmax_cross_entropy_with_integer_labels": (
            lambda x: optax.softmax_cross_entropy_with_integer_labels(x, labels)
        ),
        "squared_error": lambda x: optax.squared_error(x, targets),
    }
    return {name: with_gradient(function, given.rows) for name, function in functions.items()}
