"""Validation: every metric by its convention, one sample's result independent of the others, one volume at a time."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from validator_samples import (
    CLASS_OF,
    IMAGES,
    INTENSITY,
    LABELS,
    OWNED,
    PARAMS,
    SHAPE,
    VOLUMES,
    case_parts,
    class_parts,
    classes,
    image_parts,
    images,
    numbers,
    output,
    probabilities,
    split_of,
    untouched,
    volume,
    whole,
)

from crh_train import metrics, tokenizer
from crh_train.config import CnnConfig
from crh_train.data.dataset import PreparedSplit
from crh_train.data.preparation import block_mean, crop_or_pad, cut
from crh_train.models import cnn
from crh_train.randomness import Purpose, derive, root_key
from crh_train.types import Params, Task
from crh_train.validator import held_out_volumes, make_evaluate, validate
from crh_train.validator.conventions import CONVENTIONS
from crh_train.validator.volumes import Assembled, assemble

# --- one sample ----------------------------------------------------------------------------------------------------


def test_what_is_evaluated_is_input_output_and_target_of_a_sample() -> None:
    found = make_evaluate(image_parts())(PARAMS, IMAGES[1], None, jnp.int32(1))
    assert np.asarray(found.target).tobytes() == IMAGES[1].tobytes()
    assert np.asarray(found.source).tobytes() == (IMAGES[1] * IMAGES[1]).tobytes()
    np.testing.assert_allclose(found.output, output()[1], atol=1e-6)
    tokens = (IMAGES[1].astype(np.float64) ** 2 - 0.1) / 0.5
    loss = np.mean(np.square(0.9 * tokens + 0.02 - (IMAGES[1] - 0.1) / 0.5))
    assert found.loss == pytest.approx(loss, rel=1e-5)


def test_the_number_of_held_out_samples_changes_no_bit_of_any_sample() -> None:
    """Of a convolutional model, whose bits on a CPU do depend on how many images it is given at once."""
    config = CnnConfig(
        name="cnn", initialisation="kaiming", residual=False, channels=16, layers=2, kernel=3, activation="relu"
    )
    model = cnn.make(config, 4, 4)
    parts, params = image_parts()._replace(model=model), model.init(root_key(0))
    few, all_of_them = (
        validate(parts, params, split_of(), tuple(volume(str(i), (i,)) for i in range(count)), untouched)
        for count in (2, SHAPE[0])
    )
    assert few.held_out.cases == all_of_them.held_out.cases[:2]


def test_what_a_task_draws_depends_on_the_sample_alone() -> None:
    def draw(keys: jax.Array, source: jax.Array) -> jax.Array:
        return source + jax.vmap(lambda key: jax.random.normal(key, source.shape[1:]))(keys)

    noisy = image_parts()._replace(task=Task(lambda image, label: (image, image), classes=0, draw=draw))
    key = derive(root_key(0), Purpose.VALIDATION, 3)
    found = make_evaluate(noisy)(PARAMS, IMAGES[0], None, jnp.int32(3))
    np.testing.assert_allclose(found.source, IMAGES[0] + jax.random.normal(key, SHAPE[1:]), atol=1e-6)
    assert np.asarray(found.target).tobytes() == IMAGES[0].tobytes()


# --- volumes -------------------------------------------------------------------------------------------------------


def assembled(stride: int, samples: tuple[int, ...] = (2, 0, 1)) -> Assembled:
    evaluate = jax.jit(make_evaluate(image_parts()))
    return assemble(
        volume("v", samples, stride=stride), lambda i: jax.device_get(evaluate(PARAMS, IMAGES[i], None, np.int32(i)))
    )


def test_a_volume_is_its_samples_slice_by_slice() -> None:
    found = assembled(stride=2)
    assert found.slices.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.target.tobytes() == IMAGES[[2, 0, 1]].tobytes()
    np.testing.assert_allclose(found.output, output()[[2, 0, 1]].reshape(-1, 12, 10), atol=1e-6)


def test_a_slice_of_several_samples_counts_once_with_the_mean_of_their_outputs() -> None:
    found = assembled(stride=1)
    assert found.slices.tolist() == [0, 1, 2, 3]
    each = output()[[2, 0, 1]]
    expected = [each[0, 0], (each[0, 1] + each[1, 0]) / 2, (each[1, 1] + each[2, 0]) / 2, each[2, 1]]
    np.testing.assert_allclose(found.output, expected, atol=1e-6)
    assert found.target[1].tobytes() == IMAGES[2, 1].tobytes()


def test_gaps_between_samples_stay_gaps() -> None:
    found = assembled(stride=5)
    assert found.slices.tolist() == [0, 1, 5, 6, 10, 11]
    assert found.target.tobytes() == IMAGES[[2, 0, 1]].tobytes()


def manifest_of(axis: str, *volumes: dict[str, Any]) -> dict[str, Any]:
    samples = [("a", "train", 0), ("a", "validation", 7), ("b", "validation", 0), ("a", "validation", 8)]
    return {
        "preprocessing": {"name": "nifti", "axis": axis, "downsample": 2, "shape": [12, 8]},
        "volumes": list(volumes),
        "samples": [{"id": f"{v}/{f}", "volume": v, "split": s, "first_slice": f} for v, s, f in samples],
    }


@pytest.mark.parametrize(
    ("axis", "spacing", "frame"),
    [
        ("axial", (6.0, 4.0, 2.0), (slice(1, 11), slice(0, 8))),
        ("coronal", (4.0, 6.0, 2.0), (slice(1, 10), slice(0, 8))),
        ("sagittal", (2.0, 6.0, 4.0), (slice(1, 10), slice(0, 8))),
    ],
)
def test_volumes_are_the_held_out_samples_with_spacing_facts_and_frame(
    axis: str, spacing: tuple[float, ...], frame: tuple[slice, slice]
) -> None:
    known = {"spacing": [1.0, 2.0, 3.0], "shape": [40, 21, 18]}
    facts = {"patient": "p7", "metadata": {"sex": "F"}}
    a, b = held_out_volumes(manifest_of(axis, {"id": "a", **known}, {"id": "b", **known, **facts}))
    assert (a.id, a.samples, a.first_slices, a.patient, a.metadata) == ("a", (0, 2), (7, 8), None, {})
    assert (b.id, b.samples, b.patient, b.metadata) == ("b", (1,), "p7", {"sex": "F"})
    assert a.spacing == b.spacing == spacing
    rows, columns = a.frame
    assert (rows, columns) == frame
    made = crop_or_pad(cut(block_mean(jnp.ones(known["shape"]), 2), axis), [12, 8])
    inner = np.zeros(made.shape, np.float32)
    inner[:, rows, columns] = 1
    assert inner.tobytes() == np.asarray(made).tobytes()


def test_memory_holds_one_volume_at_a_time() -> None:
    """Each sample is evaluated for its own volume only, and read one at a time."""
    read: list[int] = []

    class Streamed:
        def __getitem__(self, index: int) -> np.ndarray:
            read.append(index)
            return IMAGES[index]

    streamed = PreparedSplit(Streamed(), None, tuple(f"s/{i}" for i in range(6)))  # type: ignore[arg-type]
    found = validate(image_parts(), PARAMS, streamed, VOLUMES, untouched)
    assert found.report == images().report
    assert read[:6] == [0, 1, 2, 3, 4, 5]


# --- images --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["psnr", "nmse", "ssim"])
@pytest.mark.parametrize("side", ["", "baseline_"])
def test_an_image_metric_is_the_mean_over_volumes_of_their_slices_together(side: str, name: str) -> None:
    judged = (IMAGES * IMAGES if side else output()).astype(np.float32)
    each = [
        float(getattr(metrics, name)(*(x[list(chosen)].reshape(-1, 12, 10) for x in (judged, IMAGES))))
        for chosen in OWNED.values()
    ]
    assert images().report[side + name] == pytest.approx(float(np.mean(each)), rel=1e-5)
    assert [row.values[side + name] for row in images().held_out.cases] == pytest.approx(each, rel=1e-5)
    samples = [getattr(metrics, name)(judged[sample], IMAGES[sample]) for sample in range(len(IMAGES))]
    assert images().report[side + name] != pytest.approx(float(np.mean(samples)), rel=1e-5), "data must tell apart"


def test_psnr_and_nmse_follow_their_formulas_in_float64() -> None:
    psnr, nmse = [], []
    for chosen in OWNED.values():
        found, target = output()[list(chosen)], IMAGES[list(chosen)].astype(np.float64)
        psnr.append(10 * np.log10(target.max() ** 2 / np.mean((found - target) ** 2)))
        nmse.append(np.sum((found - target) ** 2) / np.sum(target**2))
    assert images().report["psnr"] == pytest.approx(np.mean(psnr), rel=1e-5)
    assert images().report["nmse"] == pytest.approx(np.mean(nmse), rel=1e-5)


def test_loss_and_squared_error_are_means_over_samples_and_pixels() -> None:
    tokens = (IMAGES.astype(np.float64) ** 2 - 0.1) / 0.5
    losses = np.mean(np.square(0.9 * tokens + 0.02 - (IMAGES - 0.1) / 0.5), axis=(1, 2, 3))
    assert images().report["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert images().report["mse"] == pytest.approx(np.mean((output() - IMAGES) ** 2), rel=1e-5)


def test_each_slice_has_its_own_scores_with_the_volumes_range() -> None:
    rows = images().held_out.slices
    assert [(row.case, row.slice) for row in rows] == [("a", i) for i in range(8)] + [("b", i) for i in range(4)]
    target, found = (x[4:].reshape(-1, 12, 10) for x in (IMAGES.astype(np.float64), output()))
    errors = np.mean((target - found) ** 2, axis=(1, 2))
    psnr = 10 * np.log10(target.max() ** 2 / errors)
    np.testing.assert_allclose([row.values["psnr"] for row in rows[8:]], psnr, rtol=1e-5)  # type: ignore[arg-type]
    own = [float(row.values["ssim"]) for row in rows[8:]]  # type: ignore[arg-type]
    assert images().held_out.cases[1].values["ssim"] == pytest.approx(np.mean(own), rel=1e-6)


def test_the_channels_of_a_slice_count_as_slices() -> None:
    """Two channels in one volume are scored as their slices one after the other would be."""
    pairs = np.moveaxis(IMAGES, 1, -1)[:, None]  # [6, 1, 12, 10, 2]
    plain = image_parts()._replace(
        tokenizer=tokenizer.Tokenizer(lambda x: x, lambda x: x, 2),
        task=Task(lambda image, label: (image * image, image), classes=0, channels=2),
    )
    (many,) = validate(plain, PARAMS, split_of(images=pairs), [volume("v", tuple(range(6)), stride=1)], untouched)[
        2
    ].cases
    flat = IMAGES.reshape(12, 1, 12, 10)
    one = plain._replace(tokenizer=tokenizer.Tokenizer(lambda x: x, lambda x: x, 1))
    ids = PreparedSplit(flat, None, tuple(map(str, range(12))))
    (each,) = validate(one, PARAMS, ids, [volume("v", tuple(range(12)), stride=1)], untouched)[2].cases
    assert many.values == pytest.approx(each.values, rel=1e-6)


def test_a_perfect_output_has_no_error() -> None:
    perfect = image_parts()._replace(task=Task(lambda image, label: (image, image), classes=0))
    identity: Params = {"gain": jnp.float32(1), "shift": jnp.float32(0)}
    same = perfect._replace(tokenizer=tokenizer.make_intensity(dataclasses.replace(INTENSITY, mean=0.0, scale=1.0)))
    found = validate(same, identity, split_of(), VOLUMES, untouched)
    assert [found.report[name] for name in ("loss", "mse", "nmse")] == [0, 0, 0]
    assert np.isposinf(found.report["psnr"])
    assert found.report["ssim"] == pytest.approx(1, abs=1e-6)
    assert found.held_out.statistics["psnr"] == {"n": 2, "mean": np.inf, "sd": None, "interval": None}


# --- classes -------------------------------------------------------------------------------------------------------


def test_class_metrics_are_over_all_pixels() -> None:
    truth, predicted = np.eye(3)[LABELS], probabilities().argmax(axis=-1)
    found = classes().report
    assert found["accuracy"] == np.float32(np.mean(predicted == LABELS))
    f1 = sklearn.metrics.f1_score(LABELS.ravel(), predicted.ravel(), average="macro")
    assert found["f1"] == pytest.approx(f1, rel=1e-7)
    assert found["mse"] == pytest.approx(np.mean((probabilities() - truth) ** 2), rel=1e-5)
    assert found["loss"] == pytest.approx(-np.mean(np.log((probabilities() * truth).sum(axis=-1))), rel=1e-5)
    expected = metrics.calibration_error(metrics.bins(probabilities().astype(np.float32), LABELS))
    assert found["ece"] == pytest.approx(expected, rel=1e-5)


def test_dice_and_distance_are_of_volumes_with_their_spacing() -> None:
    predicted = probabilities().argmax(axis=-1)
    for row, chosen in zip(classes().held_out.cases, OWNED.values(), strict=True):
        ours, true = (x[list(chosen)].reshape(-1, 12, 10) for x in (predicted, LABELS))
        for k in (1, 2):
            a, b = ours == k, true == k
            assert row.values[f"dice_{k}"] == pytest.approx(2 * np.sum(a & b) / (a.sum() + b.sum()), rel=1e-6)
            assert row.values[f"hd95_{k}"] == metrics.hausdorff95(a, b, (2.0, 1.0, 1.0), np.arange(len(a)))
        for name in ("dice", "hd95"):
            parts = [float(row.values[f"{name}_{k}"]) for k in (1, 2)]  # type: ignore[arg-type]
            assert row.values[name] == pytest.approx(np.mean(parts), rel=1e-6)
    found = [float(row.values["dice"]) for row in classes().held_out.cases]  # type: ignore[arg-type]
    assert classes().report["dice"] == pytest.approx(np.mean(found), rel=1e-6)
    assert classes().report["conventions"]["dice_2"] == "dice of class 2 alone"


@pytest.mark.parametrize("labels", [None, LABELS])
def test_padding_is_not_judged(labels: np.ndarray | None) -> None:
    expected, parts = (images(), image_parts()) if labels is None else (classes(), class_parts())
    around = ((0, 0), (0, 0), (2, 2), (1, 3))
    volumes = [volume(name, samples, frame=(slice(2, 14), slice(1, 11))) for name, samples in OWNED.items()]
    padded = [None if each is None else np.pad(each, around) for each in (IMAGES, labels)]
    found = validate(parts, PARAMS, PreparedSplit(*padded, split_of().ids), volumes, untouched)  # type: ignore[arg-type]
    assert {**numbers(found), "loss": None} == {**numbers(expected), "loss": None}
    assert found.report["loss"] != expected.report["loss"]
    for one, other in zip(found.held_out.cases, expected.held_out.cases, strict=True):
        assert {**one.values, "loss": None} == {**other.values, "loss": None}
    assert [row.values for row in found.held_out.slices] == [row.values for row in expected.held_out.slices]
    assert [case.title for case in found.pictures] == [case.title for case in expected.pictures]
    assert found.pictures[0].images[0].shape == (16, 14)


# --- one class for the whole case ----------------------------------------------------------------------------------


def case_probabilities() -> np.ndarray:
    logits = 3 * np.stack([IMAGES[:, 0, 0, 0], IMAGES[:, 0, 0, 1], IMAGES[:, 0, 1, 0]], axis=-1).astype(np.float64)
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def test_case_metrics_are_those_of_scikit_learn_over_cases() -> None:
    found, predicted = whole().report, case_probabilities().argmax(axis=-1)
    assert found["accuracy"] == pytest.approx(np.mean(predicted == CLASS_OF))
    assert found["f1"] == pytest.approx(sklearn.metrics.f1_score(CLASS_OF, predicted, average="macro", zero_division=0))
    area = sklearn.metrics.roc_auc_score(CLASS_OF, case_probabilities(), multi_class="ovr", average="macro")
    assert found["auc"] == pytest.approx(area)
    assert found["mse"] == pytest.approx(np.mean((case_probabilities() - np.eye(3)[CLASS_OF]) ** 2), rel=1e-5)
    for row, truth, each in zip(whole().held_out.cases, CLASS_OF, case_probabilities(), strict=True):
        assert (row.details["class"], row.details["predicted"]) == (truth, each.argmax())
        assert row.details["probability_2"] == pytest.approx(each[2], rel=1e-5)


def test_the_samples_of_a_case_are_averaged_to_one_prediction() -> None:
    pairs = [volume("x", (0, 5)), volume("y", (1, 3, 4))]
    found = validate(case_parts(), PARAMS, split_of(labels=CLASS_OF), pairs, untouched)
    expected = [case_probabilities()[list(each.samples)].mean(axis=0) for each in pairs]
    for row, probability in zip(found.held_out.cases, expected, strict=True):
        assert row.details["probability_0"] == pytest.approx(probability[0], rel=1e-5)
    assert found.pictures == []
    assert {tuple(panel.images) for panel in found.held_out.panels} == {("input",)}


def test_metrics_of_all_cases_together_have_an_interval_and_no_mean() -> None:
    found = whole().held_out.statistics["auc"]
    assert (found["n"], found["mean"], found["sd"]) == (6, None, None)
    assert found["interval"][0] <= whole().report["auc"] <= found["interval"][1]


# --- report --------------------------------------------------------------------------------------------------------


def test_the_report_has_every_metric_and_its_convention() -> None:
    for found in (images(), classes(), whole()):
        assert set(CONVENTIONS) <= set(found.report["conventions"])
        assert set(found.report) == {*found.report["conventions"], "conventions"}
        assert {type(value) for value in numbers(found).values()} == {np.float32}


def test_between_them_the_kinds_of_task_have_every_metric() -> None:
    assert {*numbers(images()), *numbers(classes()), *numbers(whole())} >= set(CONVENTIONS)


def test_the_order_of_volumes_changes_no_number_but_intervals() -> None:
    found = validate(image_parts(), PARAMS, split_of(), VOLUMES[::-1], untouched)
    assert numbers(found) == {**numbers(images()), "loss": found.report["loss"]}
    assert found.report["loss"] == pytest.approx(images().report["loss"], rel=1e-6)
    assert found.held_out.cases == images().held_out.cases[::-1]
