"""A small language model as JAX users write them, with nothing of crh_train in it: two pre-norm transformer blocks,
cross-entropy, `optax.adamw`. For the checks of portable arithmetic.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

VOCABULARY, LENGTH, WIDTH, HEADS, BLOCKS = 37, 12, 32, 4, 2
LEARNING_RATE = optax.warmup_cosine_decay_schedule(1e-3, 1e-2, warmup_steps=1, decay_steps=4)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(LEARNING_RATE))

Params = dict[str, Any]


class State(NamedTuple):
    params: Params
    opt_state: Any


def init(key: Array) -> State:
    keys = iter(jax.random.split(key, 2 + 4 * BLOCKS))

    def kernel(rows: int, columns: int) -> Array:
        return jax.random.normal(next(keys), (rows, columns)) / jnp.sqrt(rows)

    params: Params = {
        "embedding": jax.random.normal(next(keys), (VOCABULARY, WIDTH)),
        "position": jax.random.normal(next(keys), (LENGTH, WIDTH)),
        "norm": _norm_parameters(),
        "blocks": [
            {
                "attention_norm": _norm_parameters(),
                "projections": kernel(WIDTH, 3 * WIDTH),
                "output": kernel(WIDTH, WIDTH),
                "mlp_norm": _norm_parameters(),
                "up": kernel(WIDTH, 4 * WIDTH),
                "down": kernel(4 * WIDTH, WIDTH),
            }
            for _ in range(BLOCKS)
        ],
    }
    return State(params, OPTIMIZER.init(params))


def logits(params: Params, tokens: Array) -> Array:
    """tokens int32 [B, LENGTH] -> float32 [B, LENGTH, VOCABULARY], each from the tokens up to it."""
    x = params["embedding"][tokens] + params["position"]
    for block in params["blocks"]:
        x = x + _attention(block, _layer_norm(block["attention_norm"], x))
        hidden = jax.nn.gelu(_layer_norm(block["mlp_norm"], x) @ block["up"])
        x = x + hidden @ block["down"]
    return _layer_norm(params["norm"], x) @ params["embedding"].T


def loss(params: Params, tokens: Array) -> Array:
    """Mean cross-entropy of each next token; tokens int32 [B, LENGTH + 1]."""
    found = logits(params, tokens[:, :-1])
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(found, tokens[:, 1:]))


def train_step(state: State, tokens: Array) -> tuple[State, dict[str, Array]]:
    value, gradients = jax.value_and_grad(loss)(state.params, tokens)
    updates, opt_state = OPTIMIZER.update(gradients, state.opt_state, state.params)
    metrics = {"loss": value, "grad_norm": optax.global_norm(gradients)}
    return State(optax.apply_updates(state.params, updates), opt_state), metrics


def evaluate(params: Params, tokens: Array) -> dict[str, Array]:
    found = logits(params, tokens[:, :-1])
    likeliest = jnp.argmax(found, axis=-1)
    return {
        "perplexity": jnp.exp(loss(params, tokens)),
        "accuracy": jnp.mean(likeliest == tokens[:, 1:]),
        "probabilities": jax.nn.softmax(found, axis=-1),
    }


def _attention(block: Params, x: Array) -> Array:
    batch, length, width = x.shape
    heads = (x @ block["projections"]).reshape(batch, length, 3, HEADS, width // HEADS)
    query, key, value = heads[:, :, 0], heads[:, :, 1], heads[:, :, 2]
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / jnp.sqrt(width // HEADS)
    seen = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape) @ block["output"]


def _norm_parameters() -> Params:
    return {"scale": jnp.ones(WIDTH), "bias": jnp.zeros(WIDTH)}


def _layer_norm(params: Params, x: Array) -> Array:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-5) * params["scale"] + params["bias"]
