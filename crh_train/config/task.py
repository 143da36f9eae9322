"""Task, tokenizer, augmentation: what is learned from which pictures."""

from dataclasses import dataclass

from crh_train.config.fields import at_least, between, one_of


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """Image from undersampled k-space."""

    name: str
    acceleration: int = at_least(1)  # sampled columns: one in so many, with the centre
    center_fraction: float = between(0.0, 1.0)  # of the columns, around zero frequency, always sampled
    mask: str = one_of("equispaced", "random")
    mask_seed: int = between(0, 2**32 - 1)  # for the random mask; drawn once


@dataclass(frozen=True, kw_only=True)
class TissueConfig:
    """Tissue class per pixel, from the source's labels."""

    name: str
    classes: int = at_least(2)


@dataclass(frozen=True, kw_only=True)
class DenoisingConfig:
    """Image from itself with noise."""

    name: str
    noise: str = one_of("gaussian", "rician")
    sigma: list[float] = at_least(0.0)  # range of the noise's standard deviation, in intensity


@dataclass(frozen=True, kw_only=True)
class SuperResolutionConfig:
    """Image from itself at lower resolution, on the same grid."""

    name: str
    factor: int = at_least(2)  # along rows and columns
    method: str = one_of("kspace", "block_mean")


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig:
    """Class per pixel, from the source's labels."""

    name: str
    classes: int | None = at_least(2)  # the source's; null: whatever they are


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """Class per case, from the source's labels."""

    name: str
    classes: int | None = at_least(2)  # the source's; null: whatever they are


@dataclass(frozen=True, kw_only=True)
class PairedConfig:
    """The second half of the source's channels from the first."""

    name: str


@dataclass(frozen=True, kw_only=True)
class IntensityTokenizerConfig:
    name: str
    mean: float
    scale: float = at_least(1e-6)  # tokens are (intensity - mean) / scale
    patch: int = at_least(1)  # pixels along each side of a token


@dataclass(frozen=True, kw_only=True)
class ChromaticTokenizerConfig:
    name: str


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Each is drawn anew for every sample at every step. All off: no augmentation."""

    name: str
    flip_rows: bool
    flip_columns: bool
    rotate_90: bool  # needs square images
    intensity_scale: float = between(0.0, 0.9)  # factor drawn from [1 - s, 1 + s]
    noise: float = at_least(0.0)  # standard deviation, in intensity


@dataclass(frozen=True, kw_only=True)
class MedicalAugmentationConfig:
    """Each is drawn anew for every sample at every step, and done with its probability. All 0: only the patch."""

    name: str
    patch: list[int] | None = at_least(1)  # slices, rows, columns, from a place drawn; null: the whole sample
    across_slices: bool  # geometry and blur in all three axes, for voxels about as long as wide; else within slices
    padding: str = one_of("zero", "edge")  # what lies outside of the sample; of labels class 0, or the edge's
    flip_slices: float = between(0.0, 1.0)  # probability
    flip_rows: float = between(0.0, 1.0)  # probability
    flip_columns: float = between(0.0, 1.0)  # probability
    rotation: float = between(0.0, 1.0)  # probability
    rotation_degrees: float = between(0.0, 180.0)  # the largest angle, to either side
    scale: float = between(0.0, 1.0)  # probability
    scale_range: list[float] = between(0.1, 10.0)  # of the factor by which things grow
    elastic: float = between(0.0, 1.0)  # probability
    elastic_spacing: float = at_least(1.0)  # pixels from one point of the coarse grid to the next
    elastic_deviation: float = between(0.0, 1000.0)  # standard deviation of these points' displacement, pixels
    noise: float = between(0.0, 1.0)  # probability
    noise_range: list[float] = at_least(0.0)  # of the standard deviation, in intensity
    blur: float = between(0.0, 1.0)  # probability
    blur_range: list[float] = between(0.1, 10.0)  # of the Gaussian's standard deviation, pixels
    brightness: float = between(0.0, 1.0)  # probability
    brightness_range: list[float] = at_least(0.0)  # of the factor
    shift: float = between(0.0, 1.0)  # probability
    shift_range: list[float]  # of what is added, in intensity
    contrast: float = between(0.0, 1.0)  # probability
    contrast_range: list[float] = at_least(0.0)  # of the factor about the mean
    gamma: float = between(0.0, 1.0)  # probability
    gamma_range: list[float] = at_least(0.01)  # of the exponent
