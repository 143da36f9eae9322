"""`cases.npy` and its index `cases.json`: the slices of the best, the median and the worst held-out case as numbers, so
that they can be shown without the data and without JAX.
"""

import io

import numpy as np

from crh_train.reports.documents import indented_json
from crh_train.reports.inputs import ReportInputs

FORMAT = 1
ARRAYS = "cases.npy"


def render_arrays(inputs: ReportInputs) -> bytes:
    """float32 [panels, images, H, W]; classes are whole numbers."""
    buffer = io.BytesIO()
    stacked = np.stack([np.stack(list(panel.images.values())) for panel in inputs.held_out.panels])
    np.save(buffer, np.ascontiguousarray(stacked, "<f4"), allow_pickle=False)
    return buffer.getvalue()


def render_index(inputs: ReportInputs) -> bytes:
    """One entry for each panel of the array, in its order."""
    panels = inputs.held_out.panels
    return indented_json(
        {
            "format": FORMAT,
            "run_hash": inputs.run_hash,
            "arrays": ARRAYS if panels else None,
            "axes": ["panel", "image", "row", "column"],
            "images": list(panels[0].images) if panels else [],
            "classes": inputs.classes,
            "panels": [
                {
                    "title": f"{panel.case} · slice {panel.slice} · {', '.join(panel.chosen)} by {panel.metric}",
                    "case": panel.case,
                    "slice": panel.slice,
                    "metric": panel.metric,
                    "chosen": panel.chosen,
                    "scores": panel.scores,
                }
                for panel in panels
            ],
        }
    )
