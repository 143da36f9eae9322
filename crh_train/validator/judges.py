"""What is measured of a held-out volume, by what the task's target is: an image, a class for each pixel, or one class
for the whole case.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from crh_train import metrics
from crh_train.types import Task
from crh_train.validator.evaluation import Transform
from crh_train.validator.statistics import Measure, Value
from crh_train.validator.volumes import Assembled

Values = dict[str, Value]


class Judged(NamedTuple):
    """One volume."""

    values: Values  # each metric that a case has by itself
    slices: Mapping[str, list[Value]]  # each metric that a slice has by itself, by slice
    details: Mapping[str, Any]  # what else its row in the table of cases says
    pooled: Any  # what the metrics of all volumes together are made from


class Judge(NamedTuple):
    judge: Callable[[Assembled], Judged]
    together: Callable[[Sequence[Judged]], Mapping[str, Measure]]  # the metrics that only several cases have
    overall: Callable[[Sequence[Judged]], Values]  # the metrics whose value is not the mean over cases
    rank: tuple[tuple[str, int], ...]  # by which metric cases are best and worst, and 1 where more is better


def make_judge(task: Task, transform: Transform) -> Judge:
    if not task.classes:
        return _image_judge(transform)
    return _case_judge(task.classes, transform) if task.whole else _pixel_judge(task.classes, transform)


def score_images(
    source: Array | None, output: Array, target: Array, valid: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Volumes [slices, H, W] -> the metrics of the volume, float32 [], and those of each slice, float32 [slices].

    `source` is what the output is compared with, as the "baseline".
    """
    values, slices = {"mse": metrics.mse(output, target, valid)}, {}
    for prefix, image in (("", output), ("baseline_", source)):
        if image is not None:
            values[f"{prefix}psnr"] = metrics.psnr(image, target, valid)
            values[f"{prefix}nmse"] = metrics.nmse(image, target, valid)
            values[f"{prefix}ssim"] = metrics.ssim(image, target, valid)
            slices[f"{prefix}psnr"] = metrics.psnr_by_slice(image, target)
            slices[f"{prefix}ssim"] = metrics.ssim_by_slice(image, target)
    return values, slices


def _image_judge(transform: Transform) -> Judge:
    score = jax.jit(transform(score_images))

    def judge(found: Assembled) -> Judged:
        count, channels = len(found.target), math.prod(found.target.shape[3:])
        baseline = found.source if found.source.shape == found.target.shape else None
        given = [None if each is None else _slices(each) for each in (baseline, found.output, found.target)]
        values, slices = jax.device_get(score(*given, _valid(count * channels)))
        return Judged(
            {"loss": _loss(found), **{name: np.float32(value) for name, value in values.items()}},
            {name: _over_channels(each[: count * channels], channels) for name, each in slices.items()},
            {},
            (values["mse"], count * channels),
        )

    def overall(judged: Sequence[Judged]) -> Values:
        return {"mse": _weighted_mean([each.pooled for each in judged])}

    return Judge(judge, lambda judged: {}, overall, (("ssim", 1),))


def _pixel_judge(classes: int, transform: Transform) -> Judge:
    brier = jax.jit(transform(_probability_error))

    def judge(found: Assembled) -> Judged:
        count = len(found.target)
        error = np.float32(brier(_padded(found.output), _padded(found.target), _valid(count)))
        predicted = np.argmax(found.output, axis=-1)
        tables = [metrics.confusion(p, t, classes) for p, t in zip(predicted, found.target, strict=True)]
        table = np.sum(tables, axis=0)
        bins = metrics.together(metrics.bins(p, t) for p, t in zip(found.output, found.target, strict=True))
        distances = [
            metrics.hausdorff95(predicted == k, found.target == k, found.volume.spacing, found.slices)
            for k in range(1, classes)
        ]
        values: Values = {"loss": _loss(found), "mse": error}
        values |= {"accuracy": metrics.accuracy(table), "f1": metrics.f1_macro(table)}
        for name, each in (("dice", metrics.dice(table)), ("hd95", distances)):
            values[name] = metrics.mean_of(each)
            if classes > 2:
                values |= {f"{name}_{k}": value for k, value in enumerate(each, 1)}
        values["ece"] = metrics.calibration_error(bins)
        slices = {
            "dice": [metrics.mean_of(metrics.dice(each)) for each in tables],
            "accuracy": [metrics.accuracy(each) for each in tables],
        }
        return Judged(values, slices, {}, (table, bins, (error, count)))

    def overall(judged: Sequence[Judged]) -> Values:
        tables, bins, errors = zip(*(each.pooled for each in judged), strict=True)
        table = np.sum(tables, axis=0)
        return {
            "mse": _weighted_mean(errors),
            "accuracy": metrics.accuracy(table),
            "f1": metrics.f1_macro(table),
            "ece": metrics.calibration_error(metrics.together(bins)),
        }

    return Judge(judge, lambda judged: {}, overall, (("dice", 1), ("accuracy", 1)))


