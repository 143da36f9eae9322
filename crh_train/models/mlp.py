"""Multilayer perceptron: the same dense layers for each token by itself; it sees no neighbours.

With one-pixel tokens it can only map intensities; give it patches (`tokenizer.patch`).
"""

from itertools import pairwise

from jax import Array

from crh_train.config import MlpConfig
from crh_train.models.layers import ACTIVATIONS, affine, dense, model, projection
from crh_train.types import Model, Params


def make(config: MlpConfig, in_channels: int, out_channels: int) -> Model:
    """`config.layers` dense layers, `config.hidden` wide in between, the activation after each but the last.

    Tokens float32 [B, T, h, w, in_channels] -> [B, T, h, w, out_channels].
    Parameters: `layer.II.{kernel [in, out], bias [out]}`.

    Raises:
      ConfigError: residual with other output than input channels.
    """
    activation = ACTIVATIONS[config.activation]
    widths = [in_channels, *[config.hidden] * (config.layers - 1), out_channels]
    shapes = list(pairwise(widths))
    names = [f"layer.{index:02d}" for index in range(config.layers)]

    parameters = projection(config, names[-1], shapes[-1])
    for name, shape in zip(names[:-1], shapes[:-1], strict=True):
        parameters |= affine(name, shape, activation.negative_slope)

    def apply(params: Params, x: Array) -> Array:
        for name in names[:-1]:
            x = activation.function(dense(params, name, x))
        return dense(params, names[-1], x)

    return model(config, in_channels, out_channels, parameters, apply)
