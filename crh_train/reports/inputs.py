"""All that the reports of a run are made from, as one value. Holds no clock, no path and no name of a machine, so that
the same run gives the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from crh_train.chronicle import StepFields
from crh_train.errors import CorruptRun, UsageError


class ManifestSummary(NamedTuple):
    train: int  # samples
    validation: int
    source: str


class Case(NamedTuple):
    """One held-out slice. A plain pair does as well."""

    title: str  # shown over the row as it is, such as "mni152/axial/047 · PSNR 23.1 → 27.4 dB"
    images: tuple[np.ndarray, np.ndarray, np.ndarray]  # input, output, target; [H, W], classes as whole numbers


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """A finished run. Raises `CorruptRun` for an empty chronicle, `UsageError` for what cannot be shown."""

    name: str  # of the configuration, such as "mri_cosine"
    run_hash: str
    config_hash: str
    dataset_state: str
    seed: int
    config: Mapping[str, Any]  # the semantic configuration
    manifest: ManifestSummary
    records: Sequence[StepFields]  # the whole chronicle, in order
    validation: Mapping[str, Any]
    """metric -> float | int | str | None, and under "conventions" metric -> sentence. Each number has its sentence."""
    cases: Sequence[Case | tuple[str, tuple[np.ndarray, np.ndarray, np.ndarray]]]
    classes: int  # 0: the output is an image; K: one of K classes per pixel
    final_checkpoint: str
    chronicle_head: str
    fingerprint: Mapping[str, Any]  # of machine and software
    determinism: str  # the level's name, such as "native"

    def __post_init__(self) -> None:
        if not self.records:
            raise CorruptRun(f"run {self.short}: expected a chronicle of at least one step, found none; resume the run")
        sentences = self.validation["conventions"]
        for name in metric_names(self.validation):
            if self.validation[name] is not None and name not in sentences:
                raise UsageError(
                    f"run {self.short}: validation metric '{name}' has a value but no sentence under 'conventions' "
                    "that says how it is computed; add one in validator.py"
                )
        shapes = [np.shape(image) for _, images in self.cases for image in images]
        if any(len(shape) != 2 or shape != shapes[0] for shape in shapes):
            raise UsageError(f"run {self.short}: cases must be images [H, W] of one shape, got {sorted(set(shapes))}")

    @property
    def short(self) -> str:
        """The name of the run's folder."""
        return self.run_hash[:16]


METRICS = (
    "loss",
    "mse",
    "psnr",
    "nmse",
    "ssim",
    "accuracy",
    "f1",
    "baseline_psnr",
    "baseline_nmse",
    "baseline_ssim",
)
"""The metrics that every report lists, in this order; others follow in sorted order."""


def metric_names(validation: Mapping[str, Any]) -> list[str]:
    """The metrics that `validation` has."""
    known = [name for name in METRICS if name in validation]
    return known + sorted(validation.keys() - {*METRICS, "conventions"})
