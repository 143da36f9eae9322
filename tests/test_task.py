"""A task's input and target, and the refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crh_train import task
from crh_train.config import ReconstructionConfig, TissueConfig
from crh_train.data import kspace
from crh_train.errors import ConfigError
from crh_train.types import Layout

RECONSTRUCTION = ReconstructionConfig(
    name="reconstruction", acceleration=4, center_fraction=0.08, mask="equispaced", mask_seed=0
)
TISSUE = TissueConfig(name="tissue", classes=3)
LAYOUT = Layout(slices=1, rows=8, columns=32, channels=1, classes=3, labelled="pixel")
IMAGE = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 32)).astype(np.float32)
LABEL = np.random.default_rng(1).integers(0, 3, (2, 1, 8, 32)).astype(np.int32)


def test_reconstruction_learns_the_image_from_its_sampled_columns() -> None:
    made = task.make_reconstruction(RECONSTRUCTION, LAYOUT)
    source, target = made.pair(jnp.asarray(IMAGE), None)
    assert made.classes == 0
    assert np.asarray(target).tobytes() == IMAGE.tobytes()
    mask = kspace.sampling_mask(32, 4, 0.08, "equispaced", 0)
    assert np.asarray(source).tobytes() == np.asarray(kspace.undersample(jnp.asarray(IMAGE), mask)).tobytes()


def test_every_field_of_the_reconstruction_configuration_matters() -> None:
    fields = ({}, {"acceleration": 3}, {"center_fraction": 0.2}, {"mask": "random"}, {"mask": "random", "mask_seed": 1})
    made = [task.make_reconstruction(dataclasses.replace(RECONSTRUCTION, **field), LAYOUT) for field in fields]
    assert len({np.asarray(one.pair(jnp.asarray(IMAGE), None)[0]).tobytes() for one in made}) == len(fields)


def test_tissue_learns_the_label_from_the_image() -> None:
    made = task.make_tissue(TISSUE, LAYOUT)
    source, target = made.pair(jnp.asarray(IMAGE), jnp.asarray(LABEL))
    assert made.classes == 3
    assert np.asarray(source).tobytes() == IMAGE.tobytes()
    assert np.asarray(target).tobytes() == LABEL.tobytes()


def test_tissue_without_labels_is_refused_when_it_is_traced() -> None:
    made = task.make_tissue(TISSUE, LAYOUT)
    with pytest.raises(ConfigError, match="needs a source with labels"):
        jax.eval_shape(lambda image: made.pair(image, None), IMAGE)


@pytest.mark.parametrize(
    ("labels", "says"), [(None, "needs a source with labels"), (LABEL + 1, "labels go from 1 to 3")]
)
def test_labels_that_are_no_targets_are_refused(labels: np.ndarray | None, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        task.check_labels(task.make_tissue(TISSUE, LAYOUT), labels)


@pytest.mark.parametrize("labels", [None, LABEL + 1])
def test_a_task_on_images_takes_any_labels(labels: np.ndarray | None) -> None:
    task.check_labels(task.make_reconstruction(RECONSTRUCTION, LAYOUT), labels)


def test_labels_within_the_classes_pass() -> None:
    task.check_labels(task.make_tissue(TISSUE, LAYOUT), LABEL)
