"""Which held-out slices are shown: a few spread evenly, and those of the best, the median and the worst case."""

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from jax import Array

from crh_train import metrics
from crh_train.reports import Case, Panel
from crh_train.types import Task
from crh_train.validator.evaluation import Evaluation, Transform
from crh_train.validator.judges import Judged
from crh_train.validator.statistics import Value
from crh_train.validator.volumes import Assembled, HeldOutVolume

CASES = 4  # pictures spread evenly


def spread(
    ids: Sequence[str],
    evaluate: Callable[[int], Evaluation],
    frames: Mapping[int, tuple[slice, slice]],
    task: Task,
    transform: Transform,
) -> list[Case]:
    """The first slices of a few samples: title with its own scores, and input, output and target [H, W], each the first
    channel. None where the whole case has a class: there is no image to compare with. Scores are of `frames`, by
    sample, the rows and columns that are image; shown is all that the model was given."""
    if task.whole:
        return []
    judged = sorted(frames)
    chosen = np.unique(np.linspace(0, len(judged) - 1, min(CASES, len(judged))).round().astype(int))
    measure = jax.jit(transform(_slice_score))
    made = []
    for index in [judged[place] for place in chosen]:
        found, frame = jax.tree.map(np.asarray, evaluate(index)), frames[index]
        source = _channel(found.source[0])
        if task.classes:
            output, target = np.argmax(found.output[0], axis=-1), found.target[0]
            title = f"{ids[index]} · accuracy {float(np.mean((output == target)[frame])):.4f}"
        else:
            output, target = _channel(found.output[0]), _channel(found.target[0])
            before, after = (tuple(map(float, measure(image[frame], target[frame]))) for image in (source, output))
            (psnr, ssim), (psnr_after, ssim_after) = before, after
            title = f"{ids[index]} · PSNR {psnr:.1f} → {psnr_after:.1f} dB · SSIM {ssim:.3f} → {ssim_after:.3f}"
        made.append(Case(title, (source, output, target)))
    return made


def panels(
    volumes: Sequence[HeldOutVolume],
    judged: Sequence[Judged],
    rank: Sequence[tuple[str, int]],
    assembled: Callable[[int], Assembled],
    task: Task,
) -> list[Panel]:
    """The best, the median and the worst case by the first metric of `rank` that a case has, each by the slice whose
    own value is the median of its slices; of a single case, its best, median and worst slices.

    Of equal values the order of the cases decides; of an even number the median is the worse one. Where a slice has no
    value of its own, it is the middle one.
    """
    name, sign = next(
        ((name, sign) for name, sign in rank if any(each.values[name] is not None for each in judged)), rank[-1]
    )
    reasons: dict[tuple[int, int], list[str]] = {}
    if len(judged) == 1:
        values = judged[0].slices[name] if name in judged[0].slices else [None]
        for reason, index in _extremes(values, sign).items():
            reasons.setdefault((0, index if len(judged[0].slices) else -1), []).append(f"{reason} slice")
    else:
        for reason, case in _extremes([each.values[name] for each in judged], sign).items():
            of_slices = judged[case].slices[name] if name in judged[case].slices else []
            index = _extremes(of_slices, sign)["median"] if any(v is not None for v in of_slices) else -1
            reasons.setdefault((case, index), []).append(f"{reason} case")
    made = []
    for (case, index), why in reasons.items():
        found = assembled(case)
        place = len(found.slices) // 2 if index < 0 else index
        scores = judged[case].values if index < 0 else {k: v[index] for k, v in judged[case].slices.items()}
        made.append(Panel(volumes[case].id, int(found.slices[place]), name, why, scores, _images(found, place, task)))
    return made


def _extremes(values: Sequence[Value], sign: int) -> dict[str, int]:
    """best, median and worst -> index, of the values that are there; where none is, the middle one is all of them."""
    there = [index for index, value in enumerate(values) if value is not None and not np.isnan(value)]
    if not there:
        return {"median": len(values) // 2}
    ordered = sorted(there, key=lambda index: -sign * float(values[index]))  # type: ignore[arg-type]
    return {"best": ordered[0], "median": ordered[len(ordered) // 2], "worst": ordered[-1]}


def _images(found: Assembled, index: int, task: Task) -> dict[str, np.ndarray]:
    source = _channel(found.source[index])
    if task.whole:
        return {"input": source}
    if task.classes:
        output, target = np.argmax(found.output[index], axis=-1), found.target[index]
        error = (output != target).astype(np.float32)
    else:
        output, target = _channel(found.output[index]), _channel(found.target[index])
        error = np.abs(output - target)
    return {"input": source, "output": output, "target": target, "error": error}


def _channel(image: np.ndarray) -> np.ndarray:
    """[H, W] of [H, W] or [H, W, M]: the first channel."""
    return image if image.ndim == 2 else image[..., 0]


def _slice_score(image: Array, target: Array) -> tuple[Array, Array]:
    """PSNR and SSIM of one slice, taken as a volume of its own."""
    return metrics.psnr(image[None], target[None]), metrics.ssim(image[None], target[None])
