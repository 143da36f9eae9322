"""Optimizers and learning-rate schedules."""

from dataclasses import dataclass

from crh_train.config.fields import at_least, between


@dataclass(frozen=True, kw_only=True)
class SgdConfig:
    name: str
    momentum: float = between(0.0, 1.0)
    dampening: float = between(0.0, 1.0)
    weight_decay: float = at_least(0.0)


@dataclass(frozen=True, kw_only=True)
class AdamConfig:
    """AdamW: weight decay is decoupled from the gradient."""

    name: str
    beta1: float = between(0.0, 1.0)
    beta2: float = between(0.0, 1.0)
    epsilon: float = at_least(0.0)  # added to the root of the second moment, outside the root
    weight_decay: float = at_least(0.0)


@dataclass(frozen=True, kw_only=True)
class RmspropConfig:
    name: str
    decay: float = between(0.0, 1.0)
    epsilon: float = at_least(0.0)  # added outside the root
    momentum: float = between(0.0, 1.0)
    weight_decay: float = at_least(0.0)


@dataclass(frozen=True, kw_only=True)
class ChromaticSgdConfig:
    name: str
    momentum: float = between(0.0, 1.0)
    dampening: float = between(0.0, 1.0)
    weight_decay: float = at_least(0.0)
    smallest_scale: float = at_least(1e-3)  # bounds of a channel's step scale
    largest_scale: float = at_least(1.0)


@dataclass(frozen=True, kw_only=True)
class LinearDecayConfig:
    name: str
    warmup_epochs: int = at_least(0)
    final_fraction: float = between(0.0, 1.0)  # of the peak learning rate, at the last step


@dataclass(frozen=True, kw_only=True)
class CosineAnnealingConfig:
    name: str
    warmup_epochs: int = at_least(0)
    final_fraction: float = between(0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class StepDecayConfig:
    name: str
    milestones: list[int] = at_least(1)  # epochs, strictly increasing
    factor: float = between(0.0, 1.0)  # multiplies the learning rate at each milestone
