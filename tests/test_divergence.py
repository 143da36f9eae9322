"""Where two runs part: no differing bit is missed, and none is invented."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crh_train.divergence import (
    ArrayDifference,
    Difference,
    array_difference,
    differences,
    differing_arrays,
    first_difference,
    ulp_distance,
)


def pattern_of(value: float) -> int:
    return int(np.array(value, np.float32).view(np.uint32))


# Not `st.integers(0, 2**32 - 1)`, which draws small numbers and hardly ever a sign bit.
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False).map(pattern_of)
PATTERNS = st.binary(min_size=4, max_size=4).map(lambda data: int.from_bytes(data, "little")) | FINITE
LARGEST = float(np.finfo(np.float32).max)


def float32(pattern: int) -> np.ndarray:
    return np.array(pattern, np.uint32).view(np.float32)


def distance(a: float, b: float) -> int:
    return int(ulp_distance(np.float32(a), np.float32(b)))  # type: ignore[arg-type]


# --- distances -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "steps"),
    [
        (1.0, 1.0, 0),
        (0.0, -0.0, 1),
        (1.0, 1.0 + 2.0**-23, 1),
        (1.0, 1.0 - 2.0**-24, 1),
        (2.0, 1.0, 2**23),
        (0.0, 1e-45, 1),
        (-1e-45, 1e-45, 3),
        (1e-45, 2.0**-126, 2**23 - 1),
        (LARGEST, np.inf, 1),
        (-LARGEST, LARGEST, 2 * 0x7F7FFFFF + 1),
        (-np.inf, np.inf, 2 * 0x7F800000 + 1),
    ],
)
def test_known_distances(a: float, b: float, steps: int) -> None:
    assert distance(a, b) == distance(b, a) == steps


@given(FINITE)
def test_the_next_float_is_one_step_away(pattern: int) -> None:
    value = float32(pattern)
    with np.errstate(over="ignore"):
        following = np.nextafter(value, np.float32(np.inf))
    steps = int(ulp_distance(value, following))
    # From the smallest negative number NumPy goes to -0, from -0 past +0 to the smallest positive one.
    assert steps == (2 if pattern == 0x80000000 else 1)


@given(PATTERNS, st.just(0) | st.integers(0, 31).map(lambda bit: 1 << bit) | PATTERNS)
def test_two_patterns_are_apart_unless_they_are_the_same(one: int, difference: int) -> None:
    assert (int(ulp_distance(float32(one), float32(one ^ difference))) == 0) == (difference == 0)


@given(FINITE, FINITE, FINITE)
def test_distances_add_up_along_the_order_of_the_numbers(one: int, two: int, three: int) -> None:
    low, middle, high = sorted(map(float32, (one, two, three)), key=lambda x: (float(x), not np.signbit(x)))
    assert ulp_distance(low, high) == ulp_distance(low, middle) + ulp_distance(middle, high)


def test_distances_are_elementwise() -> None:
    found = ulp_distance(np.array([[1, 2], [0, 4]], np.float32), np.array([[1, 4], [-0.0, 4]], np.float32))
    assert found.tolist() == [[0, 2**23], [1, 0]]
    assert found.dtype == np.int64


# --- a step's numbers ----------------------------------------------------------------------------------------------

LINE = {
    "epoch": 1,
    "batch": 2,
    "loss": np.float32(0.25),
    "coherence": np.float32(0.5),
    "lr": np.float32(1e-3),
    "grad_norm": np.float32(np.nan),
    "step": 9,
    "timestamp": 1.5,
}
FLOATS = ("loss", "coherence", "lr", "grad_norm")


def test_the_same_line_does_not_differ_whatever_its_timestamp() -> None:
    assert first_difference(9, LINE, {**LINE, "timestamp": 2.5}) is None


def test_a_nan_is_equal_to_the_same_nan_and_no_other() -> None:
    other = {**LINE, "grad_norm": float32(0x7FC00001)[()]}
    assert first_difference(9, other, dict(other)) is None
    found = first_difference(9, LINE, other)
    assert found == Difference(9, "grad_norm", "nan", "nan", None)


@given(st.sampled_from(FLOATS), st.integers(0, 31), PATTERNS)
@example("loss", 31, 0)
def test_one_flipped_bit_is_seen(field: str, bit: int, pattern: int) -> None:
    recorded = {**LINE, field: float32(pattern)[()]}
    found = first_difference(9, recorded, {**recorded, field: float32(pattern ^ 1 << bit)[()]})
    assert found is not None
    assert (found.step, found.field) == (9, field)


@pytest.mark.parametrize("field", ["epoch", "batch", "step"])
def test_a_whole_number_that_differs_is_seen(field: str) -> None:
    found = first_difference(9, LINE, {**LINE, field: 77})
    assert found == Difference(9, field, str(LINE[field]), "77", None)


def test_the_first_field_in_the_chronicles_order_is_named() -> None:
    found = first_difference(9, LINE, {**LINE, "lr": np.float32(1), "loss": np.float32(1), "step": 4})
    assert found is not None
    assert found.field == "loss"


def test_a_difference_says_by_how_much() -> None:
    up = np.nextafter(np.float32(0.25), np.float32(1))
    found = first_difference(9, LINE, {**LINE, "loss": up})
    assert str(found) == "step 9: loss is 0.25000003, recorded 0.25 (1 ulp apart)"
    assert str(first_difference(9, LINE, {**LINE, "loss": np.float32(np.inf)})) == "step 9: loss is inf, recorded 0.25"


# --- states --------------------------------------------------------------------------------------------------------

WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)
ARRAYS = {"w": WEIGHTS, "n": np.array([np.nan], np.float32), "count": np.array(4, np.int32)}


def test_the_same_arrays_do_not_differ() -> None:
    assert differing_arrays(ARRAYS, {name: array.copy() for name, array in reversed(ARRAYS.items())}) == []


@given(st.integers(0, 5), st.integers(0, 31))
def test_one_flipped_bit_in_an_array_is_seen(element: int, bit: int) -> None:
    changed = WEIGHTS.copy()
    changed.reshape(-1).view(np.uint32)[element] ^= np.uint32(1 << bit)
    (line,) = differing_arrays(ARRAYS, {**ARRAYS, "w": changed})
    assert line.startswith("'w': 1 of 6 elements differ, by at most ")


def test_how_many_elements_differ_and_by_how_much_at_most() -> None:
    changed = WEIGHTS.copy()
    changed[0, 0], changed[1, 2] = -0.0, np.nextafter(np.nextafter(np.float32(5), np.float32(9)), np.float32(9))
    lines = differing_arrays(ARRAYS, {**ARRAYS, "w": changed, "count": np.array(5, np.int32)})
    assert lines == ["'count': 1 of 1 elements differ", "'w': 2 of 6 elements differ, by at most 2 ulp"]


def test_arrays_of_one_side_only_and_of_another_kind_are_named_in_sorted_order() -> None:
    recorded = {"z": WEIGHTS, "shape": WEIGHTS, "type": WEIGHTS, "gone": WEIGHTS}
    replayed = {"z": WEIGHTS, "type": WEIGHTS.view(np.int32), "shape": WEIGHTS.T, "added": WEIGHTS}
    assert differing_arrays(recorded, replayed) == [
        "'added' is only in the replay",
        "'gone' is only in the recorded run",
        "'shape' is float32[3, 2], recorded float32[2, 3]",
        "'type' is int32[2, 3], recorded float32[2, 3]",
    ]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float16, np.int32, np.float64])
def test_arrays_of_every_width_are_compared_bit_by_bit(dtype: type) -> None:
    one, other = np.zeros(3, dtype), np.array([0, 1, 0], dtype)
    assert differing_arrays({"a": one}, {"a": other}) == ["'a': 1 of 3 elements differ"]


# --- two arrays ----------------------------------------------------------------------------------------------------


@given(st.integers(0, 5), st.integers(0, 31))
def test_the_first_element_of_which_a_bit_differs_is_named(element: int, bit: int) -> None:
    changed = WEIGHTS.copy()
    changed.reshape(-1).view(np.uint32)[element:] ^= np.uint32(1 << bit)
    found = array_difference("w", WEIGHTS, changed)
    assert found is not None
    assert (found.element, found.differing, found.elements) == (divmod(element, 3), 6 - element, 6)
    assert (found.value_a, found.value_b) == (str(WEIGHTS[found.element]), str(changed[found.element]))
    assert array_difference("w", changed, changed.copy()) is None


def test_distances_are_of_finite_numbers_alone() -> None:
    a, b = np.float32([np.nan, 1, 2]), np.float32([0, np.nextafter(np.float32(1), np.float32(2)), 2])
    assert array_difference("w", a, b) == ArrayDifference(
        "w", "float32[3]", "float32[3]", 3, 2, (0,), "nan", "0.0", None, 1
    )
    assert array_difference("w", a[:1], b[:1]) == ArrayDifference(
        "w", "float32[1]", "float32[1]", 1, 1, (0,), "nan", "0.0", None, None
    )


def test_an_array_that_one_side_lacks_or_has_otherwise() -> None:
    assert array_difference("w", None, WEIGHTS) == ArrayDifference("w", None, "float32[2, 3]")
    assert array_difference("w", WEIGHTS, WEIGHTS.T) == ArrayDifference("w", "float32[2, 3]", "float32[3, 2]")
    assert array_difference("w", None, None) is None


def test_every_field_that_differs_is_listed_in_the_chronicles_order() -> None:
    found = differences(9, LINE, {**LINE, "lr": np.float32(1), "loss": np.float32(1), "timestamp": 3.0})
    assert [each.field for each in found] == ["loss", "lr"]
