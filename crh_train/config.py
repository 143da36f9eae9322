"""Run configurations: the typed schema, and what of it is a run's identity. No Hydra, no JAX.

Every field is a choice that `conf/` writes out; nothing has a default here, so that one look into `conf/` shows what
a run does. A part (model, loss, …) is one of several dataclasses, picked by its `name`.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crh_train.errors import ConfigError

_LARGEST_FLOAT32 = float.fromhex("0x1.fffffep127")
_LARGEST_INTEGER = 2**53 - 1  # beyond it canonical JSON has no exact number


def _at_least(minimum: float, **more: Any) -> Any:
    return field(metadata={"minimum": minimum, **more})


def _between(minimum: float, maximum: float) -> Any:
    return field(metadata={"minimum": minimum, "maximum": maximum})


def _one_of(*choices: str) -> Any:
    return field(metadata={"choices": choices})


# --- data ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Fields that every source has. One sample is `slices` consecutive slices of a volume."""

    name: str
    axis: str = _one_of("sagittal", "coronal", "axial")  # slices are cut across this axis
    downsample: int = _at_least(1)  # voxels averaged along each axis
    shape: list[int] = _at_least(1)  # rows and columns after centred cropping or zero padding, pixels
    slices: int = _at_least(1)  # consecutive slices in one sample
    stride: int = _at_least(1)  # slices from one sample's first to the next one's
    extent: list[float] = _between(0.0, 1.0)  # the part of the axis that is used, as fractions of its length


@dataclass(frozen=True, kw_only=True)
class Mni152Config(DataConfig):
    """The MNI152 T1 template with its tissue maps, from the installed nilearn package."""

    validation: list[float] = _between(0.0, 1.0)  # the slab held out, as fractions of the axis
    gap: int = _at_least(0)  # slices left out on either side of that slab


@dataclass(frozen=True, kw_only=True)
class NiftiConfig(DataConfig):
    """A folder of volumes (`runtime.data_root`), each file wholly in one split."""

    validation_fraction: float = _between(0.0, 1.0)  # of the files, rounded, at least one
    split_seed: int = _at_least(0)


@dataclass(frozen=True, kw_only=True)
class CasesConfig(DataConfig):
    """A user's own folder (`runtime.data_root`) in one of the field's layouts, each patient wholly in one split."""

    spacing: list[float] | None = _at_least(
        1e-3, length=3
    )  # mm along x, y, z that voxels are resampled to; null: as they are
    window: list[float] | None = field(
        metadata={"length": 2, "ascending": True}
    )  # the intensities that become 0 and 1, clipped; null: each volume's own extremes
    metadata: str | None  # a CSV or TSV below the folder with a row for each case, for results by subgroup
    validation_fraction: float = _between(0.0, 1.0)  # of the patients, rounded, at least one
    split_seed: int = _at_least(0)


@dataclass(frozen=True, kw_only=True)
class NnunetConfig(CasesConfig):
    """An nnU-Net (version 1 or 2) or Medical Segmentation Decathlon folder; the cases of its training part."""


@dataclass(frozen=True, kw_only=True)
class BidsConfig(CasesConfig):
    """A BIDS folder."""

    datatype: str  # the folder of the images in a subject's or a session's, such as anat
    suffixes: list[str]  # how the images' names end, such as T1w; several are the channels of one case
    labels: str | None  # a folder such as derivatives/manual with *_dseg files laid out like the images; null: none
    classes: int | None = _at_least(2)  # of the labels, 0 to classes - 1; null where there are no labels


@dataclass(frozen=True, kw_only=True)
class DicomConfig(CasesConfig):
    """A folder of DICOM files in any arrangement; each series is a case."""

    series: str | None  # only series with such a SeriesDescription, with * and ? as in file names; null: all
    pseudonym: bool  # patients and series are recorded by a digest of their ids instead of the ids


