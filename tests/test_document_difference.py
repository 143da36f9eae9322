"""Documents: what differs is told, by its dotted key, and nothing else is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crh_train.document_difference import Entry, as_json, differing, flattened

LEAVES = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["x", "y"]) | st.lists(st.integers(0, 1))
DOCUMENTS = st.recursive(
    st.dictionaries(st.sampled_from("abc"), LEAVES, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), LEAVES | inner, max_size=3),
    max_leaves=8,
)


@given(DOCUMENTS, DOCUMENTS)
def test_what_is_told_is_what_makes_one_document_of_the_other(a: dict[str, Any], b: dict[str, Any]) -> None:
    rebuilt = dict(flattened(a))
    for entry in differing(a, b):
        rebuilt.pop(entry.key, None)
        if "b" in entry.sides:
            rebuilt[entry.key] = entry.sides["b"]
    assert [(key, repr(value)) for key, value in sorted(rebuilt.items())] == [
        (key, repr(value)) for key, value in sorted(flattened(b).items())
    ]


@given(DOCUMENTS)
def test_a_document_does_not_differ_from_itself(document: dict[str, Any]) -> None:
    assert differing(document, document) == []


def test_a_side_that_lacks_the_key_is_not_there() -> None:
    (entry,) = differing({"model": {"name": "cnn", "kernel": None}}, {"model": {"name": "cnn"}})
    assert entry == Entry("model.kernel", {"a": None})
    assert (entry.text("a"), entry.text("b")) == ("null", "–")
    assert as_json([entry]) == [{"key": "model.kernel", "a": None}]


def test_lists_of_names_are_cut_down_to_what_the_other_lacks_and_others_are_not() -> None:
    (names,) = differing({"features": ["avx", "avx2", "fma"]}, {"features": ["avx", "fma", "sve"]})
    assert names.sides == {"a": ["avx2"], "b": ["sve"]}
    (order,) = differing({"flags": ["x", "y"]}, {"flags": ["y", "x"]})
    assert order.sides == {"a": ["x", "y"], "b": ["y", "x"]}
    (numbers,) = differing({"shape": [48, 48]}, {"shape": [48, 64]})
    assert numbers.sides == {"a": [48, 48], "b": [48, 64]}


@pytest.mark.parametrize(("a", "b"), [(True, 1), (0, False)])
def test_true_is_not_one(a: object, b: object) -> None:
    assert len(differing({"key": a}, {"key": b})) == 1
