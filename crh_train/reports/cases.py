"""`cases.png`: what the model made of a few held-out slices."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from crh_train.reports import canvas
from crh_train.reports.inputs import ReportInputs

_MARGIN, _GAP, _HEADER, _TITLE, _ROW_GAP, _BAR, _FOOTER = 0.35, 0.12, 0.6, 0.3, 0.15, 0.13, 0.75
_INSET = 0.2
_ROBUST = 99.5  # percentile of the errors at which their scale ends, so that one pixel does not darken all others


class _Scale(NamedTuple):
    """What one or several neighbouring columns share: their colours, and what explains these below."""

    columns: tuple[int, ...]
    colours: Colormap
    values: Normalize
    caption: str
    ticks: Sequence[float] | None = None  # None: where matplotlib finds them
    extend: str = "neither"  # "max" where values beyond the end are shown as its end
    swatch: str | None = None  # a single colour to explain instead of the whole scale


def render(inputs: ReportInputs) -> bytes:
    """One row a case: input, reconstruction, target, absolute error; PNG.

    Grey values share one range; so do the errors, up to their 99.5th percentile. For classes: input, predicted and
    true class, and the pixels in which these differ.
    """
    slices = np.stack([np.stack(images) for _, images in inputs.cases]).astype(np.float32)  # [cases, 3, H, W]
    source, output, target = (slices[:, index] for index in range(3))
    if inputs.classes:
        labels = ("input", "predicted class", "true class", "where they differ")
        last = np.where(output == target, source, np.float32(np.nan))  # drawn in the colour of what is no number
        scales = _class_scales(source, float(np.mean(output != target)), inputs.classes)
    else:
        labels = ("input", "reconstruction", "target", "absolute error")
        with np.errstate(invalid="ignore"):
            last = np.abs(output - target)
        scales = _image_scales(target, last)
    panels = np.concatenate([slices, last[:, None]], axis=1)  # [cases, 4, H, W]

    width = (canvas.WIDTH - 2 * _MARGIN - 3 * _GAP) / 4
    height = width * panels.shape[2] / panels.shape[3]
    lefts = [_MARGIN + column * (width + _GAP) for column in range(4)]
    row_height = _TITLE + height + _ROW_GAP
    bars = _HEADER + row_height * len(panels)
    with canvas.style():
        figure = Figure(figsize=(canvas.WIDTH, bars + _FOOTER), dpi=canvas.DPI)
        for left, label in zip(lefts, labels, strict=True):
            canvas.write(figure, left + width / 2, _HEADER - 0.14, label, ha="center", fontsize=12.0, fontweight="bold")
        for row, (title, _) in enumerate(inputs.cases):
            top = _HEADER + row * row_height
            canvas.write(figure, _MARGIN, top + _TITLE - 0.09, title, fontsize=10.5)
            for scale in scales:
                for column in scale.columns:
                    axes = canvas.place(figure, lefts[column], top + _TITLE, width, height)
                    axes.set_axis_off()
                    axes.imshow(panels[row, column], scale.colours, scale.values, interpolation="nearest")
        for scale in scales:
            left, right = lefts[scale.columns[0]], lefts[scale.columns[-1]] + width
            _explain(canvas.place(figure, left + _INSET, bars + 0.05, right - left - 2 * _INSET, _BAR), scale)
        return canvas.png(figure)


def _explain(axes: Axes, scale: _Scale) -> None:
    if scale.swatch is not None:
        axes.set_axis_off()
        axes.legend([Patch(color=scale.swatch)], [scale.caption], loc="upper center", handlelength=1.0, borderpad=0)
        return
    bar = axes.figure.colorbar(
        ScalarMappable(scale.values, scale.colours),
        cax=axes,
        orientation="horizontal",
        ticks=scale.ticks,
        extend=scale.extend,
        extendfrac=0.03,
    )
    bar.outline.set_linewidth(0.6)
    bar.minorticks_off()
    bar.ax.tick_params(length=3, labelsize=9.5)
    bar.set_label(scale.caption, fontsize=10.0, labelpad=3)


def _image_scales(target: np.ndarray, errors: np.ndarray) -> list[_Scale]:
    largest = _finite_percentile(errors, 100.0)
    top = _finite_percentile(errors, _ROBUST) or largest or 1.0
    return [
        _Scale((0, 1, 2), colormaps["gray"], Normalize(*_range(target)), "intensity"),
        _Scale(
            (3,),
            colormaps["inferno"],
            Normalize(0, top),
            "|reconstruction − target|",
            extend="max" if largest > top else "neither",
        ),
    ]


def _class_scales(source: np.ndarray, differing: float, classes: int) -> list[_Scale]:
    intensity = Normalize(*_range(source))
    categories = BoundaryNorm(np.arange(classes + 1) - 0.5, classes)
    pale = ListedColormap(np.linspace(1.0, 0.75, 256)[:, None].repeat(3, axis=1)).with_extremes(bad=canvas.ORANGE)
    return [
        _Scale((0,), colormaps["gray"], intensity, "intensity"),
        _Scale((1, 2), colormaps["viridis"].resampled(classes), categories, "class", ticks=range(classes)),
        _Scale((3,), pale, intensity, f"differs: {differing:.2%} of pixels", swatch=canvas.ORANGE),
    ]


def _range(values: np.ndarray) -> tuple[float, float]:
    low, high = _finite_percentile(values, 0.0), _finite_percentile(values, 100.0)
    return (low, high) if low < high else (low, low + 1.0)


def _finite_percentile(values: np.ndarray, percent: float) -> float:
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, percent)) if finite.size else 0.0
