"""The values that travel between the parts, and the protocol of hooks.

Shape letters: B samples, T consecutive slices of a sample, H rows, W columns, C channels, K classes.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from jax import Array

Params = Mapping[str, Array]
"""Parameters: a flat mapping from dotted names to float32 arrays. JAX visits it in sorted key order."""


class TrainState(NamedTuple):
    params: Params
    opt_state: Any
    key: Array  # the root key of `randomness.py`; never changes
    step: Array  # int32 [], optimizer steps done


class Batch(NamedTuple):
    image: Array  # float32 [B, T, H, W] or, of M > 1 channels, [B, T, H, W, M]; intensities in [0, 1]
    label: Array | None  # int32 [B, T, H, W], a class per pixel, or [B], one per sample; None where there are no labels
    sample: Array  # int32 [B], each sample's index in its split


class StepMetrics(NamedTuple):
    loss: Array  # float32 []
    coherence: Array  # float32 []
    lr: Array  # float32 []
    grad_norm: Array  # float32 [], over all leaves
    leaf_grad_norms: Array  # float32 [leaves], in sorted key order


class StepRecord(NamedTuple):
    """One finished step, on the host."""

    step: int  # steps done, the first is 1
    epoch: int  # the first is 0
    batch: int  # within the epoch, the first is 0
    loss: np.float32
    coherence: np.float32
    lr: np.float32
    grad_norm: np.float32
    leaf_grad_norms: np.ndarray


class Model(NamedTuple):
    init: Callable[[Array], Params]  # key -> params
    apply: Callable[[Params, Array], Array]  # params, x [B, T, h, w, C] -> y [B, T, h, w, C or K]


class Tokenizer(NamedTuple):
    encode: Callable[[Array], Array]  # [B, T, H, W(, M)] -> [B, T, h, w, channels]
    decode: Callable[[Array], Array]  # the way back
    channels: int


class Layout(NamedTuple):
    """What every sample of a run is: images [T, H, W] or [T, H, W, M], and their labels."""

    slices: int
    rows: int
    columns: int
    channels: int
    classes: int  # of the labels; 0 where there are none
    labelled: str  # what has a class: each "pixel", or the whole "case"


class Task(NamedTuple):
    """What is learned: turns a batch of images and labels into input and target."""

    pair: Callable[[Array, Array | None], tuple[Array, Array]]
    """image [B, T, H, W(, M)], label -> input image, target (image, class [B, T, H, W], or class [B])"""
    classes: int  # 0: the target is an image; K: the target is one of K classes
    channels: int = 1  # of the input image, and of the target where that is an image
    whole: bool = False  # a class is one for the whole sample, not one for each pixel
    draw: Callable[[Array, Array], Array] | None = None
    """keys [B], input -> input with what is drawn anew for each sample at each step, such as noise; None: nothing."""


Loss = Callable[[Array, Array], Array]
"""prediction, target -> float32 []. Targets are tokens as the prediction is, or int32 classes without its last axis."""


class Hook(Protocol):
    """Called around each step, in the order in which the hooks are listed. Hooks do all input and output."""

    def before_step(self, step: int) -> None:
        """Before step number `step` (the first is 1) is dispatched."""

    def after_step(self, record: StepRecord) -> None:
        """Once the step's numbers are on the host: in order, exactly once, and possibly after the next
        `before_step`, so that reading numbers does not stall the device."""

    def at_boundary(self, step: int, state: TrainState, last: bool) -> None:
        """After the last step of an epoch, with the state after that step; `last` where no step follows, because
        training is done or was asked to stop, then also in the middle of an epoch."""
