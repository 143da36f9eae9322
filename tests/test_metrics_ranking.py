"""AUC: scikit-learn's, with ties; and the laws of ranks."""

from fractions import Fraction

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from crh_train import metrics


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2).filter(lambda x: len({p for _, p in x}) == 2))
def test_auc_is_that_of_scikit_learn_with_any_ties(cases: list[tuple[int, bool]]) -> None:
    scores, positive = (np.array(column) for column in zip(*cases, strict=True))
    found = metrics.auc(scores / np.float32(7), positive)
    assert float(found) == pytest.approx(sklearn.metrics.roc_auc_score(positive, scores), abs=1e-12)
    assert metrics.auc(scores[::-1] / np.float32(7), positive[::-1]) == found
    assert metrics.auc(scores**3, positive) == found
    assert metrics.auc(scores, ~positive) == 1 - found


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_macro_auc_is_that_of_scikit_learn(classes: int) -> None:
    generator = np.random.default_rng(classes)
    target = generator.integers(0, classes, 60)
    words = generator.integers(1, 9, (60, classes)) + 5 * (target[:, None] == np.arange(classes))
    probabilities = words / words.sum(axis=1, keepdims=True)
    given = probabilities[:, 1] if classes == 2 else probabilities
    expected = sklearn.metrics.roc_auc_score(target, given, multi_class="ovr", average="macro")
    assert metrics.auc_macro(probabilities, target) == pytest.approx(expected, rel=1e-6)


def test_a_perfect_ranking_is_one_and_a_blind_one_a_half() -> None:
    positive = np.array([False, False, True, True])
    assert metrics.auc(np.array([0.1, 0.2, 0.3, 0.9]), positive) == 1
    assert metrics.auc(np.full(4, 0.5), positive) == Fraction(1, 2)


def test_without_both_classes_there_is_no_area_and_a_class_nobody_has_is_left_out() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1]])
    assert metrics.auc(probabilities[:, 0], np.ones(3, bool)) is None
    assert metrics.auc(np.array([0.1, np.nan]), np.array([True, False])) is None
    assert metrics.auc_macro(probabilities, np.zeros(3, int)) is None
    assert metrics.auc_macro(probabilities, np.array([0, 1, 1])) == 1
