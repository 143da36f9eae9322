"""What the tasks share whose input is made from the image that is their target."""

from crh_train.errors import ConfigError
from crh_train.types import Layout


def require_one_channel(task: str, layout: Layout) -> None:
    """Raise ConfigError for a source whose images have several channels."""
    if layout.channels > 1:
        raise ConfigError(
            f"task={task} takes images of one channel, the source's have {layout.channels}; choose task=paired "
            "for a source that gives input and target, such as data=fastmri"
        )
