"""Run configurations: the typed schema, and what of it is a run's identity. No Hydra, no JAX.

Every field is a choice that `conf/` writes out; nothing has a default here, so that one look into `conf/` shows what
a run does. A part (model, loss, …) is one of several dataclasses, picked by its `name`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crh_train.config.checks import check_ranges, nearest, require_range
from crh_train.config.data import (
    BidsConfig,
    CasesConfig,
    DataConfig,
    DicomConfig,
    FastmriConfig,
    ImagesConfig,
    Mni152Config,
    NiftiConfig,
    NnunetConfig,
)
from crh_train.config.engine import DiagnosticsConfig, EngineConfig, NativeConfig, PortableConfig, RuntimeConfig
from crh_train.config.loss import (
    ChromaticCoherenceConfig,
    CrossEntropyConfig,
    DiceCrossEntropyConfig,
    L1Config,
    MseConfig,
    StructuralConfig,
    TemporalSmoothnessConfig,
)
from crh_train.config.model import CnnConfig, GruConfig, MlpConfig, ModelConfig, Unet3dConfig, UnetConfig
from crh_train.config.optimizer import (
    AdamConfig,
    ChromaticSgdConfig,
    CosineAnnealingConfig,
    LinearDecayConfig,
    RmspropConfig,
    SgdConfig,
    StepDecayConfig,
)
from crh_train.config.task import (
    AugmentationConfig,
    ChromaticTokenizerConfig,
    ClassificationConfig,
    DenoisingConfig,
    IntensityTokenizerConfig,
    MedicalAugmentationConfig,
    PairedConfig,
    ReconstructionConfig,
    SegmentationConfig,
    SuperResolutionConfig,
    TissueConfig,
)

__all__ = [
    "PARTS",
    "SECTIONS",
    "AdamConfig",
    "AugmentationConfig",
    "BidsConfig",
    "CasesConfig",
    "ChromaticCoherenceConfig",
    "ChromaticSgdConfig",
    "ChromaticTokenizerConfig",
    "ClassificationConfig",
    "CnnConfig",
    "CosineAnnealingConfig",
    "CrossEntropyConfig",
    "DataConfig",
    "DenoisingConfig",
    "DiagnosticsConfig",
    "DiceCrossEntropyConfig",
    "DicomConfig",
    "EngineConfig",
    "FastmriConfig",
    "GruConfig",
    "ImagesConfig",
    "IntensityTokenizerConfig",
    "L1Config",
    "LinearDecayConfig",
    "MedicalAugmentationConfig",
    "MlpConfig",
    "Mni152Config",
    "ModelConfig",
    "MseConfig",
    "NativeConfig",
    "NiftiConfig",
    "NnunetConfig",
    "PairedConfig",
    "PortableConfig",
    "ReconstructionConfig",
    "RmspropConfig",
    "RunConfig",
    "RuntimeConfig",
    "SegmentationConfig",
    "SgdConfig",
    "StepDecayConfig",
    "StructuralConfig",
    "SuperResolutionConfig",
    "TemporalSmoothnessConfig",
    "TissueConfig",
    "Unet3dConfig",
    "UnetConfig",
    "check_ranges",
    "nearest",
    "require_range",
    "semantic",
]

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
