"""How metrics are named and written for people."""

from typing import Any

import numpy as np

BASELINE = "baseline_"
_LABELS = {
    "loss": "Loss",
    "mse": "MSE",
    "psnr": "PSNR",
    "nmse": "NMSE",
    "ssim": "SSIM",
    "accuracy": "Accuracy",
    "f1": "F1",
    "dice": "Dice",
    "hd95": "HD95",
    "auc": "AUC",
    "ece": "Calibration error",
}
FORMATS = {
    "psnr": "{:{sign}.2f} dB",
    "hd95": "{:{sign}.2f} mm",
    **dict.fromkeys(("ssim", "accuracy", "f1", "dice", "auc", "ece"), "{:{sign}.4f}"),
}


def label(name: str) -> str:
    """The metric's name; of one class's part of a metric, such as dice_2, with the class."""
    if name.startswith(BASELINE):
        return f"{label(name.removeprefix(BASELINE))} of the input"
    whole, _, k = name.rpartition("_")
    if whole in _LABELS and k.isdigit():
        return f"{_LABELS[whole]} of class {k}"
    return _LABELS[name] if name in _LABELS else name


def written(name: str, value: Any) -> str:
    name = name.removeprefix(BASELINE)
    whole, _, k = name.rpartition("_")
    name = whole if k.isdigit() else name
    if isinstance(value, float | np.floating):
        return FORMATS[name].format(value, sign="") if name in FORMATS else format(value, "#.4g")
    return str(value)
