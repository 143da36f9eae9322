"""What MONAI makes of the samples of `tests/class_samples.py`, as JSON: `python scripts/monai_values.py >
tests/golden/monai.json`, in an environment of its own with monai and torch, which crh-train does not need.

A single slice is an image of two dimensions. A value is null where MONAI gives NaN. The background is left out of both
metrics.
"""

import json
import math
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from class_samples import CLASSES, SAMPLES, Sample


def main() -> None:
    warnings.simplefilter("ignore")  # MONAI warns of each empty mask
    made = {name: values(sample) for name, sample in SAMPLES.items()}
    document = {"versions": {name: version(name) for name in ("monai", "torch")}, "samples": made}
    print(json.dumps(document, indent=1, sort_keys=True))


def values(sample: Sample) -> dict[str, Any]:
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance

    flat = len(sample.target) == 1
    predicted, target = (
        torch.as_tensor(np.stack([classes == k for k in range(CLASSES)])[None].astype(np.float32))
        for classes in ((each[0] if flat else each) for each in (sample.predicted, sample.target))
    )
    dice = compute_dice(predicted, target, include_background=False)[0]
    spacing = list(sample.spacing[flat:])
    distance = compute_hausdorff_distance(predicted, target, include_background=False, percentile=95, spacing=spacing)[
        0
    ]
    return {"dice": [_json(x) for x in dice.tolist()], "hd95": [_json(x) for x in distance.tolist()]}


def _json(value: float) -> float | str | None:
    return None if math.isnan(value) else "Infinity" if math.isinf(value) else value


if __name__ == "__main__":
    main()
