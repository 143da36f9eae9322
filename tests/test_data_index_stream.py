"""Sample order is a pure function of (seed, step)."""

import numpy as np
import pytest

from crh_train.data import index_stream
from crh_train.errors import ConfigError
from crh_train.randomness import root_key

ROOT = root_key(7)
SAMPLES, BATCH = 23, 5


def test_an_epoch_is_a_permutation_and_another_one_each_time() -> None:
    orders = [np.asarray(index_stream.epoch_order(ROOT, epoch, SAMPLES)) for epoch in range(3)]
    for order in orders:
        assert order.dtype == np.int32
        assert sorted(order.tolist()) == list(range(SAMPLES))
    assert len({order.tobytes() for order in orders}) == 3


def test_the_seed_decides_the_order() -> None:
    other = np.asarray(index_stream.epoch_order(root_key(8), 0, SAMPLES))
    assert other.tolist() != np.asarray(index_stream.epoch_order(ROOT, 0, SAMPLES)).tolist()


def test_the_order_is_the_same_for_ever() -> None:
    """A released order: a change of this list makes every earlier run unrepeatable."""
    assert np.asarray(index_stream.epoch_order(root_key(0), 1, 8)).tolist() == [6, 1, 2, 4, 3, 7, 5, 0]


def test_the_batches_of_an_epoch_are_its_order_without_the_last_part() -> None:
    steps = index_stream.steps_per_epoch(SAMPLES, BATCH)
    assert steps == 4
    order = np.asarray(index_stream.epoch_order(ROOT, 5, SAMPLES))
    together = [index_stream.batch_indices(order, batch, BATCH) for batch in range(steps)]
    assert {len(each) for each in together} == {BATCH}
    assert np.concatenate(together).tolist() == order.tolist()[: steps * BATCH]


def test_a_batch_larger_than_the_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size=24 must be at most the number of training samples, 23"):
        index_stream.steps_per_epoch(SAMPLES, 24)
