"""What the model makes of one held-out sample. Pure; no label is read but by the task."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from crh_train.engine import StepParts
from crh_train.randomness import Purpose, derive, root_key
from crh_train.types import Params

Transform = Callable[[Callable[..., Any]], Callable[..., Any]]
"""What a level of determinism does to a pure function, before `jit`."""


class Evaluation(NamedTuple):
    """What the model gives for one held-out sample."""

    loss: Array  # float32 []
    source: Array  # float32 [T, H, W] or [T, H, W, M], what the model was given, as an image
    output: Array  # float32 as the target; or class probabilities, [T, H, W, K], or [K] for the whole sample
    target: Array  # float32 [T, H, W] or [T, H, W, M]; or int32 classes, [T, H, W] or []


def make_evaluate(parts: StepParts) -> Callable[[Params, Array, Array | None, Array], Evaluation]:
    """params, image [T, H, W(, M)], label, index -> `Evaluation` of that one sample.

    What the task draws for a sample comes from the sample's index in the validation split and seed 0, so that every run
    is judged on the same.
    """
    task, tokenizer = parts.task, parts.tokenizer

    def evaluate(params: Params, image: Array, label: Array | None, index: Array) -> Evaluation:
        source, target = task.pair(image[None], None if label is None else label[None])
        if task.draw is not None:
            source = task.draw(derive(root_key(0), Purpose.VALIDATION, index)[None], source)
        prediction = parts.model.apply(params, tokenizer.encode(source))
        loss = parts.loss(prediction, target if task.classes else tokenizer.encode(target))
        output = jax.nn.softmax(prediction, axis=-1) if task.classes else tokenizer.decode(prediction)
        return Evaluation(loss, source[0], output[0], target[0])

    return evaluate
