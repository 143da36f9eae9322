"""Input and target that the source brings along, such as data=fastmri: zero-filled and fully sampled images."""

from jax import Array

from crh_train.config import PairedConfig
from crh_train.errors import ConfigError
from crh_train.types import Layout, Task


def make(config: PairedConfig, layout: Layout) -> Task:
    """Input: the first half of the channels. Target: the second half, in the same order.

    Raises:
      ConfigError: a source of an odd number of channels.
    """
    if layout.channels % 2:
        raise ConfigError(
            f"task={config.name} takes a source of an even number of channels, input and target, such as data=fastmri; "
            f"this one has {layout.channels}: choose task=reconstruction, task=denoising or task=super_resolution"
        )
    half = layout.channels // 2

    def pair(image: Array, label: Array | None) -> tuple[Array, Array]:
        source, target = image[..., :half], image[..., half:]
        return (source[..., 0], target[..., 0]) if half == 1 else (source, target)

    return Task(pair, classes=0, channels=half)
