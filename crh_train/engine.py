"""The training engine: the pure train step, and the loop that drives it and calls hooks.

The step does the Cycle Record's forward pass, loss, backward pass and optimizer step; the loop does the batch load
before it and hands numbers and state to the hooks, which log and save. Neither does input or output.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from crh_train import metrics
from crh_train.randomness import Purpose, derive
from crh_train.types import (
    Batch,
    Hook,
    Loss,
    Model,
    Params,
    StepMetrics,
    StepRecord,
    Task,
    Tokenizer,
    TrainState,
)

Pair = Callable[..., tuple[Array, Array]]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]


class StepParts(NamedTuple):
    """The pure functions that a train step is made of."""

    augment: Callable[[Array, Batch], Batch]
    task: Task
    tokenizer: Tokenizer
    model: Model
    loss: Loss
    coherence: Callable[[Array, Array], Array]  # prediction, target (as the loss has them) -> float32 [] in [-1, 1]
    optimizer: optax.GradientTransformation
    learning_rate: Callable[[Array], Array]  # step -> float32 []


def make_init(parts: StepParts) -> Callable[[Array], TrainState]:
    """root key -> the state before the first step."""

    def init(key: Array) -> TrainState:
        params = parts.model.init(derive(key, Purpose.INITIALISE, 0))
        return TrainState(params, parts.optimizer.init(params), key, jnp.zeros((), jnp.int32))

    return init


def make_pair(task: Task, tokenizer: Tokenizer) -> Pair:
    """image [B, T, H, W], label, keys -> the model's input tokens and the loss's target (tokens, or classes).

    `keys` [B] are for what the task draws; a task that draws nothing needs none.
    """

    def pair(image: Array, label: Array | None, keys: Array | None = None) -> tuple[Array, Array]:
        source, target = task.pair(image, label)
        if task.draw is not None:
            assert keys is not None
            source = task.draw(keys, source)
        return tokenizer.encode(source), target if task.classes else tokenizer.encode(target)

    return pair


def make_predict(parts: StepParts) -> Callable[[Params, Array], Array]:
    """params, image of one sample as prepared, [T, H, W] or [T, H, W, M] -> what the model makes of it: an image
    [T, H, W] or [T, H, W, M], or probabilities of classes, [T, H, W, K] or [K].

    The model's input is the task's, but for what the task draws: nothing is drawn. No target is read.
    """
    task, tokenizer = parts.task, parts.tokenizer

    def predict(params: Params, image: Array) -> Array:
        unread = jnp.zeros((1,) if task.whole else (1, *image.shape[:3]), jnp.int32) if task.classes else None
        source, _ = task.pair(image[None], unread)
        prediction = parts.model.apply(params, tokenizer.encode(source))
        output: Array = jax.nn.softmax(prediction, axis=-1) if task.classes else tokenizer.decode(prediction)
        return output[0]

    return predict


def make_train_step(parts: StepParts, micro_batches: int) -> TrainStep:
    """One optimizer step as a pure function of state and batch; jit it with the state donated.

    The batch is cut into `micro_batches` equal parts in order; their losses and gradients are added in that order
    with Kahan compensation and divided by their number. The learning rate reported is the one applied.
    """
    pair = make_pair(parts.task, parts.tokenizer)

    def objective(params: Params, x: Array, y: Array) -> tuple[Array, Array]:
        prediction = parts.model.apply(params, x)
        return parts.loss(prediction, y), parts.coherence(prediction, y)

    gradient = jax.value_and_grad(objective, has_aux=True)

    def accumulated(params: Params, x: Array, y: Array) -> Any:
        # A loop in Python, because XLA's CPU runs the gradient of a convolution inside `scan` some ten times slower.
        parts_of_x, parts_of_y = (jnp.split(array, micro_batches) for array in (x, y))
        total = gradient(params, parts_of_x[0], parts_of_y[0])
        compensation = jax.tree.map(jnp.zeros_like, total)
        for x_part, y_part in zip(parts_of_x[1:], parts_of_y[1:], strict=True):
            total, compensation = metrics.accumulate(total, compensation, gradient(params, x_part, y_part))
        return jax.tree.map(lambda leaf: leaf / micro_batches, total)

    def keys(state: TrainState, batch: Batch) -> Array | None:
        if parts.task.draw is None:
            return None
        return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
            derive(state.key, Purpose.TASK, state.step), batch.sample
        )

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        batch = parts.augment(derive(state.key, Purpose.AUGMENT, state.step), batch)
        x, y = pair(batch.image, batch.label, keys(state, batch))
        (loss, coherence), gradients = accumulated(state.params, x, y)
        updates, opt_state = parts.optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        leaf_norms = metrics.leaf_norms(gradients)
        step_metrics = StepMetrics(
            loss, coherence, parts.learning_rate(state.step), metrics.global_norm(leaf_norms), leaf_norms
        )
        return TrainState(params, opt_state, state.key, state.step + 1), step_metrics

    return train_step


class Span(NamedTuple):
    """Which steps to do: those after `first` (steps done already) up to `last`."""

    first: int
    last: int
    steps_per_epoch: int
    boundaries: Collection[int] = ()  # steps after which hooks see the state, besides the last of each epoch


def train(
    train_step: TrainStep,
    state: TrainState,
    load: Callable[[int], Batch],
    span: Span,
    hooks: Sequence[Hook],
    stopping: Callable[[], bool],
) -> tuple[TrainState, int]:
    """Do the steps of `span`, calling `hooks` in order; returns the last state and the number of steps done.

    `load(step)` gives the batch of the step that follows `step` done ones. A step's numbers are read only after the
    next one is dispatched, so that the device never waits for the host; at a boundary everything is read before it,
    so hooks see all records of the steps that the state contains. `stopping` is asked after each step, and at the end
    of an epoch only once its numbers were read, so that they can decide it.
    """
    waiting: tuple[int, StepMetrics] | None = None
    for done in range(span.first, span.last):
        for hook in hooks:
            hook.before_step(done + 1)
        state, step_metrics = train_step(state, load(done))
        if waiting is not None:
            _deliver(waiting, span, hooks)
        waiting = (done + 1, step_metrics)
        boundary = (done + 1) % span.steps_per_epoch == 0 or done + 1 in span.boundaries
        if boundary:
            _deliver(waiting, span, hooks)
        last = done + 1 == span.last or stopping()
        if last and not boundary:
            _deliver(waiting, span, hooks)
        if last or boundary:
            waiting = None
            for hook in hooks:
                hook.at_boundary(done + 1, state, last)
        if last:
            return state, done + 1
    return state, span.first


def _deliver(waiting: tuple[int, StepMetrics], span: Span, hooks: Sequence[Hook]) -> None:
    step, step_metrics = waiting
    loss, coherence, lr, grad_norm, leaf_grad_norms = jax.device_get(step_metrics)
    epoch, batch = divmod(step - 1, span.steps_per_epoch)
    loss, coherence, lr, grad_norm = (np.float32(value) for value in (loss, coherence, lr, grad_norm))
    record = StepRecord(step, epoch, batch, loss, coherence, lr, grad_norm, leaf_grad_norms)
    for hook in hooks:
        hook.after_step(record)