@dataclass(frozen=True, kw_only=True)
class FastmriConfig(DataConfig):
    """A folder of fastMRI's HDF5 files (`runtime.data_root`), each patient wholly in one split. Images have two
    channels: that of the sampled columns, zero-filled, and that of all columns."""

    acceleration: int = _at_least(1)  # sampled columns: one in so many, with the centre
    center_fraction: float = _between(0.0, 1.0)  # of the columns, around zero frequency, always sampled
    mask: str = _one_of("equispaced", "random")
    mask_seed: int = _between(0, 2**32 - 1)  # for the random mask; drawn once for each number of columns
    validation_fraction: float = _between(0.0, 1.0)  # of the patients, rounded, at least one
    split_seed: int = _at_least(0)


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(DataConfig):
    """A folder of pictures and arrays (`runtime.data_root`) with a table about them, each patient in one split."""

    table: str | None  # a CSV below the folder, a row for each picture; null: every picture of the folder, unlabelled
    classes: list[str] | None  # in order: names of labels, or values of masks' pixels; null: the labels found, sorted
    resize: bool  # to fit `shape`, its proportions kept; false: cropped or padded around the centre
    window: list[float] | None = field(
        metadata={"length": 2, "ascending": True}
    )  # the values that become 0 and 1, clipped; null: 0 and the largest of the file's type
    validation_fraction: float = _between(0.0, 1.0)  # of the patients, rounded, at least one
    split_seed: int = _at_least(0)


# --- task, tokenizer, augmentation ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """Image from undersampled k-space."""

    name: str
    acceleration: int = _at_least(1)  # sampled columns: one in so many, with the centre
    center_fraction: float = _between(0.0, 1.0)  # of the columns, around zero frequency, always sampled
    mask: str = _one_of("equispaced", "random")
    mask_seed: int = _between(0, 2**32 - 1)  # for the random mask; drawn once


@dataclass(frozen=True, kw_only=True)
class TissueConfig:
    """Tissue class per pixel, from the source's labels."""

    name: str
    classes: int = _at_least(2)


@dataclass(frozen=True, kw_only=True)
class DenoisingConfig:
    """Image from itself with noise."""

    name: str
    noise: str = _one_of("gaussian", "rician")
    sigma: list[float] = _at_least(0.0)  # range of the noise's standard deviation, in intensity


@dataclass(frozen=True, kw_only=True)
class SuperResolutionConfig:
    """Image from itself at lower resolution, on the same grid."""

    name: str
    factor: int = _at_least(2)  # along rows and columns
    method: str = _one_of("kspace", "block_mean")


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig:
    """Class per pixel, from the source's labels."""

    name: str
    classes: int | None = _at_least(2)  # the source's; null: whatever they are


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """Class per case, from the source's labels."""

    name: str
    classes: int | None = _at_least(2)  # the source's; null: whatever they are


@dataclass(frozen=True, kw_only=True)
class PairedConfig:
    """The second half of the source's channels from the first."""

    name: str


@dataclass(frozen=True, kw_only=True)
class IntensityTokenizerConfig:
    name: str
    mean: float
    scale: float = _at_least(1e-6)  # tokens are (intensity - mean) / scale
    patch: int = _at_least(1)  # pixels along each side of a token


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
    intensity_scale: float = _between(0.0, 0.9)  # factor drawn from [1 - s, 1 + s]
    noise: float = _at_least(0.0)  # standard deviation, in intensity


@dataclass(frozen=True, kw_only=True)
class MedicalAugmentationConfig:
    """Each is drawn anew for every sample at every step, and done with its probability. All 0: only the patch."""

    name: str
    patch: list[int] | None = _at_least(1)  # slices, rows, columns, from a place drawn; null: the whole sample
    across_slices: bool  # geometry and blur in all three axes, for voxels about as long as wide; else within slices
    padding: str = _one_of("zero", "edge")  # what lies outside of the sample; of labels class 0, or the edge's
    flip_slices: float = _between(0.0, 1.0)  # probability
    flip_rows: float = _between(0.0, 1.0)  # probability
    flip_columns: float = _between(0.0, 1.0)  # probability
    rotation: float = _between(0.0, 1.0)  # probability
    rotation_degrees: float = _between(0.0, 180.0)  # the largest angle, to either side
    scale: float = _between(0.0, 1.0)  # probability
    scale_range: list[float] = _between(0.1, 10.0)  # of the factor by which things grow
    elastic: float = _between(0.0, 1.0)  # probability
    elastic_spacing: float = _at_least(1.0)  # pixels from one point of the coarse grid to the next
    elastic_deviation: float = _between(0.0, 1000.0)  # standard deviation of these points' displacement, pixels
    noise: float = _between(0.0, 1.0)  # probability
    noise_range: list[float] = _at_least(0.0)  # of the standard deviation, in intensity
    blur: float = _between(0.0, 1.0)  # probability
    blur_range: list[float] = _between(0.1, 10.0)  # of the Gaussian's standard deviation, pixels
    brightness: float = _between(0.0, 1.0)  # probability
    brightness_range: list[float] = _at_least(0.0)  # of the factor
    shift: float = _between(0.0, 1.0)  # probability
    shift_range: list[float]  # of what is added, in intensity
    contrast: float = _between(0.0, 1.0)  # probability
    contrast_range: list[float] = _at_least(0.0)  # of the factor about the mean
    gamma: float = _between(0.0, 1.0)  # probability
    gamma_range: list[float] = _at_least(0.01)  # of the exponent


