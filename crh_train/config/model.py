"""Models."""

from dataclasses import dataclass

from crh_train.config.fields import at_least, one_of


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    name: str
    initialisation: str = one_of("kaiming", "xavier")
    residual: bool  # the model gives what is added to its input


@dataclass(frozen=True, kw_only=True)
class MlpConfig(ModelConfig):
    hidden: int = at_least(1)
    layers: int = at_least(1)
    activation: str = one_of("relu", "leaky_relu", "gelu", "silu", "tanh")


@dataclass(frozen=True, kw_only=True)
class CnnConfig(ModelConfig):
    channels: int = at_least(1)
    layers: int = at_least(2)
    kernel: int = at_least(1)  # odd
    activation: str = one_of("relu", "leaky_relu", "gelu", "silu", "tanh")


@dataclass(frozen=True, kw_only=True)
class UnetConfig(ModelConfig):
    channels: int = at_least(1)  # of the first level; doubled at each pool
    pools: int = at_least(1)


@dataclass(frozen=True, kw_only=True)
class Unet3dConfig(ModelConfig):
    channels: int = at_least(1)  # of the first level; doubled at each pool
    pools: int = at_least(1)
    slice_pools: int = at_least(0)  # of these, the deepest, that pool across slices too; fewer for thick slices


@dataclass(frozen=True, kw_only=True)
class GruConfig(ModelConfig):
    hidden: int = at_least(1)
