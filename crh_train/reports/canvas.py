"""What all pictures of a run share: style, placement in inches, and PNG bytes.

Same values, same bytes: a fixed style whatever the user's matplotlibrc, matplotlib's own font, the Agg renderer
without pyplot's global state, and no metadata about software or time.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 10.0  # inches
DPI = 160  # 1600 pixels wide; letters stay legible at 1200

INK, MUTED, RULE = "#1f2328", "#59636e", "#d9dee3"  # of letters, axes and the lines between epochs
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # told apart by colour-blind readers (Okabe and Ito)
FONT = "DejaVu Sans"  # the one that matplotlib brings: its font manager lists its own files first
_STYLE: Mapping[Any, Any] = {
    "font.family": FONT,
    "font.size": 11.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "legend.frameon": False,
    "legend.fontsize": 10.0,
    "agg.path.chunksize": 20000,  # Agg refuses longer rough lines in one piece
}


@contextmanager
def style() -> Iterator[None]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", backend="agg", metadata={"Software": None})
    return buffer.getvalue()


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the figure's upper left corner."""
    total_width, total_height = figure.get_size_inches()
    box = (left / total_width, 1 - (top + height) / total_height, width / total_width, height / total_height)
    return figure.add_axes(box)


def write(figure: Figure, left: float, top: float, text: str, **options: Any) -> None:
    """Text at a place in inches; never read as TeX, since names of samples may hold any character."""
    total_width, total_height = figure.get_size_inches()
    figure.text(left / total_width, 1 - top / total_height, text, parse_math=False, **options)
