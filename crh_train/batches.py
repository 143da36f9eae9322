"""Which samples a step gets: the batches of a prepared split, placed on the run's devices."""

import functools
from collections.abc import Callable

import numpy as np
from jax import Array
from jax.sharding import NamedSharding

from crh_train.config import RunConfig
from crh_train.data import index_stream
from crh_train.data.dataset import PreparedSplit
from crh_train.distribution import place
from crh_train.errors import ConfigError
from crh_train.types import Batch


def check_batch(config: RunConfig) -> None:
    """Raise `ConfigError` unless the parts of a batch are whole numbers of samples."""
    size, parts, devices = config.engine.batch_size, config.engine.micro_batches, config.runtime.devices
    if size % (parts * devices):
        raise ConfigError(
            f"engine.batch_size={size} must be a multiple of engine.micro_batches x runtime.devices = "
            f"{parts} x {devices}"
        )


def make_loader(
    train: PreparedSplit,
    order: Callable[[np.int32], Array],
    batch_size: int,
    steps_per_epoch: int,
    placement: NamedSharding,
) -> Callable[[int], Batch]:
    """steps done -> the next step's batch. `order` gives the samples of an epoch (the first is 0), int32 [samples]."""

    @functools.lru_cache(maxsize=1)
    def drawn(epoch: int) -> np.ndarray:
        return np.asarray(order(np.int32(epoch)))

    def load(done: int) -> Batch:
        epoch, batch = divmod(done, steps_per_epoch)
        chosen = index_stream.batch_indices(drawn(epoch), batch, batch_size)
        labels = None if train.labels is None else train.labels[chosen]
        return place(Batch(train.images[chosen], labels, chosen), placement)  # type: ignore[arg-type]

    return load
