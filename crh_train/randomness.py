"""The one root key and how every use derives its own from it. No generator, no state, no key used twice.

A key is `fold_in(fold_in(root, purpose), index)`: the purpose says what for, the index which one (an epoch, a step,
a sample). Purposes are numbered for ever: a number released is never given to another purpose.
"""

from enum import IntEnum

import jax
from jax import Array


class Purpose(IntEnum):
    INITIALISE = 0  # index: 0
    SHUFFLE = 1  # index: the epoch
    AUGMENT = 2  # index: the step, then the sample's index in the dataset
    SAMPLING_MASK = 3  # index: 0; of the mask's own seed
    TASK = 4  # index: the step, then the sample's index in the dataset
    VALIDATION = 5  # index: the sample's index in the validation split; of seed 0, so that every run is judged alike


def root_key(seed: int) -> Array:
    """The run's root key: a threefry key from `seed`, 0 <= seed < 2**32 (JAX keeps no more bits with x64 off)."""
    return jax.random.key(seed, impl="threefry2x32")


def wrapped(words: Array) -> Array:
    """The root key of its two words, uint32 [2], as `jax.random.key_data` gives them."""
    key: Array = jax.random.wrap_key_data(words, impl="threefry2x32")
    return key


def derive(root: Array, purpose: Purpose, index: Array | int) -> Array:
    """The key of use number `index` of `purpose`."""
    return jax.random.fold_in(jax.random.fold_in(root, int(purpose)), index)
