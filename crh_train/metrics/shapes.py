"""Metrics of a prediction and a target refuse two shapes: broadcasting one against the other would give a number, and a
wrong one.
"""

from typing import Any

from crh_train.errors import UsageError


def require_same_shape(prediction: Any, target: Any) -> None:
    if prediction.shape != target.shape:
        raise UsageError(
            f"a metric expects prediction and target of one shape, got {list(prediction.shape)} and "
            f"{list(target.shape)}: bring the model's output to the target's shape"
        )
