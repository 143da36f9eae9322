"""From an answer for each token to one for the whole sample."""

import jax.numpy as jnp
from jax import Array

from crh_train.reduction import fixed_axis_sum
from crh_train.types import Model, Params


def averaged(model: Model) -> Model:
    """`model` with its output averaged over slices, rows and columns: [B, T, h, w, K] -> [B, K].

    Global average pooling: Lin et al., Network in network, arXiv:1312.4400.
    """

    def apply(params: Params, x: Array) -> Array:
        y = jnp.moveaxis(model.apply(params, x), -1, 1)
        return fixed_axis_sum(y, 3) * (y.shape[0] * y.shape[1] / y.size)

    return Model(model.init, apply)
