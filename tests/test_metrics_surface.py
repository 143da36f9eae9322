"""HD95: what MONAI makes of the same masks, what scipy's distance transform gives, and the laws of a distance."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from class_samples import CLASSES, SAMPLES, Sample

from crh_train import metrics
from crh_train.errors import UsageError

MONAI = json.loads((Path(__file__).parent / "golden" / "monai.json").read_text())["samples"]


def hd95(predicted: np.ndarray, target: np.ndarray, spacing: tuple[float, float, float]) -> np.float32 | None:
    return metrics.hausdorff95(predicted, target, spacing, np.arange(len(target)))


@pytest.mark.parametrize(("name", "sample"), SAMPLES.items(), ids=SAMPLES)
def test_distances_are_monais_but_where_nothing_is_predicted(name: str, sample: Sample) -> None:
    for k, expected in zip(range(1, CLASSES), MONAI[name]["hd95"], strict=True):
        predicted, target = sample.predicted == k, sample.target == k
        found = hd95(predicted, target, sample.spacing)
        if expected is None:
            assert found is None if not target.any() else (not predicted.any() and np.isposinf(found))
        else:
            assert found == pytest.approx(expected, rel=1e-6)


def random_masks(seed: int, shape: tuple[int, int, int]) -> list[np.ndarray]:
    noise = np.random.default_rng(seed).standard_normal((2, *shape))
    return [scipy.ndimage.gaussian_filter(each, 1.0) > 0.05 for each in noise]


@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_of_a_distance_transform(seed: int) -> None:
    spacing = (2.2, 0.7, 1.3)
    masks = random_masks(seed, (6, 17, 13))
    edges = [mask & ~scipy.ndimage.binary_erosion(mask) for mask in masks]
    assert [metrics.surface(mask, (0, 1, 2)).tolist() for mask in masks] == [edge.tolist() for edge in edges]
    to_other = [scipy.ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    directed = [np.percentile(to_other[1][edges[0]], 95), np.percentile(to_other[0][edges[1]], 95)]
    assert hd95(*masks, spacing) == pytest.approx(max(directed), rel=1e-6)


def test_a_distance_is_symmetric_and_zero_to_itself_and_scales_with_the_spacing() -> None:
    a, b = random_masks(9, (5, 12, 12))
    assert hd95(a, b, (3.0, 1.0, 1.0)) == hd95(b, a, (3.0, 1.0, 1.0))
    assert hd95(a, a, (3.0, 1.0, 1.0)) == 0
    assert hd95(a, b, (6.0, 2.0, 2.0)) == 2 * hd95(a, b, (3.0, 1.0, 1.0))
    assert hd95(a[:, ::-1], b[:, ::-1], (3.0, 1.0, 1.0)) == hd95(a, b, (3.0, 1.0, 1.0))


def test_slices_that_are_left_out_are_still_as_far_apart() -> None:
    predicted, target = np.zeros((3, 4, 4), bool), np.zeros((3, 4, 4), bool)
    predicted[0, 1, 1] = target[2, 1, 1] = True
    assert metrics.hausdorff95(predicted, target, (1.5, 1.0, 1.0), np.array([10, 12, 17])) == 7 * 1.5


def test_of_two_points_it_is_their_distance() -> None:
    predicted, target = np.zeros((4, 9, 9), bool), np.zeros((4, 9, 9), bool)
    predicted[0, 1, 2] = target[3, 5, 7] = True
    assert hd95(predicted, target, (2.0, 0.5, 0.25)) == np.float32(math.sqrt(6**2 + 2**2 + 1.25**2))


def test_a_single_slice_is_an_image_of_two_dimensions() -> None:
    target = np.zeros((1, 9, 9), bool)
    target[0, 2:7, 2:7] = True
    assert metrics.surface(target, (1, 2)).sum() == 16
    predicted = target.copy()
    predicted[0, 4, 4] = False  # of the hole's four neighbours, each a pixel away from the outer surface
    assert hd95(predicted, target, (9.0, 1.0, 1.0)) == 1


def test_empty_masks() -> None:
    nothing, something = np.zeros((2, 5, 5), bool), np.ones((2, 5, 5), bool)
    assert hd95(nothing, nothing, (1.0, 1.0, 1.0)) is None
    assert hd95(something, nothing, (1.0, 1.0, 1.0)) is None
    assert np.isposinf(hd95(nothing, something, (1.0, 1.0, 1.0)))


def test_shapes_must_agree() -> None:
    with pytest.raises(UsageError, match="one shape"):
        hd95(np.ones((1, 5, 5), bool), np.ones((1, 5, 1), bool), (1.0, 1.0, 1.0))
