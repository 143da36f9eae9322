"""Bugs that are put into the run store on purpose: the faults of `scripts/faults` find each, and nothing without it."""

import sys
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from faults.row import Row
from faults.seeded_bugs import BUGS, Check, damage, half_writes, kills, loss_of_power

LIMIT = 4


@cache
def without_a_bug(check: Check) -> Row:
    return check(LIMIT)


def assert_found(bug: str, check: Check) -> None:
    """That `check` finds violations with the bug, and none without it."""
    assert BUGS[bug].check is check
    with BUGS[bug].put_in():
        found = check(LIMIT)
    assert found.survived < found.tried, found
    assert without_a_bug(check).survived == without_a_bug(check).tried > 0, without_a_bug(check)


def test_no_fsync_of_a_checkpoint_is_found_by_loss_of_power() -> None:
    assert_found("no fsync of a checkpoint", loss_of_power)


def test_no_fsync_of_the_chronicle_is_found_by_loss_of_power() -> None:
    assert_found("no fsync of the chronicle", loss_of_power)


def test_no_fsync_of_a_folder_is_found_by_loss_of_power() -> None:
    assert_found("no fsync of a folder", loss_of_power)


def test_an_acknowledgement_that_comes_too_early_is_found_by_kills() -> None:
    assert_found("acknowledged too early", kills)


def test_an_overwrite_in_place_is_found_by_half_writes() -> None:
    assert_found("in-place overwrite of a document", half_writes)


def test_a_checkpoint_written_in_place_is_found_by_half_writes() -> None:
    assert_found("in-place writing of a checkpoint", half_writes)


def test_no_truncation_of_the_tail_is_found_by_kills() -> None:
    assert_found("no tail truncation", kills)


def test_no_truncation_of_the_tail_is_found_even_if_the_writer_does_not_look() -> None:
    assert_found("no tail truncation, and the writer does not look", kills)


def test_no_hash_check_of_a_checkpoint_is_found_by_damage() -> None:
    assert_found("no hash check of a checkpoint", damage)
