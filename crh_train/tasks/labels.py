"""Classes from images: one for each pixel, or one for the whole case."""

from collections.abc import Callable

import numpy as np
from jax import Array

from crh_train.config import ClassificationConfig, SegmentationConfig, TissueConfig
from crh_train.errors import ConfigError
from crh_train.types import Layout, Task

_NO_LABELS = "task={} needs a source with labels, such as data=mni152; this one has none"


def make_tissue(config: TissueConfig, layout: Layout) -> Task:
    """Input: the image. Target: the label, int32, one of `config.classes` a pixel.

    `pair` raises ConfigError, when it is traced, for a batch without labels.
    """
    return Task(_labelled(config.name), classes=config.classes, channels=layout.channels)


def make_segmentation(config: SegmentationConfig, layout: Layout) -> Task:
    """Input: the image, of any channels. Target: the class of each pixel, int32 [B, T, H, W].

    Raises:
      ConfigError: a source without labels, with one label for each case, or of other classes.
    """
    return Task(
        _labelled(config.name),
        classes=_classes(config.name, config.classes, layout, "pixel"),
        channels=layout.channels,
    )


def make_classification(config: ClassificationConfig, layout: Layout) -> Task:
    """Input: the image, of any channels. Target: the class of the whole sample, int32 [B].

    Raises:
      ConfigError: a source without labels, with a label for each pixel, or of other classes.
    """
    return Task(
        _labelled(config.name),
        classes=_classes(config.name, config.classes, layout, "case"),
        channels=layout.channels,
        whole=True,
    )


def check_labels(task: Task, labels: np.ndarray | None) -> None:
    """Raise ConfigError unless `labels` can be the targets of `task`; a task on images takes any.

    A label beyond the classes would not fail in the step: its one-hot row would be all zeros.
    """
    if task.classes == 0:
        return
    if labels is None:
        raise ConfigError("the task needs a source with labels, such as data=mni152; this one has none")
    if task.whole != (labels.ndim == 1):
        raise ConfigError(
            "the source's labels are one for each case, choose task=classification"
            if labels.ndim == 1
            else "the source's labels are one for each pixel, choose task=segmentation"
        )
    if labels.min() < 0 or labels.max() >= task.classes:
        raise ConfigError(
            f"task.classes={task.classes}, but the source's labels go from {labels.min()} to {labels.max()}; "
            "set task.classes to their number"
        )


def _labelled(name: str) -> Callable[[Array, Array | None], tuple[Array, Array]]:
    """Image and label as they are."""

    def pair(image: Array, label: Array | None) -> tuple[Array, Array]:
        if label is None:
            raise ConfigError(_NO_LABELS.format(name))
        return image, label

    return pair


def _classes(name: str, classes: int | None, layout: Layout, labelled: str) -> int:
    """The source's classes, which `classes` must be unless it is null."""
    if layout.classes == 0:
        raise ConfigError(_NO_LABELS.format(name))
    if layout.labelled != labelled:
        other = "classification" if layout.labelled == "case" else "segmentation"
        raise ConfigError(
            f"task={name} needs a class for each {labelled}, the source has one for each {layout.labelled}; "
            f"choose task={other}"
        )
    if classes is not None and classes != layout.classes:
        raise ConfigError(
            f"task.classes={classes}, but the source's labels are of {layout.classes} classes; "
            f"set task.classes={layout.classes}, or null for the source's"
        )
    return layout.classes
