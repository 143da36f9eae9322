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


class CaseRow(NamedTuple):
    """One held-out case, which is a volume."""

    id: str
    patient: str | None
    values: Mapping[str, np.float32 | None]  # of each metric that a case has by itself
    details: Mapping[str, int | np.float32]  # such as the number of its samples; the same for every case
    metadata: Mapping[str, str]


class SliceRow(NamedTuple):
    """One slice of a held-out case."""

    case: str
    slice: int  # along the volume's axis, as prepared
    values: Mapping[str, np.float32 | None]


class Panel(NamedTuple):
    """A slice that is shown, with what it was chosen by."""

    case: str
    slice: int
    metric: str
    chosen: Sequence[str]  # such as ["best case"]
    scores: Mapping[str, np.float32 | None]  # of the slice, or of the case where a slice has none
    images: Mapping[str, np.ndarray]  # "input", and where there are any "output", "target" and "error": [H, W]


class HeldOut(NamedTuple):
    """What is known of the held-out cases beyond one number a metric."""

    statistics: Mapping[str, Mapping[str, Any]]  # metric -> {n, mean, sd, interval}
    conventions: Mapping[str, str]  # of those
    subgroups: Sequence[Mapping[str, Any]]  # {column, missing, groups: [{group, n, metrics}], gaps}
    bias: str  # what subgroups can say, and what they cannot
    cases: Sequence[CaseRow]
    slices: Sequence[SliceRow]
    panels: Sequence[Panel]


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
    held_out: HeldOut
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
                    "that says how it is computed; add one in validator/conventions.py"
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
    "dice",
    "hd95",
    "auc",
    "ece",
    "baseline_psnr",
    "baseline_nmse",
    "baseline_ssim",
)
"""The metrics that every report lists, in this order; others follow in sorted order."""


def metric_names(validation: Mapping[str, Any]) -> list[str]:
    """The metrics that `validation` has."""
    known = [name for name in METRICS if name in validation]
    return known + sorted(validation.keys() - {*METRICS, "conventions"})
