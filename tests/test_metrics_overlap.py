"""Overlap: what scikit-learn and MONAI make of the same classes, and the laws of counts."""

import json
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from class_samples import CLASSES, SAMPLES, Sample
from hypothesis import given
from hypothesis import strategies as st

from crh_train import metrics
from crh_train.errors import UsageError

MONAI = json.loads((Path(__file__).parent / "golden" / "monai.json").read_text())["samples"]

CASES = {
    "all present": (4, [0, 1, 2, 3, 0, 1, 2, 2], [0, 1, 2, 3, 1, 1, 0, 2]),
    "absent from both": (6, [0, 1, 1, 4], [0, 1, 4, 4]),
    "only predicted": (3, [0, 1, 2, 2], [0, 1, 1, 0]),
    "only in the target": (3, [0, 1, 1, 0], [0, 1, 2, 2]),
    "all wrong": (2, [0, 0, 1], [1, 1, 0]),
}


@pytest.mark.parametrize(("classes", "predicted", "target"), CASES.values(), ids=CASES)
def test_accuracy_and_f1_are_those_of_scikit_learn(classes: int, predicted: list[int], target: list[int]) -> None:
    table = metrics.confusion(np.array(predicted), np.array(target), classes)
    assert table.tolist() == sklearn.metrics.confusion_matrix(target, predicted, labels=range(classes)).tolist()
    f1 = sklearn.metrics.f1_score(target, predicted, average="macro", zero_division=0)
    assert metrics.f1_macro(table) == np.float32(f1)
    assert metrics.accuracy(table) == np.float32(sklearn.metrics.accuracy_score(target, predicted))


@pytest.mark.parametrize(("name", "sample"), SAMPLES.items(), ids=SAMPLES)
def test_dice_is_monais(name: str, sample: Sample) -> None:
    table = metrics.confusion(sample.predicted, sample.target, CLASSES)
    expected = [None if value is None else np.float32(value) for value in MONAI[name]["dice"]]
    found = metrics.dice(table)
    assert [value is None for value in found] == [value is None for value in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine is None or abs(mine - theirs) <= np.spacing(theirs)  # MONAI rounds at each step


def test_the_background_has_no_dice() -> None:
    same = np.array([[0, 0, 0, 1]])
    assert metrics.dice(metrics.confusion(same, same, 2)) == [1]
    assert metrics.dice(metrics.confusion(1 - same, same, 2)) == [0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1), st.randoms())
def test_the_order_of_elements_does_not_matter_and_tables_add_up(pairs: list[tuple[int, int]], random: object) -> None:
    whole = np.array(pairs)
    table = metrics.confusion(whole[:, 0], whole[:, 1], 4)
    shuffled = np.array(random.sample(pairs, len(pairs)))  # type: ignore[attr-defined]
    assert metrics.confusion(shuffled[:, 0], shuffled[:, 1], 4).tolist() == table.tolist()
    parts = [metrics.confusion(part[:, 0], part[:, 1], 4) for part in (whole[:1], whole[1:])]
    assert sum(parts).tolist() == table.tolist()
    perfect = metrics.confusion(whole[:, 1], whole[:, 1], 4)
    assert (metrics.accuracy(perfect), metrics.f1_macro(perfect)) == (1, 1)
    assert set(metrics.dice(perfect)) <= {np.float32(1), None}


def test_nothing_gives_no_number() -> None:
    table = np.zeros((3, 3), np.int64)
    assert metrics.accuracy(table) is metrics.f1_macro(table) is metrics.mean_of([None, None]) is None
    assert metrics.dice(table) == [None, None]


def test_a_mean_is_of_what_is_there_and_rounded_once() -> None:
    thirds = [np.float32(1 / 3), None, np.float32(2**-30), np.float32(1)]
    there = [float(value) for value in thirds if value is not None]
    assert metrics.mean_of(thirds) == np.float32(sum(there) / 3)
    assert metrics.mean_of([np.float32(1), np.float32(np.inf)]) == np.inf


def test_shapes_must_agree() -> None:
    with pytest.raises(UsageError, match="one shape"):
        metrics.confusion(np.zeros(1, int), np.zeros(2, int), 2)
