"""Which samples make up the batch of a step: a pure function of (root key, step). There is no iterator and no state.

An epoch visits a fresh permutation of the training samples, batch by batch. The samples that do not fill a last whole
batch are left out of that epoch, so that every batch has one shape; the next epoch draws them anew.
"""

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp

from crh_train.errors import ConfigError
from crh_train.randomness import Purpose, derive


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Whole batches in one epoch. Raises ConfigError where there is not even one."""
    if samples < batch_size:
        raise ConfigError(f"engine.batch_size={batch_size} must be at most the number of training samples, {samples}")
    return samples // batch_size


def epoch_order(root: Array, epoch: Array | int, samples: int) -> Array:
    """The order of the samples in `epoch` (the first is 0): a permutation of 0 to samples - 1, int32 [samples]."""
    indices = jnp.arange(samples, dtype=jnp.int32)
    return jax.random.permutation(derive(root, Purpose.SHUFFLE, epoch), indices)


def batch_indices(order: np.ndarray, batch: int, batch_size: int) -> np.ndarray:
    """The samples of batch number `batch` (the first is 0) of an epoch of that `order`: int32 [batch_size]."""
    return order[batch * batch_size : (batch + 1) * batch_size]
