"""From a source and its manifest to the arrays that training reads: prepared, cut into samples, cached.

Where there is a cache, its files are mapped and one volume at a time is in memory; else the arrays are.
Opening the source and building the manifest come before and are the caller's, so that a replay can compare manifests
before anything is decoded.
"""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from crh_train.config import DataConfig
from crh_train.data import cache
from crh_train.data.manifest import SPLITS, dataset_state
from crh_train.data.volume import Source, Volume
from crh_train.errors import StorageFailed

log = logging.getLogger(__name__)

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
      StorageFailed: the arrays cannot be kept on disk and are larger than memory.
    """
    key = cache.entry_key(dataset_state(manifest), identity)
    forms = _forms(source, config, manifest)
    arrays = cache.read(cache_folder, key, forms) if cache_folder is not None else None
    if arrays is None and cache_folder is not None:
        cache.write(cache_folder, key, forms, _samples(source, config, manifest, prepare))
        arrays = cache.read(cache_folder, key, forms)
    if arrays is None:
        arrays = _in_memory(forms, _samples(source, config, manifest, prepare), cache_folder)
    train, validation = (
        PreparedSplit(
            images=arrays[f"{split}_images"],
            labels=arrays[f"{split}_labels"] if source.classes else None,
            ids=tuple(sample["id"] for sample in manifest["samples"] if sample["split"] == split),
        )
        for split in SPLITS
    )
    return Dataset(train, validation, manifest)


def _forms(source: Source, config: DataConfig, manifest: Mapping[str, Any]) -> dict[str, cache.Form]:
    """Of the prepared arrays, by name."""
    forms = {}
    for split in SPLITS:
        count = sum(sample["split"] == split for sample in manifest["samples"])
        pixels = (count, config.slices, *config.shape)
        forms[f"{split}_images"] = cache.Form("<f4", (*pixels, source.channels) if source.channels > 1 else pixels)
        if source.classes:
            forms[f"{split}_labels"] = cache.Form("<i4", pixels if source.labelled == "pixel" else (count,))
    return forms


def _samples(source: Source, config: DataConfig, manifest: Mapping[str, Any], prepare: Preparation) -> cache.Samples:
    """Each array's samples, volume by volume, of which one at a time is in memory."""
    samples: dict[str, list[Any]] = {volume.id: [] for volume in source.volumes}
    for sample in manifest["samples"]:
        samples[sample["volume"]].append(sample)
    for volume in source.volumes:  # the order in which the manifest lists the samples
        images, labels = _prepared(volume, prepare)
        for sample in samples[volume.id]:
            taken = slice(sample["first_slice"], sample["first_slice"] + config.slices)
            yield f"{sample['split']}_images", images[taken]
            if labels is not None:
                yield f"{sample['split']}_labels", labels[taken] if labels.ndim else labels


def _prepared(volume: Volume, prepare: Preparation) -> tuple[np.ndarray, np.ndarray | None]:
    """The pictures of a volume and their labels, or the one of all. A function of its own, so that the volume is gone
    when the next one is read."""
    image, labels = volume.read()
    if labels is None or not labels.ndim:
        return np.asarray(prepare(jnp.asarray(image), None)[0]), labels
    pictures, classes = prepare(jnp.asarray(image), jnp.asarray(labels))
    return np.asarray(pictures), np.asarray(classes)


def _in_memory(
    forms: Mapping[str, cache.Form], samples: cache.Samples, cache_folder: Path | None
) -> dict[str, np.ndarray]:
    needed, memory = sum(form.bytes for form in forms.values()), _memory()
    where = "there is no cache folder" if cache_folder is None else f"they could not be kept in {cache_folder}"
    if needed > memory:
        raise StorageFailed(
            f"the prepared data take {needed} bytes, this machine's memory is {memory}, and {where}: "
            "set runtime.cache=FOLDER to one where so much is free"
        )
    log.info("prepared data of %d bytes stay in memory: %s", needed, where)
    arrays = {name: np.empty(form.shape, form.dtype) for name, form in forms.items()}
    filled = dict.fromkeys(forms, 0)
    for name, sample in samples:
        arrays[name][filled[name]] = sample
        filled[name] += 1
    return arrays


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
