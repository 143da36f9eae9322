"""Runs the trained model over the held-out samples and fills one report: arrays in, numbers out, no files."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from crh_train import metrics
from crh_train.data.dataset import PreparedSplit
from crh_train.engine import StepParts, make_pair
from crh_train.reports import Case
from crh_train.types import Params

CONVENTIONS = {
    "loss": "mean over the held-out samples of the training loss",
    "mse": "mean squared error over all held-out pixels; of class probabilities where the target is a class",
    "psnr": "dB, per volume with the maximum of the target volume as range, mean over volumes (fastMRI)",
    "nmse": "squared error over squared target norm, per volume, mean over volumes (fastMRI)",
    "ssim": "7 x 7 uniform window, per slice with the target volume's maximum as range, mean over volumes (fastMRI)",
    "accuracy": "fraction of held-out pixels whose most likely class is the true one",
    "f1": "macro average over the classes that occur in target or prediction",
    "baseline_psnr": "psnr of the model's input",
    "baseline_nmse": "nmse of the model's input",
    "baseline_ssim": "ssim of the model's input",
}
"""Each metric's definition, written beside its value."""


Transform = Callable[[Callable[..., Any]], Callable[..., Any]]

CASES = 4  # pictures in the report

Volumes = tuple[tuple[int, ...], ...]


class Evaluation(NamedTuple):
    """What the model gives for one held-out sample, or for all of them stacked along a new first axis."""

    loss: Array  # float32 []
    source: Array  # float32 [T, H, W], what the model was given, as an image
    output: Array  # float32 [T, H, W], or [T, H, W, K] class probabilities
    target: Array  # float32 [T, H, W], or int32 classes


def make_evaluate(parts: StepParts) -> Callable[[Params, Array, Array | None], Evaluation]:
    """params, image [T, H, W], label -> `Evaluation` of that one sample."""
    pair = make_pair(parts.task, parts.tokenizer)

    def evaluate(params: Params, image: Array, label: Array | None) -> Evaluation:
        images, labels = image[None], None if label is None else label[None]
        source, target = parts.task.pair(images, labels)
        x, y = pair(images, labels)
        prediction = parts.model.apply(params, x)
        output = jax.nn.softmax(prediction, axis=-1) if parts.task.classes else parts.tokenizer.decode(prediction)
        return Evaluation(parts.loss(prediction, y), source[0], output[0], target[0])

    return evaluate


def make_score(classes: int, volumes: Volumes) -> Callable[[Evaluation], dict[str, Array]]:
    """stacked evaluations -> metric name -> float32 []; the names are those of `CONVENTIONS` that apply."""
    return _class_score(classes) if classes else _image_score(volumes)


def validate(
    parts: StepParts, params: Params, held_out: PreparedSplit, volumes: Volumes, transform: Transform
) -> tuple[dict[str, np.float32], Evaluation]:
    """Every metric that applies over the held-out samples, and what they were computed from, on the host.

    One compiled call for each sample, so that their number changes no bit. `volumes` lists the samples of each volume;
    `transform` is applied to what is computed, before `jit`.
    """
    evaluate = jax.jit(transform(make_evaluate(parts)))
    labels = [None] * len(held_out.images) if held_out.labels is None else list(held_out.labels)
    found = [evaluate(params, image, label) for image, label in zip(held_out.images, labels, strict=True)]
    stacked: Evaluation = jax.device_get(jax.tree.map(lambda *leaves: jnp.stack(leaves), *found))
    scores = jax.jit(transform(make_score(parts.task.classes, volumes)))(stacked)
    return {name: np.float32(value) for name, value in jax.device_get(scores).items()}, stacked


def report(scores: Mapping[str, np.float32]) -> dict[str, Any]:
    """The serialisable report: every metric of `CONVENTIONS`, null where it does not apply, and the conventions."""
    values = {name: scores[name] if name in scores else None for name in CONVENTIONS}
    return {**values, "conventions": CONVENTIONS}


def volumes_of(manifest: Mapping[str, Any]) -> Volumes:
    """Which held-out samples make up each volume, from a run's manifest."""
    owners = [sample["volume"] for sample in manifest["samples"] if sample["split"] == "validation"]
    return tuple(
        tuple(index for index, owner in enumerate(owners) if owner == volume) for volume in dict.fromkeys(owners)
    )


def cases(ids: Sequence[str], found: Evaluation, classes: int, transform: Transform) -> list[Case]:
    """A few held-out slices, evenly spread: title with its own scores, and input, output and target images [H, W]."""
    chosen = np.unique(np.linspace(0, len(ids) - 1, min(CASES, len(ids))).round().astype(int))
    measure = jax.jit(transform(_slice_score))
    made = []
    for index in chosen:
        source, output, target = (np.asarray(a[index][0]) for a in (found.source, found.output, found.target))
        if classes:
            output = np.argmax(output, axis=-1)
            title = f"{ids[index]} · accuracy {float(np.mean(output == target)):.4f}"
        else:
            before, after = (map(float, measure(image, target)) for image in (source, output))
            (psnr, ssim), (psnr_after, ssim_after) = before, after
            title = f"{ids[index]} · PSNR {psnr:.1f} → {psnr_after:.1f} dB · SSIM {ssim:.3f} → {ssim_after:.3f}"
        made.append(Case(title, (source, output, target)))
    return made


def _slice_score(image: Array, target: Array) -> tuple[Array, Array]:
    """PSNR and SSIM of one slice, taken as a volume of its own."""
    return metrics.psnr(image[None], target[None]), metrics.ssim(image[None], target[None])


def _class_score(classes: int) -> Callable[[Evaluation], dict[str, Array]]:
    def score(found: Evaluation) -> dict[str, Array]:
        predicted = jnp.argmax(found.output, axis=-1)
        truth = jax.nn.one_hot(found.target, classes, dtype=jnp.float32)
        return {
            "loss": jnp.mean(found.loss),
            "mse": metrics.mse(found.output, truth),
            "accuracy": metrics.accuracy(predicted, found.target),
            "f1": metrics.f1_macro(predicted, found.target, classes),
        }

    return score


def _image_score(volumes: Volumes) -> Callable[[Evaluation], dict[str, Array]]:
    measures = {"psnr": metrics.psnr, "nmse": metrics.nmse, "ssim": metrics.ssim}

    def score(found: Evaluation) -> dict[str, Array]:
        values = {"loss": jnp.mean(found.loss), "mse": metrics.mse(found.output, found.target)}
        for prefix, image in (("", found.output), ("baseline_", found.source)):
            for name, measure in measures.items():
                each = [measure(_stack(image, chosen), _stack(found.target, chosen)) for chosen in volumes]
                values[prefix + name] = jnp.mean(jnp.stack(each))
        return values

    return score


def _stack(images: Array, samples: tuple[int, ...]) -> Array:
    """The slices of `samples` as one volume [slices, H, W]. Overlapping samples contribute a slice each time."""
    chosen = images[np.asarray(samples)]
    return chosen.reshape(-1, *chosen.shape[2:])
