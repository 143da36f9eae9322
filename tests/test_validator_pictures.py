"""Which held-out slices are shown, and what is said of them."""

import math

import numpy as np
import pytest
from validator_samples import (
    IMAGES,
    LABELS,
    PARAMS,
    class_parts,
    classes,
    image_parts,
    images,
    probabilities,
    split_of,
    untouched,
    volume,
)

from crh_train import metrics
from crh_train.validator import validate
from crh_train.validator.pictures import CASES


@pytest.mark.parametrize(("count", "chosen"), [(1, [0]), (3, [0, 1, 2]), (6, [0, 2, 3, 5])])
def test_a_few_pictures_are_spread_evenly_over_the_samples(count: int, chosen: list[int]) -> None:
    made = validate(image_parts(), PARAMS, split_of(count), [volume("v", tuple(range(count)))], untouched).pictures
    assert len(made) <= CASES
    assert [case.title.split(" ")[0] for case in made] == [f"s/{index}" for index in chosen]
    for index, case in zip(chosen, made, strict=True):
        assert case.images[0].tobytes() == (IMAGES * IMAGES)[index, 0].tobytes()
        assert case.images[2].tobytes() == IMAGES[index, 0].tobytes()


def test_a_picture_says_its_own_scores_before_and_after() -> None:
    case = images().pictures[0]
    source, found, target = (image.astype(np.float64) for image in case.images)
    before, after = (10 * np.log10(target.max() ** 2 / np.mean((a - target) ** 2)) for a in (source, found))
    assert f"PSNR {before:.1f} → {after:.1f} dB" in case.title
    assert f"→ {float(metrics.ssim(case.images[1][None], case.images[2][None])):.3f}" in case.title


def test_a_picture_of_classes_shows_the_likeliest_one_and_its_accuracy() -> None:
    case = classes().pictures[0]
    likeliest = probabilities()[0, 0].argmax(axis=-1)
    assert case.images[1].tolist() == likeliest.tolist()
    assert case.title == f"s/0 · accuracy {np.mean(likeliest == LABELS[0, 0]):.4f}"


def test_best_median_and_worst_case_are_shown_by_their_median_slice() -> None:
    singles = [volume(f"case {index}", (index,)) for index in range(5)]
    found = validate(image_parts(), PARAMS, split_of(), singles, untouched).held_out
    values = [float(row.values["ssim"]) for row in found.cases]  # type: ignore[arg-type]
    order = sorted(range(5), key=lambda index: -values[index])
    shown = {panel.chosen[0]: panel for panel in found.panels}
    expected = {"best case": order[0], "median case": order[2], "worst case": order[4]}
    assert {reason: panel.case for reason, panel in shown.items()} == {r: f"case {i}" for r, i in expected.items()}
    for panel in found.panels:
        of_case = [row for row in found.slices if row.case == panel.case]
        assert panel.scores == next(row.values for row in of_case if row.slice == panel.slice)
        assert panel.scores["ssim"] == min(row.values["ssim"] for row in of_case)  # of two, the worse one
        np.testing.assert_array_equal(panel.images["error"], np.abs(panel.images["output"] - panel.images["target"]))
        assert panel.images["target"].tobytes() == IMAGES[int(panel.case[-1]), panel.slice].tobytes()


def test_of_a_single_case_its_best_median_and_worst_slices_are_shown() -> None:
    found = validate(class_parts(), PARAMS, split_of(labels=LABELS), [volume("v", tuple(range(6)))], untouched).held_out
    order = sorted(found.slices, key=lambda row: -float(row.values["dice"]))  # type: ignore[arg-type]
    assert [panel.chosen for panel in found.panels] == [["best slice"], ["median slice"], ["worst slice"]]
    assert [panel.slice for panel in found.panels] == [order[0].slice, order[6].slice, order[-1].slice]
    for panel in found.panels:
        wrong = np.mean(panel.images["error"])
        assert panel.scores["accuracy"] == pytest.approx(1 - wrong, rel=1e-6)
        assert math.isfinite(wrong)
