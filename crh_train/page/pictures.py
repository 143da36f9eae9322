"""The slices of held-out cases as PNG in base64. The same arrays give the same bytes with the same versions of
matplotlib, whose colours these are, and Pillow, which writes the PNG.

Values are never interpolated: one value is one pixel, which the reader's browser enlarges.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crh_train.page.contents import Panel

_ROBUST = 99.5  # percentile of the errors at which their scale ends, so that one pixel does not darken all others
_LEVELS = 255  # one more is what is no number
_NO_NUMBER = (255, 0, 255)
_DIFFERS = (213, 94, 0)

Palette = Sequence[tuple[int, int, int]]
Pixels = NDArray[np.uint8]


class Scale(NamedTuple):
    """What colours mean: a bar of them from `low` to `high`."""

    bar: str  # PNG, one pixel high
    low: float
    high: float
    beyond: bool  # whether larger values are shown as the end of the scale


class Pictures(NamedTuple):
    images: Sequence[Mapping[str, str]]  # for each panel, name -> PNG in base64
    intensity: Scale
    error: Scale | None  # None: the error is where classes differ, or there is none
    classes: Sequence[str]  # colours as #rrggbb
    not_finite: bool  # whether some pixel is no number


def draw(panels: Sequence[Panel], classes: int) -> Pictures:
    """All panels with one scale for intensities and one for errors."""
    grey = [(level, level, level) for level in np.linspace(0, 255, _LEVELS).round().astype(int).tolist()]
    inferno, viridis = _colours("inferno", _LEVELS), _colours("viridis", max(classes, 1))
    compared = not classes and "target" in panels[0].images
    low, high = _percentiles([panel.images["target" if compared else "input"] for panel in panels], 0, 100)
    errors = [panel.images["error"] for panel in panels] if compared else []
    top, largest = _percentiles(errors, _ROBUST, 100)
    top = top or largest or 1.0
    drawn = []
    for panel in panels:
        made = {}
        for name, image in panel.images.items():
            if classes and name in ("output", "target"):
                made[name] = _png(_classes(image, classes), viridis)
            elif classes and name == "error":
                pale = [(200 + level // 5,) * 3 for level, _, _ in grey]
                source = _levels(panel.images["input"], low, high)
                made[name] = _png(np.where(image > 0, _LEVELS, np.minimum(source, _LEVELS - 1)), pale, _DIFFERS)
            elif name == "error":
                made[name] = _png(_levels(image, 0.0, top), inferno)
            else:
                made[name] = _png(_levels(image, low, high), grey)
        drawn.append(made)
    ramp = np.arange(_LEVELS, dtype=np.uint8)[None]
    return Pictures(
        images=drawn,
        intensity=Scale(_png(ramp, grey), low, high, False),
        error=Scale(_png(ramp, inferno), 0.0, top, largest > top) if errors else None,
        classes=["#{:02x}{:02x}{:02x}".format(*colour) for colour in viridis[:classes]],
        not_finite=not all(np.isfinite(image).all() for panel in panels for image in panel.images.values()),
    )


def _percentiles(images: Sequence[np.ndarray], low: float, high: float) -> tuple[float, float]:
    """Of all finite pixels; 0 and 0 where there is none."""
    finite = np.concatenate([image[np.isfinite(image)] for image in images]) if images else np.zeros(0)
    if not finite.size:
        return 0.0, 0.0
    return float(np.percentile(finite, low)), float(np.percentile(finite, high))


def _levels(image: np.ndarray, low: float, high: float) -> Pixels:
    with np.errstate(invalid="ignore", over="ignore"):
        share = (image.astype(np.float64) - low) / ((high - low) or 1.0)
        levels = np.clip(np.nan_to_num(share, posinf=1.0, neginf=0.0), 0, 1) * (_LEVELS - 1)
    return np.where(np.isfinite(image), np.rint(levels), _LEVELS).astype(np.uint8)


def _classes(image: np.ndarray, classes: int) -> Pixels:
    good = np.isfinite(image) & (image >= 0) & (image < classes)
    return np.where(good, image, _LEVELS).astype(np.uint8)


def _colours(name: str, count: int) -> list[tuple[int, int, int]]:
    from matplotlib import colormaps  # half a second

    table = colormaps[name].resampled(count)(np.arange(count))[:, :3]
    return [(int(red), int(green), int(blue)) for red, green, blue in np.rint(255 * table)]


def _png(pixels: np.ndarray, palette: Palette, last: tuple[int, int, int] = _NO_NUMBER) -> str:
    from PIL import Image

    image = Image.fromarray(pixels.astype(np.uint8), "P")
    padded = [*palette, *([(0, 0, 0)] * (_LEVELS - len(palette))), last]
    image.putpalette([channel for colour in padded for channel in colour])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=9)
    return base64.b64encode(buffer.getvalue()).decode()
