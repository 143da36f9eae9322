"""The pictures of the reports: pixels and nothing else, scales that hide nothing, and no run that cannot be drawn."""

import io
import math
import struct

import numpy as np
import pytest
from report_samples import made_up_inputs, made_up_records

from crh_train.reports import (
    ReportInputs,
    build,
    canvas,
    cases,
    curves,
)
from crh_train.reports.training_metrics import (
    epoch_summaries,
)


def _chunks(png: bytes) -> dict[str, bytes]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found, position = {}, 8
    while position < len(png):
        size, kind = struct.unpack_from(">I4s", png, position)
        found[kind.decode()] = png[position + 8 : position + 8 + size]
        position += size + 12
    return found


@pytest.mark.parametrize("classes", [0, 3])
def test_pictures_hold_pixels_and_nothing_else(classes):
    files = build(made_up_inputs(classes))
    for name in ("cases.png", "curves.png"):
        chunks = _chunks(files[name])
        assert set(chunks) == {"IHDR", "pHYs", "IDAT", "IEND"}
        assert struct.unpack(">I", chunks["IHDR"][:4]) == (1600,)


def test_letters_are_from_the_font_that_matplotlib_brings():
    import matplotlib
    from matplotlib import font_manager

    assert font_manager.findfont(canvas.FONT, fallback_to_default=False).startswith(matplotlib.get_data_path())


def _panels(inputs: ReportInputs) -> list[np.ndarray]:
    """The pixels, [h, w, 3], of the four columns of the only case, a little inside their edges."""
    from matplotlib.image import imread

    pixels = imread(io.BytesIO(cases.render(inputs)))[:, :, :3]
    ((_, images),) = inputs.cases
    width = (canvas.WIDTH - 2 * cases._MARGIN - 3 * cases._GAP) / 4
    height = width * images[0].shape[0] / images[0].shape[1]
    top = cases._HEADER + cases._TITLE
    lefts = [cases._MARGIN + column * (width + cases._GAP) for column in range(4)]
    inch, inside = canvas.DPI, 0.02
    rows = slice(round((top + inside) * inch), round((top + height - inside) * inch))
    return [pixels[rows, round((left + inside) * inch) : round((left + width - inside) * inch)] for left in lefts]


def test_images_share_the_targets_grey_scale_and_errors_have_their_own():
    target = np.zeros((20, 20), np.float32)
    target[:, 10:] = 1.0
    source, output = np.full_like(target, 0.5), target.copy()
    output[:10] += 0.01
    shown = _panels(made_up_inputs(cases=[("one", (source, output, target))]))
    assert np.all(np.abs(shown[0] - 0.5) < 0.01)
    assert np.all(shown[1][:, 0] < 0.02)
    assert np.all(shown[2][:, 0] == 0)
    assert np.all(shown[2][:, -1] == 1)
    assert shown[3][0].min() > 0.6  # the smallest error that there is, at the bright end
    assert shown[3][-1].max() < 0.02


def test_a_single_wrong_pixel_is_seen():
    image = np.full((40, 40), 0.5, np.float32)
    spoiled = image.copy()
    spoiled[7, 9] = 0.51
    assert _panels(made_up_inputs(cases=[("one", (image, spoiled, image))]))[3].max() > 0.9
    classes = np.zeros_like(image)
    other = classes.copy()
    other[7, 9] = 1.0
    spot = _panels(made_up_inputs(3, cases=[("one", (image, other, classes))]))[3]
    share = np.mean(spot.max(axis=2) - spot.min(axis=2) > 0.5)  # orange; all else is grey
    assert 0.5 < share * image.size < 1.5


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ([1, 10], True),
        ([1, 9.9], False),
        ([0, 10], False),
        ([-1, 10], False),
        ([1, 2, math.inf, math.nan], False),
        ([1, 10, math.nan, -math.inf], True),
        ([math.nan], False),
    ],
)
def test_only_positive_numbers_over_a_decade_get_a_logarithmic_axis(values, answer):
    assert curves.spans_a_decade(np.array(values, np.float32)) is answer


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (130, 1)])
def test_curves_of_very_short_and_very_long_runs(epochs, steps):
    records = made_up_records(epochs, steps)
    assert _chunks(curves.render(made_up_inputs(records=records), epoch_summaries(records)))


def test_a_run_with_non_finite_or_zero_values_can_be_drawn():
    records = made_up_records(2, 3)
    records[1].loss = np.float32(np.inf)
    records[2].grad_norm = np.float32(np.nan)
    for record in records:
        record.lr = np.float32(0)
    assert _chunks(curves.render(made_up_inputs(records=records), epoch_summaries(records)))


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_flat_and_broken_images_and_odd_names_can_be_drawn(value, classes):
    flat = np.full((5, 4), value, np.float32)
    odd = r"$\frac{_$ %s 100% {"
    assert _chunks(cases.render(made_up_inputs(classes, cases=[(odd, (flat, flat, flat))])))
