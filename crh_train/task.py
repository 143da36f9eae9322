"""What is learned: tasks turn images and labels into a model's input and target. Pure; runs inside the step, after
augmentation. Knows no model and no loss.
"""

import numpy as np
from jax import Array

from crh_train.config import ReconstructionConfig, TissueConfig
from crh_train.data import kspace
from crh_train.errors import ConfigError
from crh_train.types import Task

_NO_LABELS = "task=tissue needs a source with labels, such as data=mni152; this one has none"


def make_reconstruction(config: ReconstructionConfig, columns: int) -> Task:
    """Input: the zero-filled image of the sampled k-space columns. Target: the image.

    Args:
      columns: of the images, the last axis; what k-space is undersampled along.

    Raises:
      ConfigError: no such sampling mask (`kspace.sampling_mask`).
    """
    mask = kspace.sampling_mask(columns, config.acceleration, config.center_fraction, config.mask, config.mask_seed)

    def pair(image: Array, label: Array | None) -> tuple[Array, Array]:
        return kspace.undersample(image, mask), image

    return Task(pair, classes=0)


def make_tissue(config: TissueConfig, columns: int) -> Task:
    """Input: the image. Target: the label, int32, one of `config.classes` a pixel; `columns` plays no part.

    `pair` raises ConfigError, when it is traced, for a batch without labels.
    """
    del columns

    def pair(image: Array, label: Array | None) -> tuple[Array, Array]:
        if label is None:
            raise ConfigError(_NO_LABELS)
        return image, label

    return Task(pair, classes=config.classes)


def check_labels(task: Task, labels: np.ndarray | None) -> None:
    """Raise ConfigError unless `labels` can be the targets of `task`; a task on images takes any.

    A label beyond the classes would not fail in the step: its one-hot row would be all zeros.
    """
    if task.classes == 0:
        return
    if labels is None:
        raise ConfigError(_NO_LABELS)
    if labels.min() < 0 or labels.max() >= task.classes:
        raise ConfigError(
            f"task.classes={task.classes}, but the source's labels go from {labels.min()} to {labels.max()}; "
            "set task.classes to their number"
        )
