"""Which part of a prepared picture is image: `data.shape` crops what is larger and pads what is smaller."""

from collections.abc import Mapping, Sequence
from typing import Any

from crh_train.data import resizing
from crh_train.data.volume import AXES


def picture_size(known: Mapping[str, Any], preprocessing: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of a volume's pictures before they are cropped or padded.

    Args:
      known: the volume, as the manifest has it.
      preprocessing: the manifest's.
    """
    if preprocessing["name"] == "images":
        columns, rows, _ = known["original"]["shape"]
        return resizing.fitted(rows, columns, preprocessing["shape"]) if preprocessing["resize"] else (rows, columns)
    column_axis, row_axis = (axis for axis in range(3) if axis != AXES[preprocessing["axis"]])  # as `preparation.cut`
    factor = preprocessing["downsample"]
    return known["shape"][row_axis] // factor, known["shape"][column_axis] // factor


def inside(size: Sequence[int], shape: Sequence[int], least: int) -> tuple[slice, slice]:
    """Rows and columns of a picture of `shape` that are of the one of `size` in its middle (`preparation.crop_or_pad`),
    and so many more that at least `least` are left.
    """
    rows, columns = (_inside(max(found, least), whole) for found, whole in zip(size, shape, strict=True))
    return rows, columns


def _inside(size: int, whole: int) -> slice:
    before = max(whole - size, 0) // 2
    return slice(before, min(before + size, whole))
