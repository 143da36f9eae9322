"""Schedules: exact endpoints, the course between them against float64, the same bits eager and compiled, identity."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crh_train.config import CosineAnnealingConfig, LinearDecayConfig, StepDecayConfig
from crh_train.digest import digest_bytes
from crh_train.errors import ConfigError
from crh_train.scheduler import (
    CosineAnnealing,
    LinearDecay,
    Scheduler,
    StepDecay,
    make_cosine_annealing,
    make_linear_decay,
    make_step_decay,
)

PEAK = 1.7e-3  # with a final fraction of 0.3, final + (peak - final) is not peak in float32
EPOCHS = 5
STEPS = 7  # in an epoch
DECAYS = [(make_linear_decay, LinearDecayConfig), (make_cosine_annealing, CosineAnnealingConfig)]


def decay(make, config, warmup_epochs=1, final_fraction=0.3, epochs=EPOCHS):
    name = "linear_decay" if config is LinearDecayConfig else "cosine_annealing"
    return make(config(name=name, warmup_epochs=warmup_epochs, final_fraction=final_fraction), PEAK, epochs)


def step_decay(milestones=(2, 4), factor=0.3):
    return make_step_decay(StepDecayConfig(name="step_decay", milestones=list(milestones), factor=factor), PEAK, EPOCHS)


def rates(scheduler: Scheduler, steps: int) -> np.ndarray:
    schedule = jax.jit(scheduler.schedule(STEPS))
    return np.array([schedule(jnp.int32(step)) for step in range(steps)])


@pytest.mark.parametrize(("make", "config"), DECAYS)
@pytest.mark.parametrize("warmup_epochs", [0, 1, 3])
@pytest.mark.parametrize("final_fraction", [0.0, 0.01, 0.3, 1.0])
def test_decay_endpoints_are_exact(make, config, warmup_epochs, final_fraction):
    got = rates(decay(make, config, warmup_epochs, final_fraction), EPOCHS * STEPS + 3)
    warmup = warmup_epochs * STEPS
    assert got.dtype == np.float32
    assert got[0] == np.float32(PEAK / (warmup + 1))
    assert got[warmup] == np.float32(PEAK)
    assert (got[EPOCHS * STEPS - 1 :] == np.float32(PEAK * final_fraction)).all()
    assert (np.diff(got[: warmup + 1]) > 0).all()
    if final_fraction < 1:
        assert (np.diff(got[warmup : EPOCHS * STEPS]) < 0).all()


@pytest.mark.parametrize(("make", "config"), DECAYS)
def test_decay_follows_its_formula(make, config):
    got = rates(decay(make, config), EPOCHS * STEPS)
    t = np.arange(EPOCHS * STEPS, dtype=np.float64)
    x = (t - STEPS) / (EPOCHS * STEPS - 1 - STEPS)
    shape = 1 - x if config is LinearDecayConfig else (1 + np.cos(math.pi * x)) / 2
    expected = np.where(t < STEPS, PEAK * (t + 1) / (STEPS + 1), PEAK * (0.3 + 0.7 * shape))
    np.testing.assert_allclose(got, expected, rtol=3e-7)


def test_cosine_annealing_without_warmup_is_that_of_optax():
    scheduler = decay(make_cosine_annealing, CosineAnnealingConfig, warmup_epochs=0)
    reference = optax.cosine_decay_schedule(PEAK, EPOCHS * STEPS - 1, alpha=0.3)
    expected = np.array([reference(step) for step in range(EPOCHS * STEPS)])
    np.testing.assert_allclose(rates(scheduler, EPOCHS * STEPS), expected, rtol=3e-7)


@pytest.mark.parametrize(("make", "config"), DECAYS)
def test_a_run_shorter_than_its_schedule_sees_the_schedule_begin(make, config):
    within_warmup = rates(decay(make, config, warmup_epochs=3, epochs=2), 2 * STEPS)
    np.testing.assert_array_equal(within_warmup, rates(decay(make, config, warmup_epochs=3), 2 * STEPS))
    only_step = decay(make, config, warmup_epochs=0, final_fraction=0.0, epochs=1).schedule(1)
    assert only_step(jnp.int32(0)) == np.float32(PEAK)


def test_step_decay_changes_on_the_first_step_of_a_milestone():
    got = rates(step_decay(), EPOCHS * STEPS)
    plateaus = [np.float32(PEAK), np.float32(PEAK * 0.3), np.float32(PEAK * 0.3 * 0.3)]
    np.testing.assert_array_equal(got, np.repeat(plateaus, [2 * STEPS, 2 * STEPS, STEPS]))
    assert got.dtype == np.float32


def test_step_decay_milestones_may_be_none_or_past_the_end():
    constant = np.full(EPOCHS * STEPS, PEAK, np.float32)
    np.testing.assert_array_equal(rates(step_decay(milestones=[]), EPOCHS * STEPS), constant)
    np.testing.assert_array_equal(rates(step_decay(milestones=[EPOCHS]), EPOCHS * STEPS), constant)


@pytest.mark.parametrize("milestones", [[4, 2], [3, 3]])
def test_step_decay_refuses_milestones_out_of_order(milestones):
    with pytest.raises(ConfigError, match=r"strictly increasing epochs, got \[\d, \d\]: write scheduler.milestones="):
        step_decay(milestones)


SCHEDULERS = [decay(*DECAYS[0]), decay(*DECAYS[1]), step_decay()]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_compiled_alone_and_vectorised_give_the_same_bits(scheduler):
    alone = rates(scheduler, EPOCHS * STEPS)
    vectorised = jax.jit(jax.vmap(scheduler.schedule(STEPS)))(jnp.arange(EPOCHS * STEPS, dtype=jnp.int32))
    np.testing.assert_array_equal(alone, vectorised)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_no_division_and_no_power_is_left_to_the_device(scheduler):
    text = str(jax.make_jaxpr(scheduler.schedule(STEPS))(jnp.int32(0)))
    assert " div " not in text
    assert "pow" not in text


def test_serialize_is_canonical_and_complete():
    assert decay(*DECAYS[0]).serialize() == (
        '{"epochs":5,"final_fraction":0.3,"formula":1,"learning_rate":0.0017,"name":"linear_decay","warmup_epochs":1}'
    )
    assert decay(*DECAYS[1]).serialize() == (
        '{"epochs":5,"final_fraction":0.3,"formula":1,"learning_rate":0.0017,"name":"cosine_annealing","warmup_epochs":1}'
    )
    assert step_decay().serialize() == (
        '{"factor":0.3,"formula":1,"learning_rate":0.0017,"milestones":[2,4],"name":"step_decay"}'
    )


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_hyper_parameter_is_in_the_digest(scheduler):
    assert scheduler.digest == digest_bytes(scheduler.serialize().encode())
    assert json.loads(scheduler.serialize())["name"] == scheduler.name
    for field in dataclasses.fields(scheduler):
        value = getattr(scheduler, field.name)
        other = dataclasses.replace(scheduler, **{field.name: (1,) if isinstance(value, tuple) else value * 2})
        assert other.digest != scheduler.digest, field.name


def test_the_digest_tells_policies_apart():
    assert len({scheduler.digest for scheduler in SCHEDULERS}) == len({LinearDecay, CosineAnnealing, StepDecay})
