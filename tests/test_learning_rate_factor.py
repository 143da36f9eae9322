"""A factor on the learning rate in the train state: 1 changes nothing, another one is applied and reported."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training_samples import learning_rate

from crh_train import learning_rate_factor
from crh_train.optimizer import Adam, ChromaticSgd, Optimizer, Rmsprop, Sgd
from crh_train.randomness import root_key
from crh_train.state import flatten, unflatten
from crh_train.types import Batch, StepMetrics, TrainState

RULES = [
    Sgd(momentum=0.9, dampening=0.1, weight_decay=0.01),
    Adam(beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.01),
    Rmsprop(decay=0.99, epsilon=1e-8, momentum=0.9, weight_decay=0.01),
    ChromaticSgd(momentum=0.9, dampening=0.0, weight_decay=0.01, smallest_scale=0.5, largest_scale=2.0),
]
PARAMS = {"a": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "b": np.float32([0.5, -3, 1e-3])}
GRADIENT = {"a": np.linspace(2, -1, 12, dtype=np.float32).reshape(3, 4), "b": np.float32([1, 1e-4, -7])}


def updates(transform: optax.GradientTransformation, factor: float | None) -> list[dict[str, np.ndarray]]:
    """Three updates by the same gradient, each leaf's bits as they come, operation by operation."""
    state, found = transform.init(PARAMS), []
    for _ in range(3):
        if factor is not None:
            state = (state[0], state[1]._replace(learning_rate_factor=jnp.float32(factor)))
        given, state = transform.update(GRADIENT, state, PARAMS)
        found.append({name: np.asarray(leaf) for name, leaf in given.items()})
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_factor_of_one_is_the_rule_to_the_bit_and_another_one_scales_its_step(rule: Optimizer) -> None:
    plain, adjustable = rule.transform(learning_rate), learning_rate_factor.adjustable(rule.transform, learning_rate)
    for one, other, quarter in zip(
        updates(plain, None), updates(adjustable, 1.0), updates(adjustable, 0.25), strict=True
    ):
        for name in PARAMS:
            assert other[name].tobytes() == one[name].tobytes()
            assert quarter[name].tobytes() == (one[name] * np.float32(0.25)).tobytes()


def test_the_host_sets_the_leaf_where_it_changed_and_the_step_reports_what_it_applied() -> None:
    """Of a step that only counts."""
    chain = learning_rate_factor.adjustable(RULES[0].transform, learning_rate)
    start = TrainState(PARAMS, chain.init(PARAMS), root_key(5), jnp.int32(0))
    named = flatten(start)
    assert [name for name in named if name.endswith("factor")] == ["optimizer/" + learning_rate_factor.LEAF]

    def count(state: TrainState, _: Batch) -> tuple[TrainState, StepMetrics]:
        one = jnp.float32(1)
        return state._replace(step=state.step + 1), StepMetrics(one, one, learning_rate(state.step), one, one)

    def archived(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        after, found = learning_rate_factor.reporting(count)(unflatten(flatten(state), like=start), batch)
        return unflatten(flatten(after)), found

    placed: list[float] = []

    def place(state: TrainState) -> TrainState:
        placed.append(float(state.opt_state[learning_rate_factor.LEAF]))
        return state

    factors = [1.0, 1.0, 0.5, 0.5, 0.25]
    wanted = iter(factors)
    step = learning_rate_factor.following(archived, lambda: next(wanted), place)
    state, batch, rates = unflatten(named), Batch(jnp.zeros(1), None, jnp.zeros(1)), []
    for _ in factors:
        state, found = step(state, batch)
        rates.append(float(found.lr))
    assert placed == [1.0, 0.5, 0.25]
    assert rates == [float(learning_rate(jnp.int32(done)) * np.float32(f)) for done, f in enumerate(factors)]
