"""Small chronicles for the tests of diagnoses."""

from collections.abc import Sequence

import numpy as np

from crh_train.chronicle import ChronicleRecord
from crh_train.diagnostics.measures import LONG

RISING = 0.2 + 0.02 * np.arange(LONG)
"""By 4 % of its mean a step."""


def make_records(
    loss: Sequence[float] | np.ndarray,
    coherence: Sequence[float] | np.ndarray | None = None,
    grad_norm: Sequence[float] | np.ndarray | None = None,
) -> list[ChronicleRecord]:
    """A chronicle of these series; those that are not given are at rest."""
    rest = np.full(len(loss), 0.5)
    columns = [np.float32(rest if column is None else column) for column in (loss, coherence, grad_norm)]
    return [
        ChronicleRecord(0, step - 1, a, b, np.float32(1e-3), c, float(step), step)
        for step, (a, b, c) in enumerate(zip(*columns, strict=True), 1)
    ]