# --- model ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    name: str
    initialisation: str = _one_of("kaiming", "xavier")
    residual: bool  # the model gives what is added to its input


@dataclass(frozen=True, kw_only=True)
class MlpConfig(ModelConfig):
    hidden: int = _at_least(1)
    layers: int = _at_least(1)
    activation: str = _one_of("relu", "leaky_relu", "gelu", "silu", "tanh")


@dataclass(frozen=True, kw_only=True)
class CnnConfig(ModelConfig):
    channels: int = _at_least(1)
    layers: int = _at_least(2)
    kernel: int = _at_least(1)  # odd
    activation: str = _one_of("relu", "leaky_relu", "gelu", "silu", "tanh")


@dataclass(frozen=True, kw_only=True)
class UnetConfig(ModelConfig):
    channels: int = _at_least(1)  # of the first level; doubled at each pool
    pools: int = _at_least(1)


@dataclass(frozen=True, kw_only=True)
class Unet3dConfig(ModelConfig):
    channels: int = _at_least(1)  # of the first level; doubled at each pool
    pools: int = _at_least(1)
    slice_pools: int = _at_least(0)  # of these, the deepest, that pool across slices too; fewer for thick slices


@dataclass(frozen=True, kw_only=True)
class GruConfig(ModelConfig):
    hidden: int = _at_least(1)


# --- loss ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MseConfig:
    name: str


@dataclass(frozen=True, kw_only=True)
class CrossEntropyConfig:
    name: str


@dataclass(frozen=True, kw_only=True)
class L1Config:
    name: str


@dataclass(frozen=True, kw_only=True)
class DiceCrossEntropyConfig:
    name: str
    dice_weight: float = _at_least(0.0)
    cross_entropy_weight: float = _at_least(0.0)
    smooth: float = _at_least(1e-8)  # added to the overlap and to the sizes, pixels
    include_background: bool  # class 0 counts in Dice; in the cross entropy it always does
    batch_dice: bool  # one Dice for the whole batch, as if it were one image; else one for each sample


@dataclass(frozen=True, kw_only=True)
class StructuralConfig:
    name: str
    edge_weight: float = _at_least(0.0)  # how much more an edge pixel of the target counts
    gradient_weight: float = _at_least(0.0)  # of the difference of image gradients
    epsilon: float = _at_least(1e-8)  # smooths |x| at zero, in token units


@dataclass(frozen=True, kw_only=True)
class ChromaticCoherenceConfig:
    name: str
    fidelity_weight: float = _at_least(0.0)  # of the mean squared error of the colours
    coherence_weight: float = _at_least(0.0)  # of the field's energy
    variation_weight: float = _at_least(0.0)  # lambda_tv
    saturation_weight: float = _at_least(0.0)  # lambda_sat
    epsilon: float = _at_least(1e-8)  # smooths the norm at zero


@dataclass(frozen=True, kw_only=True)
class TemporalSmoothnessConfig:
    name: str
    fidelity_weight: float = _at_least(0.0)  # of the mean squared error
    smoothness_weight: float = _at_least(0.0)  # of the second difference along the sequence


# --- optimizer, scheduler ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SgdConfig:
    name: str
    momentum: float = _between(0.0, 1.0)
    dampening: float = _between(0.0, 1.0)
    weight_decay: float = _at_least(0.0)


@dataclass(frozen=True, kw_only=True)
class AdamConfig:
    """AdamW: weight decay is decoupled from the gradient."""

    name: str
    beta1: float = _between(0.0, 1.0)
    beta2: float = _between(0.0, 1.0)
    epsilon: float = _at_least(0.0)  # added to the root of the second moment, outside the root
    weight_decay: float = _at_least(0.0)


