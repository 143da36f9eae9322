"""Small models, volumes and their validation, for the tests of the validator."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crh_train import loss_functions, metrics, tokenizer
from crh_train.config import CrossEntropyConfig, IntensityTokenizerConfig, MseConfig
from crh_train.data.dataset import PreparedSplit
from crh_train.engine import StepParts
from crh_train.types import Model, Params, Task
from crh_train.validator import HeldOutVolume, validate
from crh_train.validator.validation import Validation

SHAPE = (6, 2, 12, 10)  # samples, slices, rows, columns
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.random(SHAPE, np.float32)
LABELS = GENERATOR.integers(0, 3, SHAPE).astype(np.int32)
CLASS_OF = np.array([0, 2, 1, 2, 2, 0], np.int32)  # of each sample, where the whole of it has one
OWNED = {"a": (0, 1, 2, 3), "b": (4, 5)}
PARAMS: Params = {"gain": jnp.float32(0.9), "shift": jnp.float32(0.02)}
INTENSITY = IntensityTokenizerConfig(name="intensity", mean=0.1, scale=0.5, patch=2)


def volume(name: str, samples: tuple[int, ...], depth: int = 2, stride: int = 2, **facts: Any) -> HeldOutVolume:
    firsts = tuple(stride * place for place in range(len(samples)))
    known = {"spacing": (2.0, 1.0, 1.0), "patient": None, "metadata": {}, "frame": (slice(None), slice(None)), **facts}
    return HeldOutVolume(id=name, samples=samples, first_slices=firsts, **known)


VOLUMES = tuple(volume(name, samples) for name, samples in OWNED.items())


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


def case_parts() -> StepParts:
    """Three scores a sample, from two of its pixels."""

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return 3 * jnp.stack([x[:, 0, 0, 0, 0], x[:, 0, 0, 1, 0], x[:, 0, 1, 0, 0]], axis=-1)

    task = Task(lambda image, label: (image, label), classes=3, whole=True)  # type: ignore[arg-type,return-value]
    return class_parts()._replace(task=task, model=Model(lambda key: PARAMS, apply))


def split_of(count: int = SHAPE[0], labels: np.ndarray | None = None, images: np.ndarray = IMAGES) -> PreparedSplit:
    return PreparedSplit(images[:count], labels, tuple(f"s/{i}" for i in range(count)))


@functools.cache
def images() -> Validation:
    return validate(image_parts(), PARAMS, split_of(), VOLUMES, untouched)


@functools.cache
def classes() -> Validation:
    return validate(class_parts(), PARAMS, split_of(labels=LABELS), VOLUMES, untouched)


@functools.cache
def whole() -> Validation:
    singles = tuple(volume(f"case {index}", (index,)) for index in range(SHAPE[0]))
    return validate(case_parts(), PARAMS, split_of(labels=CLASS_OF), singles, untouched)


def numbers(found: Validation) -> dict[str, float]:
    return {name: value for name, value in found.report.items() if name != "conventions" and value is not None}


def output() -> np.ndarray:
    """What the image model gives, in float64."""
    return (0.9 * (IMAGES.astype(np.float64) ** 2 - 0.1) / 0.5 + 0.02) * 0.5 + 0.1


def probabilities() -> np.ndarray:
    logits = -10 * (0.9 * IMAGES[..., None].astype(np.float64) - [0.2, 0.5, 0.8]) ** 2
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
