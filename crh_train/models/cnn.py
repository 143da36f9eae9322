"""Plain convolutional network: layers of one kernel size at full resolution, each slice by itself."""

from itertools import pairwise

from jax import Array

from crh_train.config import CnnConfig
from crh_train.errors import ConfigError
from crh_train.models.layers import ACTIVATIONS, affine, convolve, model, per_slice, projection
from crh_train.types import Model, Params


def make(config: CnnConfig, in_channels: int, out_channels: int) -> Model:
    """`config.layers` k×k convolutions, `config.channels` wide in between, the activation after each but the last.

    Tokens float32 [B, T, h, w, in_channels] -> [B, T, h, w, out_channels]; zero padding keeps the size.
    Parameters: `layer.II.{kernel HWIO, bias}`.

    Raises:
      ConfigError: an even kernel; residual with other output than input channels.
    """
    if config.kernel % 2 == 0:
        raise ConfigError(f"model.kernel must be odd, so that it has a centre, got {config.kernel}")
    activation = ACTIVATIONS[config.activation]
    widths = [in_channels, *[config.channels] * (config.layers - 1), out_channels]
    shapes = [(config.kernel, config.kernel, *pair) for pair in pairwise(widths)]
    names = [f"layer.{index:02d}" for index in range(config.layers)]

    parameters = projection(config, names[-1], shapes[-1])
    for name, shape in zip(names[:-1], shapes[:-1], strict=True):
        parameters |= affine(name, shape, activation.negative_slope)

    def apply(params: Params, x: Array) -> Array:
        for name in names[:-1]:
            x = activation.function(_layer(params, name, x))
        return _layer(params, names[-1], x)

    return model(config, in_channels, out_channels, parameters, per_slice(apply))


def _layer(params: Params, name: str, x: Array) -> Array:
    return convolve(x, params[f"{name}.kernel"]) + params[f"{name}.bias"]
