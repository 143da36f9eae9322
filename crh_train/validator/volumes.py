"""The held-out volumes of a run, and what the model makes of one, put together from its samples. One at a time is in
memory.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from crh_train.data.frame import inside, picture_size
from crh_train.data.volume import AXES
from crh_train.metrics.image import SSIM_WINDOW
from crh_train.validator.evaluation import Evaluation


class HeldOutVolume(NamedTuple):
    """A case of the report."""

    id: str
    samples: tuple[int, ...]  # its samples, by their index in the validation split
    first_slices: tuple[int, ...]  # of each sample, counted along the volume's axis
    spacing: tuple[float, float, float]  # mm from slice to slice, row to row, column to column, as prepared
    patient: str | None
    metadata: Mapping[str, str]
    frame: tuple[slice, slice]  # rows and columns of its pictures that are image, and not padding


class Assembled(NamedTuple):
    """A volume as the model gave it. Each slice is there once, in order."""

    volume: HeldOutVolume
    losses: np.ndarray  # float32 [samples]
    slices: np.ndarray  # int64 [S], where each slice lies along the volume's axis
    source: np.ndarray  # float32 [S, H, W] or [S, H, W, M]
    output: np.ndarray  # float32 as the target; or probabilities [S, H, W, K], or [K] where the whole case has a class
    target: np.ndarray  # float32 [S, H, W] or [S, H, W, M]; or int32 classes, [S, H, W] or []


def held_out_volumes(manifest: Mapping[str, Any]) -> tuple[HeldOutVolume, ...]:
    """The volumes with a held-out sample, in the order of the samples."""
    preprocessing = manifest["preprocessing"]
    across = AXES[preprocessing["axis"]]
    columns, rows = (axis for axis in range(3) if axis != across)  # as `preparation.cut` has them
    known = {volume["id"]: volume for volume in manifest["volumes"]}
    held_out = [sample for sample in manifest["samples"] if sample["split"] == "validation"]
    owned: dict[str, list[int]] = {}
    for index, sample in enumerate(held_out):
        owned.setdefault(sample["volume"], []).append(index)
    return tuple(
        HeldOutVolume(
            id=name,
            samples=tuple(samples),
            first_slices=tuple(held_out[index]["first_slice"] for index in samples),
            spacing=_spacing(known[name]["spacing"], (across, rows, columns), preprocessing["downsample"]),
            patient=known[name]["patient"] if "patient" in known[name] else None,
            metadata=known[name]["metadata"] if "metadata" in known[name] else {},
            frame=inside(picture_size(known[name], preprocessing), preprocessing["shape"], SSIM_WINDOW),
        )
        for name, samples in owned.items()
    )


def assemble(volume: HeldOutVolume, evaluate: Callable[[int], Evaluation]) -> Assembled:
    """Evaluate the samples of `volume` one by one.

    A slice that several samples hold is there once: its output is the mean of theirs, as a sliding window's is, its
    input and target are those of the first. Where the whole case has a class, its probabilities are the mean of its
    samples'. Means are float32, added in the order of the samples, element by element.
    """
    evaluations = map(evaluate, volume.samples)
    first = next(evaluations)
    whole = first.target.ndim == 0
    depth = first.source.shape[0]
    covered = sorted({start + step for start in volume.first_slices for step in range(depth)})
    place = {position: index for index, position in enumerate(covered)}
    shape = (len(covered), *first.source.shape[1:])
    source = np.zeros(shape, np.float32)
    output = np.zeros(first.output.shape if whole else (len(covered), *first.output.shape[1:]), np.float32)
    target = np.array(first.target) if whole else np.zeros((len(covered), *first.target.shape[1:]), first.target.dtype)
    times = np.zeros(len(covered), np.float32)
    losses = []
    for start, found in zip(volume.first_slices, itertools.chain([first], evaluations), strict=True):
        losses.append(found.loss)
        for step in range(depth):
            index = place[start + step]
            if not times[index]:
                source[index] = found.source[step]
                if not whole:
                    target[index] = found.target[step]
            if not whole:
                output[index] += found.output[step]
            times[index] += 1
        if whole:
            output += found.output
    output /= np.float32(len(losses)) if whole else times.reshape(-1, *[1] * (output.ndim - 1))
    return Assembled(volume, np.array(losses, np.float32), np.array(covered, np.int64), source, output, target)


def within(found: Assembled) -> Assembled:
    """Without what `data.shape` padded: nobody is judged on it. What it cropped away is not there to be judged."""
    rows, columns = found.volume.frame
    whole = found.target.ndim == 0
    return found._replace(
        source=found.source[:, rows, columns],
        output=found.output if whole else found.output[:, rows, columns],
        target=found.target if whole else found.target[:, rows, columns],
    )


def _spacing(spacing: Any, order: tuple[int, int, int], downsample: int) -> tuple[float, float, float]:
    slices, rows, columns = (float(spacing[axis]) * downsample for axis in order)
    return slices, rows, columns
