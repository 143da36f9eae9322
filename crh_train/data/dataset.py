"""From a source and its manifest to the arrays that training reads: prepared, cut into samples, cached.

Opening the source and building the manifest come before and are the caller's, so that a replay can compare manifests
before anything is decoded.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from crh_train.config import DataConfig
from crh_train.data import cache
from crh_train.data.manifest import SPLITS, dataset_state
from crh_train.data.volume import Source

Preparation = Callable[[Array, Array | None], tuple[Array, Array | None]]
"""image float32 [X, Y, Z], labels int32 [X, Y, Z] or None -> float32 [S, H, W], int32 [S, H, W] or None. An image of
several channels [X, Y, Z, M] gives [S, H, W, M]; k-space [S, coils, rows, columns, 2] gives [S, H, W, 2]."""


class PreparedSplit(NamedTuple):
    images: np.ndarray  # float32 [N, T, H, W] or [N, T, H, W, M], intensities in [0, 1]
    labels: np.ndarray | None  # int32 [N, T, H, W], or [N] where the whole case has a class
    ids: tuple[str, ...]  # of the samples, in index order


class Dataset(NamedTuple):
    train: PreparedSplit
    validation: PreparedSplit
    manifest: Mapping[str, Any]


def load(
    source: Source,
    config: DataConfig,
    manifest: Mapping[str, Any],
    *,
    prepare: Preparation,
    cache_folder: Path | None,
    identity: str,
) -> Dataset:
    """Prepare the samples that `manifest` lists, or take them from the cache.

    Args:
      manifest: of `source` under `config`, from `manifest.build`.
      prepare: the preparation of one volume (`preparation.make`), compiled.
      cache_folder: where prepared arrays are kept; None keeps none.
      identity: all but the data that decides the bits of `prepare`'s result (`cache.entry_key`).

    Raises:
      DataError: a volume cannot be decoded, or its file changed since `source` was opened.
    """
    key = cache.entry_key(dataset_state(manifest), identity)
    names = [f"{split}_{kind}" for split in SPLITS for kind in ("images", *(["labels"] if source.classes else []))]
    arrays = cache.read(cache_folder, key, names) if cache_folder is not None else None
    if arrays is None:
        arrays = _prepare(source, config, manifest, prepare)
        if cache_folder is not None:
            cache.write(cache_folder, key, arrays)
    train, validation = (
        PreparedSplit(
            images=arrays[f"{split}_images"],
            labels=arrays[f"{split}_labels"] if source.classes else None,
            ids=tuple(sample["id"] for sample in manifest["samples"] if sample["split"] == split),
        )
        for split in SPLITS
    )
    return Dataset(train, validation, manifest)


def _prepare(
    source: Source, config: DataConfig, manifest: Mapping[str, Any], prepare: Preparation
) -> dict[str, np.ndarray]:
    samples: dict[str, list[Any]] = {volume.id: [] for volume in source.volumes}
    for sample in manifest["samples"]:
        samples[sample["volume"]].append(sample)
    images: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    labels: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for volume in source.volumes:  # the order in which the manifest lists the samples
        voxels = volume.read()
        per_pixel = voxels.labels is not None and source.labelled == "pixel"
        pictures, classes = prepare(jnp.asarray(voxels.image), jnp.asarray(voxels.labels) if per_pixel else None)
        for sample in samples[volume.id]:
            taken = slice(sample["first_slice"], sample["first_slice"] + config.slices)
            images[sample["split"]].append(np.asarray(pictures[taken]))
            if classes is not None:
                labels[sample["split"]].append(np.asarray(classes[taken]))
            elif voxels.labels is not None:
                labels[sample["split"]].append(voxels.labels)
    arrays = {f"{split}_images": np.stack(images[split]) for split in SPLITS}
    return arrays | {f"{split}_labels": np.stack(labels[split]) for split in SPLITS if labels[split]}
