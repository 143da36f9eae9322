"""The data source that a configuration names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from crh_train.config import RunConfig
from crh_train.data import bids, dicom, fastmri, images, mni152, nifti, nnunet
from crh_train.data.volume import Source
from crh_train.registry import registered

SOURCES: Mapping[str, Callable[..., Source]] = {
    "mni152": lambda config, root: mni152.open_source(config),
    "nifti": nifti.open_source,
    "nnunet": nnunet.open_source,
    "bids": bids.open_source,
    "dicom": dicom.open_source,
    "fastmri": fastmri.open_source,
    "images": images.open_source,
}


def open_source(config: RunConfig) -> Source:
    """Find and hash the files of `config.data`. Raises `DataError` for one that cannot be used."""
    root = None if config.runtime.data_root is None else Path(config.runtime.data_root)
    opened: Any = registered("data", config.data.name, SOURCES)(config.data, root)
    source: Source = opened
    return source
