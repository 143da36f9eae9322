"""The image from undersampled k-space."""

from jax import Array

from crh_train.config import ReconstructionConfig
from crh_train.data import kspace
from crh_train.errors import ConfigError
from crh_train.tasks.images import require_one_channel
from crh_train.types import Layout, Task


def make(config: ReconstructionConfig, layout: Layout) -> Task:
    """Input: the zero-filled image of the sampled k-space columns. Target: the image, of one channel.

    Raises:
      ConfigError: no such sampling mask (`kspace.sampling_mask`), or several channels; when traced, images of other
        columns than the mask.
    """
    require_one_channel(config.name, layout)
    mask = kspace.sampling_mask(
        layout.columns, config.acceleration, config.center_fraction, config.mask, config.mask_seed
    )

    def pair(image: Array, label: Array | None) -> tuple[Array, Array]:
        if image.shape[-1] != layout.columns:
            raise ConfigError(
                f"task={config.name} samples the k-space of whole images of {layout.columns} columns, got "
                f"{image.shape[-1]}: set augmentation.patch=null"
            )
        return kspace.undersample(image, mask), image

    return Task(pair, classes=0)
