"""A factor on the learning rate that the host may change between steps: a leaf of the train state, so that checkpoints
hold it and the archived program reads it. Only programs of runs that may act on their diagnoses have it. A replay uses
what is here, so nothing of what a program is made of is imported.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from crh_train.types import Batch, StepMetrics, TrainState

Step = Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]

Schedule = Callable[[Array], Array]
"""step, int32 [] -> learning rate, float32 []"""

LEAF = "1/learning_rate_factor"
"""Its name among the arrays of the optimizer's state (`state.py`): the chain that `adjustable` gives has it second."""


class RateState(NamedTuple):
    step: Array  # int32 [], updates done
    learning_rate_factor: Array  # float32 []


def adjustable(
    transform: Callable[[Schedule], optax.GradientTransformation], schedule: Schedule
) -> optax.GradientTransformation:
    """An optimizer's `transform` at the learning rate schedule(step) · factor, rounded once: with factor 1, the bits of
    `transform(schedule)`."""

    def unit(step: Array) -> Array:
        return jnp.ones_like(step, jnp.float32)

    return optax.chain(transform(unit), scale_by_rate(schedule))


def scale_by_rate(schedule: Schedule) -> optax.GradientTransformation:
    """Scale by the learning rate, times a factor that begins as 1 and that only the host changes."""

    def init(params: Any) -> RateState:
        del params
        return RateState(step=jnp.zeros([], jnp.int32), learning_rate_factor=jnp.ones([], jnp.float32))

    def update(updates: Any, state: RateState, params: Any = None) -> tuple[Any, RateState]:
        del params
        scaled, _ = optax.scale(schedule(state.step) * state.learning_rate_factor).update(updates, optax.EmptyState())
        return scaled, state._replace(step=optax.safe_increment(state.step))

    return optax.GradientTransformation(init, update)


def reporting(train_step: Step) -> Step:
    """`train_step` of an `adjustable` optimizer, which reports the learning rate that it applied, factor included."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        factor = state.opt_state[1].learning_rate_factor
        after, found = train_step(state, batch)
        return after, found._replace(lr=found.lr * factor)

    return step


def following(train_step: Step, factor: Callable[[], float], place: Callable[[TrainState], TrainState]) -> Step:
    """An archived `train_step` before which the state's factor is set to what `factor` gives, where that changed."""
    applied: np.float32 | None = None

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        nonlocal applied
        wanted = np.float32(factor())
        if wanted != applied:
            state, applied = place(state._replace(opt_state={**state.opt_state, LEAF: wanted})), wanted
        return train_step(state, batch)

    return step
