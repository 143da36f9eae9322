"""Activations, normalisers and layers of jax.nn and equinox, as a user calls them: programs of `portable_libraries`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax
from portable_samples import Sample, with_gradient


def activations(given: Sample) -> Mapping[str, Any]:
    functions: Mapping[str, Callable[[Array], Array]] = {
        "celu": jax.nn.celu,
        "elu": jax.nn.elu,
        "gelu, by erf": functools.partial(jax.nn.gelu, approximate=False),
        "gelu, by tanh": jax.nn.gelu,
        "glu": jax.nn.glu,
        "hard_sigmoid": jax.nn.hard_sigmoid,
        "hard_silu": jax.nn.hard_silu,
        "hard_tanh": jax.nn.hard_tanh,
        "leaky_relu": jax.nn.leaky_relu,
        "log1mexp": lambda x: jax.nn.log1mexp(x * x),
        "log_sigmoid": jax.nn.log_sigmoid,
        "mish": jax.nn.mish,
        "relu": jax.nn.relu,
        "relu6": jax.nn.relu6,
        "selu": jax.nn.selu,
        "sigmoid": jax.nn.sigmoid,
        "silu": jax.nn.silu,
        "soft_sign": jax.nn.soft_sign,
        "softplus": jax.nn.softplus,
        "sparse_plus": jax.nn.sparse_plus,
        "sparse_sigmoid": jax.nn.sparse_sigmoid,
        "squareplus": jax.nn.squareplus,
        "tanh": jnp.tanh,
    }
    return {name: with_gradient(function, given.rows) for name, function in functions.items()}


def normalisers(given: Sample) -> Mapping[str, Any]:
    def attention(x: Array) -> Array:
        query = x.reshape(1, 6, 2, 4)
        return jax.nn.dot_product_attention(query, query * 0.5, query + 1, is_causal=True)

    functions: Mapping[str, Callable[[Array], Array]] = {
        "dot_product_attention": attention,
        "log_softmax": jax.nn.log_softmax,
        "logmeanexp": functools.partial(jax.nn.logmeanexp, axis=-1),
        "logsumexp": functools.partial(jax.nn.logsumexp, axis=0),
        "softmax": jax.nn.softmax,
        "softmax, of some": lambda x: jax.nn.softmax(x, where=x > -2),
        "standardize": jax.nn.standardize,
    }
    values = {name: with_gradient(function, given.rows) for name, function in functions.items()}
    return values | {"one_hot": jax.nn.one_hot(given.labels, 8)}


def layers(given: Sample) -> Mapping[str, Any]:
    """Each layer made from the key, and the gradients of its parameters and of its input."""
    key, nn = given.key, eqx.nn
    vector, image, volume = given.rows[0], given.image, given.image.reshape(2, 4, 4, 4)
    cases: Mapping[str, tuple[Any, Array]] = {
        "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d(3), image),
        "AvgPool2d": (nn.AvgPool2d(3, 2, padding=1), image),
        "Conv1d": (nn.Conv1d(6, 4, 3, padding=1, dilation=2, key=key), given.rows),
        "Conv2d": (nn.Conv2d(2, 4, 3, stride=2, padding="SAME", groups=2, key=key), image),
        "Conv3d": (nn.Conv3d(2, 3, 3, padding=1, key=key), volume),
        "ConvTranspose2d": (nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1, key=key), image),
        "GroupNorm": (nn.GroupNorm(1, 2), image),
        "LayerNorm": (nn.LayerNorm(8), vector),
        "Linear": (nn.Linear(8, 5, key=key), vector),
        "MLP": (nn.MLP(8, 3, 5, 2, activation=jax.nn.gelu, key=key), vector),
        "MaxPool2d": (nn.MaxPool2d(3, 2, padding=1), image),
        "PReLU": (nn.PReLU(0.3), vector),
        "RMSNorm": (nn.RMSNorm(8), vector),
        "RotaryPositionalEmbedding": (nn.RotaryPositionalEmbedding(8), given.rows),
    }
    values = {
        name: with_gradient(lambda pair: pair[0](pair[1]), (layer, jnp.asarray(x)))
        for name, (layer, x) in cases.items()
    }
    embedding = nn.Embedding(8, 3, key=key)
    values["Embedding"] = with_gradient(lambda layer: jax.vmap(layer)(given.labels), embedding)
    values["Dropout"] = with_gradient(lambda x: nn.Dropout(0.4)(x, key=key), given.rows)
    return values


def recurrent_and_attention(given: Sample) -> Mapping[str, Any]:
    key, nn = given.key, eqx.nn
    attention = nn.MultiheadAttention(2, 8, dropout_p=0.25, key=key)
    mask = jnp.tril(jnp.ones((6, 6), bool))

    def gru(pair: Any) -> Array:
        last, _ = lax.scan(lambda state, x: (pair[0](x, state), None), jnp.zeros(4), pair[1])
        return last

    def lstm(pair: Any) -> Any:
        last, _ = lax.scan(lambda state, x: (pair[0](x, state), None), (jnp.zeros(4), jnp.zeros(4)), pair[1])
        return last

    return {
        "GRUCell": with_gradient(gru, (nn.GRUCell(8, 4, key=key), given.rows)),
        "LSTMCell": with_gradient(lstm, (nn.LSTMCell(8, 4, key=key), given.rows)),
        "MultiheadAttention": with_gradient(
            lambda pair: pair[0](pair[1], pair[1], pair[1], mask, key=key), (attention, given.rows)
        ),
    }


def stateful_layers(given: Sample) -> Mapping[str, Any]:
    """Layers that carry a state from one call to the next: two calls."""

    def twice(make: Callable[[], Any], x: Array) -> Any:
        layer, state = eqx.nn.make_with_state(make)()

        def function(pair: Any) -> Any:
            layer, x = pair
            for _ in range(2):
                value, after = jax.vmap(layer, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)
            return value, jax.tree.leaves(after)

        return with_gradient(function, (layer, x))

    linear = eqx.nn.Linear(8, 5, key=given.key)
    return {
        "BatchNorm, by averages of averages": twice(lambda: eqx.nn.BatchNorm(8, "batch", mode="ema"), given.rows),
        "BatchNorm": twice(lambda: eqx.nn.BatchNorm(8, "batch", mode="batch"), given.rows),
        "SpectralNorm": twice(lambda: eqx.nn.SpectralNorm(linear, "weight", key=given.key), given.rows),
    }
