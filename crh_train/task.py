"""What is learned: tasks turn images and labels into a model's input and target. Pure; runs inside the step, after
augmentation. Knows no model and no loss.
"""

import numpy as np
from jax import Array

from crh_train.config import PairedConfig, ReconstructionConfig, TissueConfig
from crh_train.data import kspace
from crh_train.errors import ConfigError
from crh_train.types import Layout, Task

_NO_LABELS = "task={} needs a source with labels, such as data=mni152; this one has none"


def make_reconstruction(config: ReconstructionConfig, layout: Layout) -> Task:
    """Input: the zero-filled image of the sampled k-space columns. Target: the image, of one channel.

    Raises:
      ConfigError: no such sampling mask (`kspace.sampling_mask`), or several channels.
    """
    if layout.channels > 1:
        raise ConfigError(
            f"task={config.name} takes images of one channel, the source's have {layout.channels}; choose task=paired "
            "for a source that gives input and target, such as data=fastmri"
        )
    mask = kspace.sampling_mask(
        layout.columns, config.acceleration, config.center_fraction, config.mask, config.mask_seed
    )

    def pair(image: Array, label: Array | None) -> tuple[Array, Array]:
        return kspace.undersample(image, mask), image

    return Task(pair, classes=0)


def make_tissue(config: TissueConfig, layout: Layout) -> Task:
    """Input: the image. Target: the label, int32, one of `config.classes` a pixel.

    `pair` raises ConfigError, when it is traced, for a batch without labels.
    """

    def pair(image: Array, label: Array | None) -> tuple[Array, Array]:
        if label is None:
            raise ConfigError(_NO_LABELS.format(config.name))
        return image, label

    return Task(pair, classes=config.classes, channels=layout.channels)


def make_paired(config: PairedConfig, layout: Layout) -> Task:
    """Input: the first channel. Target: the second."""
    if layout.channels != 2:
        raise ConfigError(f"task={config.name} needs images of two channels, these have {layout.channels}")
    return Task(lambda image, label: (image[..., 0], image[..., 1]), classes=0)


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
