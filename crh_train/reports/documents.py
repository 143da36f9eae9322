"""JSON for machines that people can read too: sorted keys, indented, exact float32 values. Strict JSON throughout."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def indented_json(value: Any) -> bytes:
    """`value` as UTF-8 JSON with sorted keys and a final newline.

    A float32 becomes the shortest text that reads back as the same float32, a non-finite float the chronicle's
    string for it, "NaN", "Infinity" or "-Infinity".
    """
    return (json.dumps(_plain(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(element) for element in value]
    if isinstance(value, np.float32):
        # NumPy prints the shortest decimal of a float32; as a float64 that decimal is its own shortest one.
        value = float(str(value))
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
