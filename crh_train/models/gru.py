"""Gated recurrent unit along the slice sequence, the same one at each location; it sees no neighbours within a slice.

Its input at a location is the token's features, so give it patches (`tokenizer.patch`) and several `data.slices`.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from crh_train.config import GruConfig
from crh_train.models.initializers import Fans, Kernel, Zeros
from crh_train.models.layers import LINEAR, dense, model, projection
from crh_train.types import Model, Params


def make(config: GruConfig, in_channels: int, out_channels: int) -> Model:
    """Tokens float32 [B, T, h, w, in_channels] -> [B, T, h, w, out_channels], one direction, first slice first.

    With state s (`config.hidden` wide, zero before the first slice) and input x:

        r = σ(W_r x + b_r + U_r s + c_r)             z = σ(W_z x + b_z + U_z s + c_z)
        n = tanh(W_n x + b_n + r ⊙ (U_n s + c_n))    s ← (1 − z) ⊙ n + z ⊙ s        y = W_y s + b_y

    Cho et al., arXiv:1406.1078, with the reset gate after the product, as cuDNN and PyTorch have it.
    Parameters: `input.{kernel [in, 3·hidden], bias}` (W, b; r, z, n side by side), `state.{kernel, bias}` (U, c),
    `output.{kernel, bias}`. Kernels have the fans of a single gate.

    Raises:
      ConfigError: residual with other output than input channels.
    """
    hidden = config.hidden
    parameters = projection(config, "output", (hidden, out_channels))
    for name, width in (("input", in_channels), ("state", hidden)):
        fan = Fans(fan_in=width, fan_out=hidden)
        parameters[f"{name}.kernel"] = Kernel((width, 3 * hidden), fan, LINEAR)
        parameters[f"{name}.bias"] = Zeros((3 * hidden,))

    def apply(params: Params, x: Array) -> Array:
        def advance(state: Array, gates: Array) -> tuple[Array, Array]:
            reset_x, update_x, candidate_x = jnp.split(gates, 3, axis=-1)
            reset_s, update_s, candidate_s = jnp.split(dense(params, "state", state), 3, axis=-1)
            reset = jax.nn.sigmoid(reset_x + reset_s)
            update = jax.nn.sigmoid(update_x + update_s)
            candidate = jnp.tanh(candidate_x + reset * candidate_s)
            state = (1.0 - update) * candidate + update * state
            return state, state

        sequence = jnp.moveaxis(x, 1, 0)
        start = jnp.zeros((*sequence.shape[1:-1], hidden), jnp.float32)
        _, states = lax.scan(advance, start, dense(params, "input", sequence))
        return jnp.moveaxis(dense(params, "output", states), 0, 1)

    return model(config, in_channels, out_channels, parameters, apply)
