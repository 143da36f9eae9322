"""Which slices train and which validate: by contiguous slab with a gap, by whole volume, or by whole patient; never by
random slices.

Neighbouring slices of a volume are nearly the same picture (they correlate at 0.995 in the MNI152 template), so a split
of single slices would validate on what was trained on.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from crh_train.config import CasesConfig, DataConfig, FastmriConfig, ImagesConfig, Mni152Config, NiftiConfig
from crh_train.data.volume import Segment
from crh_train.digest import digest_bytes
from crh_train.errors import ConfigError, DataError


def slab(volume: str, slices: int, config: Mni152Config) -> tuple[Segment, ...]:
    """Split one volume of `slices` slices: training below the validation slab, the slab, training above it.

    A fraction f of the axis is the boundary before slice round(f * slices). `gap` slices on either side of the slab
    belong to nobody, so any training slice is more than `gap` slices away from any validation slice.

    Raises:
      ConfigError: a fraction pair is no interval, or the slab does not lie within the extent.
    """
    low, high = extent(slices, config)
    first, stop = _interval(config.validation, "data.validation", slices)
    if not low <= first < stop <= high:
        raise ConfigError(
            f"data.validation={config.validation} must hold at least one slice and lie within data.extent="
            f"{config.extent}; of {slices} slices they are {first} to {stop} and {low} to {high}"
        )
    segments = (
        Segment(volume, "train", low, first - config.gap),
        Segment(volume, "validation", first, stop),
        Segment(volume, "train", stop + config.gap, high),
    )
    return tuple(segment for segment in segments if segment.first < segment.stop)


def by_volume(slices: Mapping[str, int], config: NiftiConfig) -> tuple[Segment, ...]:
    """Split whole volumes (id -> number of slices), each as if it were a patient of its own."""
    return by_patient(slices, {volume: volume for volume in slices}, config)


def by_patient(
    slices: Mapping[str, int],
    patients: Mapping[str, str],
    config: NiftiConfig | CasesConfig | FastmriConfig | ImagesConfig,
) -> tuple[Segment, ...]:
    """Split whole patients: those with the lowest SHA-256 of "seed:patient" validate, with all their volumes.

    The hash makes a patient's rank its own: adding one moves at most the patients at the boundary. At least one patient
    is held out and at least one is left to train; there must be two.

    Args:
      slices: id of each volume -> number of its slices.
      patients: id of each volume -> its patient.
    """
    ranked = sorted(set(patients.values()), key=lambda patient: digest_bytes(f"{config.split_seed}:{patient}".encode()))
    count = min(max(1, round(config.validation_fraction * len(ranked))), len(ranked) - 1)
    held_out = frozenset(ranked[:count])
    return tuple(
        Segment(volume, "validation" if patients[volume] in held_out else "train", *extent(slices[volume], config))
        for volume in slices
    )


def require_two_patients(root: Path, what: str, patients: Mapping[str, str], counted: str = "") -> None:
    """Raise `DataError` unless `patients`, by the id of each volume, are two: one to train and one to validate on.

    Args:
      what: the folder `root` should hold; `counted` is the word for it behind a number.
    """
    if (found := len(set(patients.values()))) < 2:
        raise DataError(
            f"{root} must hold {what} of at least two patients, one to train and one to validate on; it holds "
            f"{len(patients)}{counted} of {found}"
        )


def extent(slices: int, config: DataConfig) -> tuple[int, int]:
    """First slice and one past the last of the part of the axis that is used."""
    return _interval(config.extent, "data.extent", slices)


def _interval(fractions: Sequence[float], field: str, slices: int) -> tuple[int, int]:
    if len(fractions) != 2 or not fractions[0] < fractions[1]:
        raise ConfigError(f"{field} must be two ascending fractions of the axis such as [0.1, 0.9], got {fractions}")
    return round(fractions[0] * slices), round(fractions[1] * slices)
