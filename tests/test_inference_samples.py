"""Samples cover a volume, and what is made of them is put together as their mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crh_train.errors import DataError
from crh_train.inference.samples import first_slices, predicted


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 12))
def test_every_slice_is_in_a_sample_and_no_sample_goes_beyond(count: int, slices: int, stride: int) -> None:
    if count < slices:
        with pytest.raises(DataError, match=f"it has {count} slices, the model takes {slices}"):
            first_slices(count, slices, stride)
        return
    starts = first_slices(count, slices, stride)
    assert {start + step for start in starts for step in range(slices)} == set(range(count))
    assert sorted(set(starts)) == list(starts)


def test_where_samples_overlap_it_is_their_mean() -> None:
    pictures = np.zeros((4, 2, 2), np.float32)
    calls = iter([1.0, 2.0, 4.0])
    found = predicted(pictures, lambda given: given + np.float32(next(calls)), 2, 1, False)
    assert found[:, 0, 0].tolist() == [1.0, 1.5, 3.0, 4.0]
    calls = iter([1.0, 3.0])
    whole = predicted(pictures, lambda given: np.full(2, next(calls), np.float32), 2, 2, True)
    assert whole.tolist() == [2.0, 2.0]