@dataclass(frozen=True, kw_only=True)
class RmspropConfig:
    name: str
    decay: float = _between(0.0, 1.0)
    epsilon: float = _at_least(0.0)  # added outside the root
    momentum: float = _between(0.0, 1.0)
    weight_decay: float = _at_least(0.0)


@dataclass(frozen=True, kw_only=True)
class ChromaticSgdConfig:
    name: str
    momentum: float = _between(0.0, 1.0)
    dampening: float = _between(0.0, 1.0)
    weight_decay: float = _at_least(0.0)
    smallest_scale: float = _at_least(1e-3)  # bounds of a channel's step scale
    largest_scale: float = _at_least(1.0)


@dataclass(frozen=True, kw_only=True)
class LinearDecayConfig:
    name: str
    warmup_epochs: int = _at_least(0)
    final_fraction: float = _between(0.0, 1.0)  # of the peak learning rate, at the last step


@dataclass(frozen=True, kw_only=True)
class CosineAnnealingConfig:
    name: str
    warmup_epochs: int = _at_least(0)
    final_fraction: float = _between(0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class StepDecayConfig:
    name: str
    milestones: list[int] = _at_least(1)  # epochs, strictly increasing
    factor: float = _between(0.0, 1.0)  # multiplies the learning rate at each milestone


# --- engine, determinism, runtime ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PortableConfig:
    """The same bits on every machine, whatever its threads, instruction set, devices or processes."""

    name: str
    digits: int = _between(2, 4)  # of 8 bits, that a product keeps of each operand


@dataclass(frozen=True, kw_only=True)
class NativeConfig:
    """XLA's own arithmetic: the same bits on the same machine and software."""

    name: str


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    seed: int = _between(0, 2**32 - 1)  # in the run hash, not in the configuration hash
    epochs: int = _at_least(1)
    batch_size: int = _at_least(1)  # samples in one optimizer step
    micro_batches: int = _at_least(1)  # equal parts of a batch whose gradients are accumulated in order
    learning_rate: float = _at_least(0.0)  # at the schedule's peak


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Where and how, never what: outside every hash."""

    devices: int = _at_least(1)  # the batch is sharded over so many, those of all processes together
    processes: int = _at_least(1)  # the devices are spread over so many, each started on its own
    process: int = _at_least(0)  # which of them this is, counted from 0, which alone writes the run
    coordinator: str | None  # HOST:PORT at which process 0 awaits the others
    threads: int = _at_least(0)  # of XLA on the CPU; 0: as many as the process may use
    checkpoint_every: int = _at_least(1)  # epochs
    keep: int | None = _at_least(2)  # checkpoints, the best and the newest; null: all
    retention_days: float | None = _at_least(0.0)  # after which `crh-train gc` thins the checkpoints; null: never
    progress: bool
    data_root: str | None  # the folder of the user's own data, for every source but data=mni152
    cache: str | None  # prepared arrays; null: the user's cache folder
    compilation_cache: bool  # compiled code is kept in the user's cache folder and used again; false: all is compiled


@dataclass(frozen=True, kw_only=True)
class DiagnosticsConfig:
    """What a run does about its continuity diagnoses. Part of its identity only where it acts."""

    act: bool  # stop where training diverges, lower the learning rate where it degrades or oscillates; else advise
    patience: int = _at_least(1)  # ends of epochs, one after another, that must ask for a lower learning rate
    factor: float = _between(0.0, 1.0)  # multiplies the learning rate
    minimum_factor: float = _between(0.0, 1.0)  # of the schedule's learning rate, that all changes together leave


PARTS: Mapping[str, Mapping[str, type]] = {
    "data": {
        "mni152": Mni152Config,
        "nifti": NiftiConfig,
        "nnunet": NnunetConfig,
        "bids": BidsConfig,
        "dicom": DicomConfig,
        "fastmri": FastmriConfig,
        "images": ImagesConfig,
    },
    "task": {
        "reconstruction": ReconstructionConfig,
        "denoising": DenoisingConfig,
        "super_resolution": SuperResolutionConfig,
        "tissue": TissueConfig,
        "segmentation": SegmentationConfig,
        "classification": ClassificationConfig,
        "paired": PairedConfig,
    },
    "tokenizer": {"intensity": IntensityTokenizerConfig, "chromatic": ChromaticTokenizerConfig},
    "augmentation": {"standard": AugmentationConfig, "medical": MedicalAugmentationConfig},
    "model": {"mlp": MlpConfig, "cnn": CnnConfig, "unet": UnetConfig, "unet3d": Unet3dConfig, "gru": GruConfig},
    "loss": {
        "mse": MseConfig,
        "l1": L1Config,
        "cross_entropy": CrossEntropyConfig,
        "dice_cross_entropy": DiceCrossEntropyConfig,
        "structural": StructuralConfig,
        "chromatic_coherence": ChromaticCoherenceConfig,
        "temporal_smoothness": TemporalSmoothnessConfig,
    },
    "optimizer": {
        "sgd": SgdConfig,
        "adam": AdamConfig,
        "rmsprop": RmspropConfig,
        "chromatic_sgd": ChromaticSgdConfig,
    },
    "scheduler": {
        "linear_decay": LinearDecayConfig,
        "cosine_annealing": CosineAnnealingConfig,
        "step_decay": StepDecayConfig,
    },
    "determinism": {"portable": PortableConfig, "native": NativeConfig},
}
"""Each group of `conf/` and the schema of each of its built-in choices."""

SECTIONS: Mapping[str, type] = {"engine": EngineConfig, "diagnostics": DiagnosticsConfig, "runtime": RuntimeConfig}
"""The parts of a configuration that are no choice."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole configuration. The parts' types are those of `PARTS`; third parties may bring more."""

    data: Any
    task: Any
    tokenizer: Any
    augmentation: Any
    model: Any
    loss: Any
    optimizer: Any
    scheduler: Any
    determinism: Any
    engine: EngineConfig
    diagnostics: DiagnosticsConfig
    runtime: RuntimeConfig


def nearest(name: str, known: list[str]) -> str:
    """` (did you mean 'x'?)`, or the list of what there is, for the end of an error message."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"


def check_ranges(part: Any, path: str) -> None:
    """Raise `ConfigError` for a field outside what its schema allows, lists element by element."""
    for spec in dataclasses.fields(part):
        value = getattr(part, spec.name)
        where = f"{path}.{spec.name}"
        for element in value if isinstance(value, list) else [value]:
            _check_element(element, spec.metadata, where)
        if isinstance(value, list):
            _check_list(value, spec.metadata, where)


def _check_list(values: list[Any], allowed: Mapping[str, Any], where: str) -> None:
    if "length" in allowed and len(values) != allowed["length"]:
        raise ConfigError(f"{where} must be {allowed['length']} numbers, got {values}")
    if "ascending" in allowed:
        low, high = values
        # By more than float32 rounds away, and no more than it holds.
        if not 1e-6 * max(abs(low), abs(high)) < high - low <= _LARGEST_FLOAT32:
            raise ConfigError(f"{where} must be two ascending numbers such as [-160, 240], got {values}")


def require_range(path: str, bounds: list[float]) -> tuple[float, float]:
    """The two numbers of a range. Raise `ConfigError` unless they are two, the smaller one first."""
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise ConfigError(f"{path} must be [smallest, largest], got {bounds}")
    return bounds[0], bounds[1]


def _check_element(value: Any, allowed: Mapping[str, Any], where: str) -> None:
    if value is None:  # only where the schema's type allows it
        return
    if isinstance(value, float) and not abs(value) <= _LARGEST_FLOAT32:  # nan compares false
        raise ConfigError(f"{where} must be a finite float32 number, got {value}")
    if "choices" in allowed and value not in allowed["choices"]:
        raise ConfigError(f"{where}={value!r} is unknown: {nearest(str(value), list(allowed['choices']))}")
    if "minimum" in allowed and value < allowed["minimum"]:
        raise ConfigError(f"{where} must be at least {allowed['minimum']}, got {value}")
    if "maximum" in allowed and value > allowed["maximum"]:
        raise ConfigError(f"{where} must be at most {allowed['maximum']}, got {value}")
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise ConfigError(f"{where} must be at most {_LARGEST_INTEGER} in magnitude, got {value}")


def semantic(config: RunConfig) -> dict[str, Any]:
    """What of a configuration decides the bits, as JSON: all but `runtime`, the seed, and diagnostics that only advise.

    The seed stands beside the configuration hash in a run's identity, so that runs of one configuration over
    several seeds share that hash.
    """
    document = dataclasses.asdict(config)
    del document["runtime"]
    del document["engine"]["seed"]
    if not config.diagnostics.act:
        del document["diagnostics"]
    return document
