"""Layers that several models share, as pure functions of parameters and input; and the residual connection.

Images inside a model are NHWC, kernels HWIO. Products and convolutions ask for the highest precision, so that no
device replaces float32 by TF32 or bfloat16.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from crh_train.config import ModelConfig
from crh_train.errors import ConfigError
from crh_train.models.initializers import Kernel, Parameters, Shape, Zeros, fans, find_scheme, initialise
from crh_train.types import Model, Params

LEAKY_SLOPE = 0.2  # as fastMRI's U-Net has it
INSTANCE_EPSILON = 1e-5  # added to the variance; PyTorch's


def leaky_relu(x: Array) -> Array:
    """x where x ≥ 0, else 0.2·x."""
    return jax.nn.leaky_relu(x, LEAKY_SLOPE)


class Activation(NamedTuple):
    function: Callable[[Array], Array]
    negative_slope: float  # for Kaiming initialisation; 1: as of the identity, which tanh is near zero


ACTIVATIONS: Mapping[str, Activation] = {
    "relu": Activation(jax.nn.relu, 0.0),
    "leaky_relu": Activation(leaky_relu, LEAKY_SLOPE),
    "gelu": Activation(jax.nn.gelu, 0.0),  # the tanh approximation
    "silu": Activation(jax.nn.silu, 0.0),
    "tanh": Activation(jnp.tanh, 1.0),
}
LINEAR = 1.0  # the negative slope where no activation follows


def affine(name: str, shape: Shape, negative_slope: float) -> dict[str, Kernel | Zeros]:
    """`NAME.kernel` of `shape` (dense [in, out] or HWIO) and `NAME.bias`, zero at first."""
    return {f"{name}.kernel": Kernel(shape, fans(shape), negative_slope), f"{name}.bias": Zeros(shape[-1:])}


def projection(config: ModelConfig, name: str, shape: Shape) -> dict[str, Kernel | Zeros]:
    """The last layer's parameters. Zero under `residual`, so that training starts from the identity; this kernel gets
    a gradient at once, the layers before it from the second step on."""
    if config.residual:
        return {f"{name}.kernel": Zeros(shape), f"{name}.bias": Zeros(shape[-1:])}
    return affine(name, shape, LINEAR)


def dense(params: Params, name: str, x: Array) -> Array:
    """x · kernel + bias over the last axis: [..., in] -> [..., out]."""
    return jnp.dot(x, params[f"{name}.kernel"], precision=lax.Precision.HIGHEST) + params[f"{name}.bias"]


def convolve(x: Array, weights: Array) -> Array:
    """2-D cross-correlation, zero padding to the same size: [N, h, w, in], HWIO -> [N, h, w, out]."""
    return lax.conv_general_dilated(
        x,
        weights,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,
    )


def instance_norm(x: Array) -> Array:
    """(x − mean) / √(variance + 1e-5) over h and w of each image and channel, without parameters: [N, h, w, C].

    Ulyanov et al., Instance normalization, arXiv:1607.08022; biased variance as in PyTorch's InstanceNorm2d.
    """
    centred = x - jnp.mean(x, axis=(1, 2), keepdims=True)
    variance = jnp.mean(centred * centred, axis=(1, 2), keepdims=True)
    return centred * lax.rsqrt(variance + INSTANCE_EPSILON)


def average_pool(x: Array) -> Array:
    """Mean of each 2×2 block: [N, h, w, C] -> [N, h/2, w/2, C]; h and w even."""
    upper = x[:, ::2, ::2] + x[:, ::2, 1::2]
    lower = x[:, 1::2, ::2] + x[:, 1::2, 1::2]
    return (upper + lower) * 0.25


def upsample(x: Array, weights: Array) -> Array:
    """Transposed convolution, 2×2 with stride 2: [N, h, w, in], [in, 2, 2, out] -> [N, 2h, 2w, out].

    Its windows do not overlap, so it is one product for each input pixel, and written as such: XLA's convolution over a
    dilated input gives the same sums, with a backward pass several times slower on CPUs.
    """
    images, rows, columns, _ = x.shape
    blocks = jnp.einsum("nhwi,iabo->nhawbo", x, weights, precision=lax.Precision.HIGHEST)
    return blocks.reshape(images, 2 * rows, 2 * columns, weights.shape[-1])


def per_slice(apply: Callable[[Params, Array], Array]) -> Callable[[Params, Array], Array]:
    """`apply` on images [N, h, w, C] as a function of tokens [B, T, h, w, C], each slice by itself."""

    def apply_to_tokens(params: Params, x: Array) -> Array:
        y = apply(params, x.reshape(-1, *x.shape[2:]))
        return y.reshape(*x.shape[:2], *y.shape[1:])

    return apply_to_tokens


def model(
    config: ModelConfig,
    in_channels: int,
    out_channels: int,
    parameters: Parameters,
    apply: Callable[[Params, Array], Array],
) -> Model:
    """The model of these parameters and this function; under `config.residual` it adds its input to its output.

    Raises:
      ConfigError: a residual model whose output has other channels than its input; an unknown initialisation.
    """
    if config.residual and in_channels != out_channels:
        raise ConfigError(
            f"model.residual=true expects as many output channels as input channels, got {in_channels} in and"
            f" {out_channels} out: set model.residual=false"
        )

    scheme = find_scheme(config.initialisation)

    def init(key: Array) -> Params:
        return initialise(key, scheme, parameters)

    def apply_residual(params: Params, x: Array) -> Array:
        return x + apply(params, x)

    return Model(init, apply_residual if config.residual else apply)
