"""Segments: together they are the whole, each begins where a state was saved, and the longest is as short as can be."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from crh_train.segments import Segment, cut

CASES = st.tuples(
    st.integers(0, 5), st.integers(1, 12), st.frozensets(st.integers(0, 20), max_size=7), st.integers(1, 6)
)


def cases(drawn: tuple[int, int, frozenset[int], int]) -> tuple[Segment, list[int], int]:
    first, steps, saved, most = drawn
    whole = Segment(first, first + steps)
    return whole, sorted(step for step in saved if whole.first < step < whole.last), most


@given(CASES)
def test_every_step_is_in_one_segment_and_each_begins_where_a_state_was_saved(
    drawn: tuple[int, int, frozenset[int], int],
) -> None:
    whole, inside, most = cases(drawn)
    segments = cut(whole, drawn[2], most)
    assert 1 <= len(segments) <= most
    assert (segments[0].first, segments[-1].last) == whole
    for before, after in itertools.pairwise(segments):
        assert before.last == after.first
        assert after.first in inside
    assert all(segment.first < segment.last for segment in segments)


@given(CASES)
def test_no_other_cut_has_a_shorter_longest_segment(drawn: tuple[int, int, frozenset[int], int]) -> None:
    whole, inside, most = cases(drawn)
    possible = [
        max(b - a for a, b in itertools.pairwise([whole.first, *chosen, whole.last]))
        for count in range(most)
        for chosen in itertools.combinations(inside, count)
    ]
    assert max(last - first for first, last in cut(whole, drawn[2], most)) == min(possible)


def test_a_segment_counts_steps_from_one() -> None:
    assert str(Segment(6, 12)) == "steps 7 to 12"
