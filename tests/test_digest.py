"""Digests: canonical, injective, and the same on every machine."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crh_train.digest import canonical_json, digest_arrays, digest_bytes, digest_file, digest_json, little_endian

WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_canonical_json_has_one_way_to_write_each_value() -> None:
    """The example of RFC 8785, section 3.2.3, and its ordering by UTF-16 code units."""
    value = {"numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 1e-27], "literals": [None, True, False], "é": 1, "a": ""}
    expected = '{"a":"","literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"é":1}'
    assert canonical_json(value) == expected.encode()


@pytest.mark.parametrize(("one", "other"), [(1e-3, 0.001), (1.0, 1), ({"a": 1, "b": 2}, {"b": 2, "a": 1})])
def test_the_same_value_has_one_digest(one: object, other: object) -> None:
    assert digest_json(one) == digest_json(other)


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53, {"a": {1, 2}}])
def test_what_json_cannot_hold_exactly_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the library's own kinds, all of them ValueErrors
        canonical_json(value)


def test_the_digest_of_bytes_of_json_and_of_a_file_is_plain_sha256(tmp_path: Path) -> None:
    data = canonical_json({"seed": 7})
    (tmp_path / "file").write_bytes(data)
    expected = hashlib.sha256(b'{"seed":7}').hexdigest()
    assert digest_bytes(data) == digest_json({"seed": 7}) == digest_file(tmp_path / "file") == expected


def test_the_encoding_of_arrays_is_the_one_that_is_documented() -> None:
    expected = hashlib.sha256()
    for name, array in (("count", np.array(4, np.int32)), ("weights", WEIGHTS)):
        header = json.dumps([name, array.dtype.name, list(array.shape)], separators=(",", ":")).encode()
        expected.update(len(header).to_bytes(8, "little") + header + array.tobytes())
    assert digest_arrays({"weights": WEIGHTS, "count": np.array(4, np.int32)}) == expected.hexdigest()


@pytest.mark.parametrize(
    "same",
    [WEIGHTS.astype(">f4"), np.asfortranarray(WEIGHTS), np.repeat(WEIGHTS, 2, axis=1)[:, ::2], WEIGHTS[::-1][::-1]],
    ids=["big-endian", "column-major", "strided", "reversed twice"],
)
def test_how_an_array_lies_in_memory_does_not_matter(same: np.ndarray) -> None:
    assert digest_arrays({"w": same}) == digest_arrays({"w": WEIGHTS})


def test_the_order_of_the_mapping_does_not_matter() -> None:
    one, two = WEIGHTS, WEIGHTS + 1
    assert digest_arrays({"a": one, "b": two}) == digest_arrays({"b": two, "a": one})


@pytest.mark.parametrize(
    "other",
    [
        {"v": WEIGHTS},
        {"w": WEIGHTS.reshape(3, 2)},
        {"w": WEIGHTS.view(np.int32)},
        {"w": WEIGHTS[:1], "x": WEIGHTS[1:]},
        {"w": WEIGHTS, "x": np.zeros(0, np.float32)},
        {},
    ],
    ids=["name", "shape", "type", "cut in two", "an empty array more", "nothing"],
)
def test_name_shape_type_and_number_of_arrays_are_part_of_the_digest(other: dict[str, np.ndarray]) -> None:
    assert digest_arrays(other) != digest_arrays({"w": WEIGHTS})


@given(st.integers(0, 5), st.integers(0, 31))
def test_every_bit_counts(element: int, bit: int) -> None:
    changed = WEIGHTS.copy()
    changed.reshape(-1).view(np.uint32)[element] ^= np.uint32(1 << bit)
    assert digest_arrays({"w": changed}) != digest_arrays({"w": WEIGHTS})


@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (2, 3)])
def test_little_endian_keeps_shape_and_values(shape: tuple[int, ...]) -> None:
    array = np.ones(shape, ">i4")
    converted = little_endian(array)
    assert converted.shape == shape
    assert converted.dtype.newbyteorder("=") == np.int32
    assert converted.tobytes() == np.ones(shape, "<i4").tobytes()
