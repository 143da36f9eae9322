"""A run done again step by step, in this process: its operations, one by one, give what its archived program gives."""

import numpy as np
import pytest
from command_line import STEPS_PER_EPOCH

from crh_train.errors import UsageError
from crh_train.rerun import Rerun
from crh_train.run_store import RunFolder
from crh_train.stored import stored_config


@pytest.fixture(scope="module")
def rerun(finished: RunFolder) -> Rerun:
    return Rerun(finished, stored_config(finished, ["runtime.cache=null"]))


def test_the_operations_of_a_step_give_its_state_and_its_numbers(rerun: Rerun) -> None:
    rerun.begin(STEPS_PER_EPOCH)
    taken = rerun.advance()
    assert taken.reproduced
    rerun.trace("step")
    given: set[str] = set()
    while chunk := rerun.chunk():
        given |= {digest for each in chunk for digest in each.digests}
    made = {name for name, digest in taken.after.items() if digest not in given}
    assert made == {"root key"}, "which no step changes"


def test_the_operations_of_init_give_the_first_state(rerun: Rerun) -> None:
    start = rerun.begin(0)
    rerun.trace("init")
    given: set[str] = set()
    while chunk := rerun.chunk():
        given |= {digest for each in chunk for digest in each.digests}
    assert {name for name, digest in start.items() if name.startswith("model") and digest not in given} == set()


def test_the_batch_can_be_looked_at(rerun: Rerun, finished: RunFolder) -> None:
    rerun.begin(0)
    rerun.advance()
    assert rerun.array("batch.label") is None or rerun.array("batch.label").dtype == np.int32
    image, sample = rerun.array("batch.image"), rerun.array("batch.sample")
    assert image is not None
    assert sample is not None
    assert len(image) == len(sample) == 4
    assert list(rerun.array("root key")) == [0, finished.run_document()["seed"]]


def test_a_step_without_a_checkpoint_is_no_beginning(rerun: Rerun) -> None:
    with pytest.raises(UsageError, match="has no checkpoint after step 1 to begin with"):
        rerun.begin(1)