def _case_judge(classes: int, transform: Transform) -> Judge:
    brier = jax.jit(transform(_probability_error))

    def judge(found: Assembled) -> Judged:
        truth, predicted = int(found.target), int(np.argmax(found.output))
        error = np.float32(brier(found.output[None], np.array([truth], np.int32), np.array([True])))
        values: Values = {"loss": _loss(found), "mse": error, "accuracy": np.float32(truth == predicted)}
        probabilities = {f"probability_{k}": value for k, value in enumerate(found.output)}
        details = {"class": truth, "predicted": predicted, **probabilities}
        return Judged(values, {}, details, (truth, found.output))

    def together(judged: Sequence[Judged]) -> Mapping[str, Measure]:
        target = np.array([each.pooled[0] for each in judged])
        output = np.stack([each.pooled[1] for each in judged])

        def f1(chosen: Sequence[int]) -> Value:
            return metrics.f1_macro(metrics.confusion(np.argmax(output[chosen], axis=-1), target[chosen], classes))

        return {
            "f1": f1,
            "auc": lambda chosen: metrics.auc_macro(output[chosen], target[chosen]),
            "ece": lambda chosen: metrics.calibration_error(metrics.bins(output[chosen], target[chosen])),
        }

    return Judge(judge, together, lambda judged: {}, (("loss", -1),))


def _probability_error(output: Array, target: Array, valid: Array) -> Array:
    """Mean squared error of probabilities [..., K] against classes [...], float32 []."""
    return metrics.mse(output, jax.nn.one_hot(target, output.shape[-1], dtype=jnp.float32), valid)


def _loss(found: Assembled) -> np.float32:
    values = found.losses.tolist()
    return np.float32((math.fsum(values) if np.all(np.isfinite(found.losses)) else sum(values)) / len(values))


def _slices(images: np.ndarray) -> np.ndarray:
    """[S, H, W(, M)] -> [slices, H, W], each channel as a slice, padded."""
    if images.ndim == 4:
        images = np.moveaxis(images, -1, 1).reshape(-1, *images.shape[1:3])
    return _padded(images)


def _padded(arrays: np.ndarray) -> np.ndarray:
    """Lengthened to a power of two by repeating the last one, so that few programs do for volumes of many lengths."""
    return np.concatenate([arrays, np.repeat(arrays[-1:], len(_valid(len(arrays))) - len(arrays), axis=0)])


def _valid(count: int) -> np.ndarray:
    return np.arange(1 << (count - 1).bit_length()) < count


def _over_channels(values: np.ndarray, channels: int) -> list[Value]:
    """[slices * channels] -> the mean over the channels of each slice."""
    return [metrics.mean_of([np.float32(value) for value in each]) for each in values.reshape(-1, channels)]


def _weighted_mean(pairs: Sequence[tuple[np.float32, int]]) -> Value:
    """Of values with how many slices each is of, rounded once."""
    if not all(np.isfinite(value) for value, _ in pairs):
        return np.float32(sum(float(value) for value, _ in pairs))
    total = sum((Fraction(float(value)) * count for value, count in pairs), Fraction(0))
    return np.float32(float(total / sum(count for _, count in pairs)))
