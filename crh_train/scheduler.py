"""Learning rate as a pure function of the step: linear decay, cosine annealing, step decay. Holds no state.

With S steps in an epoch and N = epochs · S steps in the run, step t counts the steps already done: 0 is the first,
N − 1 the last. W = warmup_epochs · S. Linear decay and cosine annealing share one course, η being the peak:

    t < W            η · (t + 1) / (W + 1)          warm-up, never zero
    t = W            η                              the peak, reached once
    W < t < N − 1    η · s + η · final_fraction · (1 − s),    s = shape((t − W) / (N − 1 − W))
    t ≥ N − 1        η · final_fraction             exactly

A run that is shorter than its schedule sees the schedule's beginning: one that ends within the warm-up, or at the
peak, does not decay, and milestones past the end are never met.

Everything that does not depend on t is computed on the host by single IEEE operations in double precision, then
rounded to float32: no power, no cosine, nothing that the platform's mathematical library could decide.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from crh_train.config import CosineAnnealingConfig, LinearDecayConfig, StepDecayConfig
from crh_train.digest import canonical_json, digest_bytes
from crh_train.errors import ConfigError

Schedule = Callable[[Array], Array]
"""step, int32 [] -> learning rate, float32 []"""


@dataclass(frozen=True, kw_only=True)
class Scheduler(ABC):
    """A policy with all its hyper-parameters. Two with the same `serialize()` give the same bits."""

    name: ClassVar[str]
    formula: ClassVar[int]  # raised whenever a value that `schedule` gives changes

    learning_rate: float  # at the peak

    def serialize(self) -> str:
        """Canonical JSON (RFC 8785) of the name, the formula's version and every hyper-parameter."""
        return canonical_json({"name": self.name, "formula": self.formula, **dataclasses.asdict(self)}).decode()

    @property
    def digest(self) -> str:
        """SHA-256 of `serialize()`, 64 hexadecimal digits."""
        return digest_bytes(self.serialize().encode())

    @abstractmethod
    def schedule(self, steps_per_epoch: int) -> Schedule:
        """The learning rate at a step, traceable; `steps_per_epoch` is at least 1."""


@dataclass(frozen=True, kw_only=True)
class _WarmupThenDecay(Scheduler):
    epochs: int
    warmup_epochs: int
    final_fraction: float

    @abstractmethod
    def shape(self, progress: Array) -> Array:
        """float32 [] in [0, 1] -> float32 [], from 1 at 0 towards 0 at 1."""

    def schedule(self, steps_per_epoch: int) -> Schedule:
        warmup = self.warmup_epochs * steps_per_epoch
        decay = max(self.epochs * steps_per_epoch - 1 - warmup, 1)  # steps from the peak to the last one
        increment = np.float32(self.learning_rate / (warmup + 1))
        peak = np.float32(self.learning_rate)
        final = np.float32(self.learning_rate * self.final_fraction)
        # XLA may turn a division by a constant into this product or may not; written out, it has one value.
        pace = np.float32(1 / decay)

        def warm_up(step: Array) -> Array:
            return (step + 1) * increment

        def decayed(step: Array) -> Array:
            shape = self.shape(step * pace)
            # Exact where shape is 1, unlike final + (peak - final) * shape; the end does not rest on shape at all.
            return jnp.where(step < decay, peak * shape + final * (1 - shape), final)

        return _float32(optax.join_schedules([warm_up, decayed], [warmup]))


@dataclass(frozen=True, kw_only=True)
class LinearDecay(_WarmupThenDecay):
    """shape(x) = 1 − x"""

    name: ClassVar[str] = "linear_decay"
    formula: ClassVar[int] = 1

    def shape(self, progress: Array) -> Array:
        return 1 - progress


@dataclass(frozen=True, kw_only=True)
class CosineAnnealing(_WarmupThenDecay):
    """shape(x) = (1 + cos πx) / 2, the cosine taken in float32 on the device.

    Source: Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2017; one period, no restart.
    """

    name: ClassVar[str] = "cosine_annealing"
    formula: ClassVar[int] = 1

    def shape(self, progress: Array) -> Array:
        return 0.5 * (1 + jnp.cos(jnp.pi * progress))


@dataclass(frozen=True, kw_only=True)
class StepDecay(Scheduler):
    """η · factor^k in an epoch (the first is 0) that k milestones do not exceed; no warm-up.

    The first step of epoch `milestones[0]` is the first with the smaller rate. The first step of the run has η, the
    last one η · factor^(milestones below `epochs`).
    """

    name: ClassVar[str] = "step_decay"
    formula: ClassVar[int] = 1

    milestones: tuple[int, ...]  # epochs, strictly increasing
    factor: float

    def schedule(self, steps_per_epoch: int) -> Schedule:
        rates = [self.learning_rate]
        for _ in self.milestones:
            rates.append(rates[-1] * self.factor)
        plateaus = [optax.constant_schedule(np.float32(rate)) for rate in rates]
        return _float32(optax.join_schedules(plateaus, [epoch * steps_per_epoch for epoch in self.milestones]))


def make_linear_decay(config: LinearDecayConfig, learning_rate: float, epochs: int) -> LinearDecay:
    return LinearDecay(
        learning_rate=learning_rate,
        epochs=epochs,
        warmup_epochs=config.warmup_epochs,
        final_fraction=config.final_fraction,
    )


def make_cosine_annealing(config: CosineAnnealingConfig, learning_rate: float, epochs: int) -> CosineAnnealing:
    return CosineAnnealing(
        learning_rate=learning_rate,
        epochs=epochs,
        warmup_epochs=config.warmup_epochs,
        final_fraction=config.final_fraction,
    )


def make_step_decay(config: StepDecayConfig, learning_rate: float, epochs: int) -> StepDecay:
    """`epochs` is taken as the other factories take it, and not used: milestones stand at fixed epochs.

    Raises:
        ConfigError: if the milestones are not strictly increasing.
    """
    if any(after <= before for before, after in pairwise(config.milestones)):
        raise ConfigError(
            f"scheduler.milestones must be strictly increasing epochs, got {config.milestones}: "
            f"write scheduler.milestones={sorted(set(config.milestones))}"
        )
    return StepDecay(learning_rate=learning_rate, milestones=tuple(config.milestones), factor=config.factor)


def _float32(schedule: Schedule) -> Schedule:
    return lambda step: jnp.asarray(schedule(step), jnp.float32)
