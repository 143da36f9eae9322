"""Validation: every metric by its convention, and one sample's result independent of the others."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crh_train import loss_functions, metrics, tokenizer
from crh_train.config import CnnConfig, CrossEntropyConfig, IntensityTokenizerConfig, MseConfig
from crh_train.data.dataset import PreparedSplit
from crh_train.engine import StepParts
from crh_train.models import cnn
from crh_train.randomness import root_key
from crh_train.types import Model, Params, Task
from crh_train.validator import CASES, CONVENTIONS, Evaluation, cases, report, validate, volumes_of

SHAPE = (6, 2, 12, 10)  # samples, slices, rows, columns
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.random(SHAPE, np.float32)
LABELS = GENERATOR.integers(0, 3, SHAPE).astype(np.int32)
VOLUMES = ((0, 1, 2, 3), (4, 5))
PARAMS: Params = {"gain": jnp.float32(0.9), "shift": jnp.float32(0.02)}
INTENSITY = IntensityTokenizerConfig(name="intensity", mean=0.1, scale=0.5, patch=2)


def untouched(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def image_parts() -> StepParts:
    """The square of the image is given; the model gives a multiple of its tokens."""
    tokens = tokenizer.make_intensity(INTENSITY)
    return StepParts(
        augment=lambda key, batch: pytest.fail("validation augments nothing"),
        task=Task(lambda image, label: (image * image, image), classes=0),
        tokenizer=tokens,
        model=Model(lambda key: PARAMS, lambda params, x: params["gain"] * x + params["shift"]),
        loss=loss_functions.make_mse(MseConfig(name="mse")),
        coherence=metrics.coherence_cosine,
        optimizer=None,  # type: ignore[arg-type]
        learning_rate=lambda step: step,
    )


def class_parts() -> StepParts:
    """Three scores a pixel, from its intensity."""
    centres = jnp.array([0.2, 0.5, 0.8])
    return image_parts()._replace(
        task=Task(lambda image, label: (image, label), classes=3),  # type: ignore[arg-type,return-value]
        tokenizer=tokenizer.make_intensity(dataclasses.replace(INTENSITY, mean=0.0, scale=1.0, patch=1)),
        model=Model(lambda key: PARAMS, lambda params, x: -10 * jnp.square(params["gain"] * x - centres)),
        loss=loss_functions.make_cross_entropy(CrossEntropyConfig(name="cross_entropy")),
    )


def split_of(count: int = SHAPE[0], labels: bool = False) -> PreparedSplit:
    return PreparedSplit(IMAGES[:count], LABELS[:count] if labels else None, tuple(f"s/{i}" for i in range(count)))


@functools.cache
def images() -> tuple[dict[str, np.float32], Evaluation]:
    return validate(image_parts(), PARAMS, split_of(), VOLUMES, untouched)


@functools.cache
def classes() -> tuple[dict[str, np.float32], Evaluation]:
    return validate(class_parts(), PARAMS, split_of(labels=True), VOLUMES, untouched)


# --- images --------------------------------------------------------------------------------------------------------


def test_what_is_evaluated_is_input_output_and_target_of_each_sample() -> None:
    _, found = images()
    assert np.asarray(found.target).tobytes() == IMAGES.tobytes()
    assert np.asarray(found.source).tobytes() == (IMAGES * IMAGES).tobytes()
    tokens = (IMAGES.astype(np.float64) ** 2 - 0.1) / 0.5
    output = (0.9 * tokens + 0.02) * 0.5 + 0.1
    np.testing.assert_allclose(found.output, output, atol=1e-6)
    losses = np.mean(np.square(0.9 * tokens + 0.02 - (IMAGES - 0.1) / 0.5), axis=(1, 2, 3))
    np.testing.assert_allclose(found.loss, losses, rtol=1e-5)


def stacked(images: np.ndarray, volume: tuple[int, ...]) -> jax.Array:
    return jnp.asarray(np.concatenate([images[sample] for sample in volume]))


@pytest.mark.parametrize("name", ["psnr", "nmse", "ssim"])
@pytest.mark.parametrize("side", ["", "baseline_"])
def test_an_image_metric_is_the_mean_over_volumes_of_their_slices_together(side: str, name: str) -> None:
    scores, found = images()
    judged = np.asarray(found.source if side else found.output)
    each = [getattr(metrics, name)(stacked(judged, volume), stacked(IMAGES, volume)) for volume in VOLUMES]
    assert scores[side + name] == pytest.approx(float(np.mean(each)), rel=1e-5)
    samples = [getattr(metrics, name)(judged[sample], IMAGES[sample]) for sample in range(len(IMAGES))]
    assert scores[side + name] != pytest.approx(float(np.mean(samples)), rel=1e-5), "the data must tell them apart"


def test_psnr_and_nmse_follow_their_formulas_in_float64() -> None:
    scores, found = images()
    psnr, nmse = [], []
    for volume in VOLUMES:
        output, target = (np.asarray(stacked(np.asarray(a), volume), np.float64) for a in (found.output, found.target))
        psnr.append(10 * np.log10(target.max() ** 2 / np.mean((output - target) ** 2)))
        nmse.append(np.sum((output - target) ** 2) / np.sum(target**2))
    assert scores["psnr"] == pytest.approx(np.mean(psnr), rel=1e-5)
    assert scores["nmse"] == pytest.approx(np.mean(nmse), rel=1e-5)


def test_loss_and_squared_error_are_means_over_samples_and_pixels() -> None:
    scores, found = images()
    assert scores["loss"] == pytest.approx(np.mean(found.loss), rel=1e-6)
    assert scores["mse"] == pytest.approx(np.mean((np.asarray(found.output, np.float64) - IMAGES) ** 2), rel=1e-5)


def test_the_number_of_held_out_samples_changes_no_bit_of_any_sample() -> None:
    """Of a convolutional model, whose bits on a CPU do depend on how many images it is given at once."""
    config = CnnConfig(
        name="cnn", initialisation="kaiming", residual=False, channels=16, layers=2, kernel=3, activation="relu"
    )
    model = cnn.make(config, 4, 4)
    parts, params = image_parts()._replace(model=model), model.init(root_key(0))
    (_, one), (_, four), (_, whole) = (
        validate(parts, params, split_of(count), (tuple(range(count)),), untouched) for count in (1, 4, SHAPE[0])
    )
    for part, count in ((one, 1), (four, 4)):
        for few, all_of_them in zip(part, whole, strict=True):
            assert np.asarray(few).tobytes() == np.asarray(all_of_them[:count]).tobytes()


def test_a_perfect_output_has_no_error() -> None:
    perfect = image_parts()._replace(task=Task(lambda image, label: (image, image), classes=0))
    identity: Params = {"gain": jnp.float32(1), "shift": jnp.float32(0)}
    whole = perfect._replace(tokenizer=tokenizer.make_intensity(dataclasses.replace(INTENSITY, mean=0.0, scale=1.0)))
    scores, _ = validate(whole, identity, split_of(), VOLUMES, untouched)
    assert (scores["loss"], scores["mse"], scores["nmse"]) == (0, 0, 0)
    assert np.isposinf(scores["psnr"])
    assert scores["ssim"] == pytest.approx(1, abs=1e-6)


# --- classes -------------------------------------------------------------------------------------------------------


def test_class_metrics_are_over_all_pixels() -> None:
    scores, found = classes()
    assert scores.keys() == {"loss", "mse", "accuracy", "f1"}
    output = np.asarray(found.output)
    assert output.shape == (*SHAPE, 3)
    np.testing.assert_allclose(output.sum(axis=-1), 1, atol=1e-6)
    logits = -10 * (0.9 * IMAGES[..., None].astype(np.float64) - [0.2, 0.5, 0.8]) ** 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    truth = np.eye(3)[LABELS]
    predicted = probabilities.argmax(axis=-1)
    assert scores["accuracy"] == pytest.approx(np.mean(predicted == LABELS), rel=1e-6)
    assert scores["mse"] == pytest.approx(np.mean((probabilities - truth) ** 2), rel=1e-5)
    assert scores["loss"] == pytest.approx(-np.mean(np.log((probabilities * truth).sum(axis=-1))), rel=1e-5)
    ours, theirs = ([array == k for k in range(3)] for array in (predicted, LABELS))
    f1 = [2 * np.sum(p & t) / (np.sum(p) + np.sum(t)) for p, t in zip(ours, theirs, strict=True)]
    assert scores["f1"] == pytest.approx(np.mean(f1), rel=1e-6)


def test_for_classes_the_input_is_shown_as_an_image_and_the_target_as_classes() -> None:
    _, found = classes()
    assert np.asarray(found.source).tobytes() == IMAGES.tobytes()
    assert np.asarray(found.target).tobytes() == LABELS.tobytes()


# --- report --------------------------------------------------------------------------------------------------------


def test_the_report_has_every_metric_and_its_convention() -> None:
    for scores, _ in (images(), classes()):
        found = report(scores)
        assert found["conventions"] == CONVENTIONS
        assert set(found) == {*CONVENTIONS, "conventions"}
        assert {name for name in CONVENTIONS if found[name] is not None} == set(scores)
        assert {type(value) for value in scores.values()} == {np.float32}


def test_between_them_images_and_classes_have_every_metric() -> None:
    assert {*images()[0], *classes()[0]} == set(CONVENTIONS)


def sample(volume: str, split: str = "validation") -> dict[str, str]:
    return {"id": f"{volume}/000", "volume": volume, "split": split}


def test_volumes_are_the_held_out_samples_in_their_own_order() -> None:
    samples = [
        sample("a", "train"),
        sample("a"),
        sample("b"),
        sample("a"),
        sample("c", "train"),
        sample("b"),
        sample("b"),
    ]
    assert volumes_of({"samples": samples}) == ((0, 2), (1, 3, 4))


# --- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "chosen"), [(1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (6, [0, 2, 3, 5])])
def test_a_few_pictures_are_spread_evenly_over_the_samples(count: int, chosen: list[int]) -> None:
    _, found = images()
    made = cases([f"s/{index}" for index in range(count)], found, classes=0, transform=untouched)
    assert len(made) <= CASES
    assert [case.title.split(" ")[0] for case in made] == [f"s/{index}" for index in chosen]
    for index, case in zip(chosen, made, strict=True):
        for image, of_all in zip(case.images, (found.source, found.output, found.target), strict=True):
            assert image.tobytes() == np.asarray(of_all)[index, 0].tobytes()


def test_a_picture_says_its_own_scores_before_and_after() -> None:
    _, found = images()
    (case, *_) = cases([f"s/{index}" for index in range(6)], found, classes=0, transform=untouched)
    source, output, target = (image.astype(np.float64) for image in case.images)
    before, after = (10 * np.log10(target.max() ** 2 / np.mean((a - target) ** 2)) for a in (source, output))
    assert f"PSNR {before:.1f} → {after:.1f} dB" in case.title
    assert f"→ {float(metrics.ssim(case.images[1][None], case.images[2][None])):.3f}" in case.title


def test_a_picture_of_classes_shows_the_likeliest_one_and_its_accuracy() -> None:
    _, found = classes()
    (case, *_) = cases([f"s/{index}" for index in range(6)], found, classes=3, transform=untouched)
    likeliest = np.asarray(found.output)[0, 0].argmax(axis=-1)
    assert case.images[1].tolist() == likeliest.tolist()
    assert case.title == f"s/0 · accuracy {np.mean(likeliest == LABELS[0, 0]):.4f}"
