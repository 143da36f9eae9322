"""Calibration error: its definition written out bin by bin, and what edges and ties do."""

import numpy as np
import pytest

from crh_train import metrics
from crh_train.metrics.calibration import BINS


def sample(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of three classes, and classes that are not drawn from them."""
    generator = np.random.default_rng(seed)
    scores = np.exp(3 * generator.standard_normal((count, 3)))
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32), generator.integers(0, 3, count)


def defined(probabilities: np.ndarray, target: np.ndarray) -> float:
    """Guo et al. 2017, equations 2 and 3, in float64."""
    confidence, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == target
    error = 0.0
    for m in range(1, BINS + 1):
        inside = (confidence > (m - 1) / BINS) & (confidence <= m / BINS)
        if inside.any():
            error += inside.sum() / len(target) * abs(right[inside].mean() - confidence[inside].mean())
    return error


@pytest.mark.parametrize("count", [1, 10, 3000])
def test_it_is_the_definition(count: int) -> None:
    probabilities, target = sample(count)
    found = metrics.calibration_error(metrics.bins(probabilities, target))
    assert found == pytest.approx(defined(probabilities, target), rel=1e-6)


def test_the_order_of_predictions_does_not_matter_and_pieces_add_up() -> None:
    probabilities, target = sample(500)
    whole = metrics.calibration_error(metrics.bins(probabilities, target))
    assert metrics.calibration_error(metrics.bins(probabilities[::-1], target[::-1])) == whole
    pieces = [metrics.bins(probabilities[part], target[part]) for part in (slice(0, 7), slice(7, 400), slice(400, 500))]
    assert metrics.calibration_error(metrics.together(pieces)) == whole


def test_certainty_belongs_to_the_last_bin() -> None:
    """No other edge is a float32: the nearest ones to 0.6, the edge of bins 8 and 9, are above it and below."""
    above = np.float32(0.6)
    below = np.nextafter(above, np.float32(0))
    confidences = np.array([1, above, below], np.float32)
    found = metrics.bins(np.stack([confidences, 1 - confidences], axis=1), np.zeros(3, int)).total
    assert np.flatnonzero(found).tolist() == [8, 9, 14]


def test_of_equal_probabilities_the_first_class_is_the_predicted_one() -> None:
    tie = np.array([[0.5, 0.5]], np.float32)
    assert metrics.calibration_error(metrics.bins(tie, np.array([0]))) == 0.5
    assert metrics.bins(tie, np.array([1])).correct.sum() == 0


def test_certain_and_right_is_no_error_certain_and_wrong_is_all_of_it() -> None:
    sure = np.eye(3, dtype=np.float32)
    assert metrics.calibration_error(metrics.bins(sure, np.arange(3))) == 0
    assert metrics.calibration_error(metrics.bins(sure, (np.arange(3) + 1) % 3)) == 1


def test_what_is_no_probability_is_not_hidden() -> None:
    probabilities = np.array([[0.5, 0.5], [np.nan, 0.5]], np.float32)
    assert np.isnan(metrics.calibration_error(metrics.bins(probabilities, np.zeros(2, int))))
    assert metrics.calibration_error(metrics.bins(np.zeros((0, 2), np.float32), np.zeros(0, int))) is None
