"""Data sources: which files, and how slices are cut from them."""

from dataclasses import dataclass, field

from crh_train.config.fields import at_least, between, one_of


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Fields that every source has. One sample is `slices` consecutive slices of a volume."""

    name: str
    axis: str = one_of("sagittal", "coronal", "axial")  # slices are cut across this axis
    downsample: int = at_least(1)  # voxels averaged along each axis
    shape: list[int] = at_least(1)  # rows and columns after centred cropping or zero padding, pixels
    slices: int = at_least(1)  # consecutive slices in one sample
    stride: int = at_least(1)  # slices from one sample's first to the next one's
    extent: list[float] = between(0.0, 1.0)  # the part of the axis that is used, as fractions of its length


@dataclass(frozen=True, kw_only=True)
class Mni152Config(DataConfig):
    """The MNI152 T1 template with its tissue maps, from the installed nilearn package."""

    validation: list[float] = between(0.0, 1.0)  # the slab held out, as fractions of the axis
    gap: int = at_least(0)  # slices left out on either side of that slab


@dataclass(frozen=True, kw_only=True)
class NiftiConfig(DataConfig):
    """A folder of volumes (`runtime.data_root`), each file wholly in one split."""

    validation_fraction: float = between(0.0, 1.0)  # of the files, rounded, at least one
    split_seed: int = at_least(0)


@dataclass(frozen=True, kw_only=True)
class CasesConfig(DataConfig):
    """A user's own folder (`runtime.data_root`) in one of the field's layouts, each patient wholly in one split."""

    spacing: list[float] | None = at_least(
        1e-3, length=3
    )  # mm along x, y, z that voxels are resampled to; null: as they are
    window: list[float] | None = field(
        metadata={"length": 2, "ascending": True}
    )  # the intensities that become 0 and 1, clipped; null: each volume's own extremes
    metadata: str | None  # a CSV or TSV below the folder with a row for each case, for results by subgroup
    validation_fraction: float = between(0.0, 1.0)  # of the patients, rounded, at least one
    split_seed: int = at_least(0)


@dataclass(frozen=True, kw_only=True)
class NnunetConfig(CasesConfig):
    """An nnU-Net (version 1 or 2) or Medical Segmentation Decathlon folder; the cases of its training part."""


@dataclass(frozen=True, kw_only=True)
class BidsConfig(CasesConfig):
    """A BIDS folder."""

    datatype: str  # the folder of the images in a subject's or a session's, such as anat
    suffixes: list[str]  # how the images' names end, such as T1w; several are the channels of one case
    labels: str | None  # a folder such as derivatives/manual with *_dseg files laid out like the images; null: none
    classes: int | None = at_least(2)  # of the labels, 0 to classes - 1; null where there are no labels


@dataclass(frozen=True, kw_only=True)
class DicomConfig(CasesConfig):
    """A folder of DICOM files in any arrangement; each series is a case."""

    series: str | None  # only series with such a SeriesDescription, with * and ? as in file names; null: all
    pseudonym: bool  # patients and series are recorded by a digest of their ids instead of the ids


@dataclass(frozen=True, kw_only=True)
class FastmriConfig(DataConfig):
    """A folder of fastMRI's HDF5 files (`runtime.data_root`), each patient wholly in one split. Images have two
    channels: that of the sampled columns, zero-filled, and that of all columns."""

    acceleration: int = at_least(1)  # sampled columns: one in so many, with the centre
    center_fraction: float = between(0.0, 1.0)  # of the columns, around zero frequency, always sampled
    mask: str = one_of("equispaced", "random")
    mask_seed: int = between(0, 2**32 - 1)  # for the random mask; drawn once for each number of columns
    validation_fraction: float = between(0.0, 1.0)  # of the patients, rounded, at least one
    split_seed: int = at_least(0)


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(DataConfig):
    """A folder of pictures and arrays (`runtime.data_root`) with a table about them, each patient in one split."""

    table: str | None  # a CSV below the folder, a row for each picture; null: every picture of the folder, unlabelled
    classes: list[str] | None  # in order: names of labels, or values of masks' pixels; null: the labels found, sorted
    resize: bool  # to fit `shape`, its proportions kept; false: cropped or padded around the centre
    window: list[float] | None = field(
        metadata={"length": 2, "ascending": True}
    )  # the values that become 0 and 1, clipped; null: 0 and the largest of the file's type
    validation_fraction: float = between(0.0, 1.0)  # of the patients, rounded, at least one
    split_seed: int = at_least(0)
