"""Losses."""

from dataclasses import dataclass

from crh_train.config.fields import at_least


@dataclass(frozen=True, kw_only=True)
class MseConfig:
    name: str


@dataclass(frozen=True, kw_only=True)
class CrossEntropyConfig:
    name: str


@dataclass(frozen=True, kw_only=True)
class L1Config:
    name: str


@dataclass(frozen=True, kw_only=True)
class DiceCrossEntropyConfig:
    name: str
    dice_weight: float = at_least(0.0)
    cross_entropy_weight: float = at_least(0.0)
    smooth: float = at_least(1e-8)  # added to the overlap and to the sizes, pixels
    include_background: bool  # class 0 counts in Dice; in the cross entropy it always does
    batch_dice: bool  # one Dice for the whole batch, as if it were one image; else one for each sample


@dataclass(frozen=True, kw_only=True)
class StructuralConfig:
    name: str
    edge_weight: float = at_least(0.0)  # how much more an edge pixel of the target counts
    gradient_weight: float = at_least(0.0)  # of the difference of image gradients
    epsilon: float = at_least(1e-8)  # smooths |x| at zero, in token units


@dataclass(frozen=True, kw_only=True)
class ChromaticCoherenceConfig:
    name: str
    fidelity_weight: float = at_least(0.0)  # of the mean squared error of the colours
    coherence_weight: float = at_least(0.0)  # of the field's energy
    variation_weight: float = at_least(0.0)  # lambda_tv
    saturation_weight: float = at_least(0.0)  # lambda_sat
    epsilon: float = at_least(1e-8)  # smooths the norm at zero


@dataclass(frozen=True, kw_only=True)
class TemporalSmoothnessConfig:
    name: str
    fidelity_weight: float = at_least(0.0)  # of the mean squared error
    smoothness_weight: float = at_least(0.0)  # of the second difference along the sequence
