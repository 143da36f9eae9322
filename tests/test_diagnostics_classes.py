"""The tables from measures to classes and actions: each threshold, to the last bit."""

import math

import numpy as np
import pytest
from diagnostics_samples import RISING, make_records

from crh_train.diagnostics.classes import (
    ACTIONS,
    SERIES,
    Action,
    Class,
    classify,
    confidence,
    diagnose,
)
from crh_train.diagnostics.measures import LONG, Measures
from crh_train.diagnostics.reasons import ADVICE, reason

REST = Measures(0.0, 0.0, 0.0, 0.0, 0.5, 0.5)
UP = 1


def above(value: float) -> float:
    return math.nextafter(value, math.inf)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Class.STABLE),
        ({"long_slope": 0.01}, Class.STABLE),
        ({"long_slope": above(0.01)}, Class.IMPROVING),
        ({"long_slope": above(0.01), "oscillation_score": math.nextafter(0.02, 0)}, Class.IMPROVING),
        ({"long_slope": above(0.01), "oscillation_score": 0.02}, Class.OSCILLATORY),
        ({"oscillation_score": math.nextafter(0.02, 0)}, Class.STABLE),
        ({"oscillation_score": 0.02}, Class.OSCILLATORY),
        ({"long_slope": -0.01, "stdev": 1.0}, Class.STABLE),
        ({"long_slope": -above(0.01), "stdev": 0.005}, Class.STABLE),
        ({"long_slope": -above(0.01), "stdev": above(0.005)}, Class.DEGRADING),
        ({"long_slope": -above(0.01), "stdev": above(0.005), "oscillation_score": 1.0}, Class.DEGRADING),
        ({"long_slope": -0.05, "short_slope": -1.0, "stdev": 1.0}, Class.DEGRADING),
        ({"long_slope": -1.0, "short_slope": -0.05, "stdev": 1.0}, Class.DEGRADING),
        ({"long_slope": -above(0.05), "short_slope": -above(0.05), "stdev": 0.03}, Class.DEGRADING),
        ({"long_slope": -above(0.05), "short_slope": -above(0.05), "stdev": above(0.03)}, Class.DIVERGENT),
        ({"long_slope": 1.0, "short_slope": 1.0, "stdev": 1.0}, Class.IMPROVING),
    ],
)
def test_each_threshold_to_the_last_bit(changes: dict[str, float], expected: Class) -> None:
    measures = REST._replace(**changes)
    assert classify(measures, UP) is expected
    turned = measures._replace(short_slope=-measures.short_slope, long_slope=-measures.long_slope)
    assert classify(turned, -UP) is expected


def test_a_series_without_a_good_direction_is_divergent_oscillatory_or_stable() -> None:
    for slope in (-1.0, 1.0):
        assert classify(Measures(slope, slope, 9.0, 0.01, 1.0, 0.0), 0) is Class.STABLE
    assert classify(REST._replace(oscillation_score=0.02), 0) is Class.OSCILLATORY
    assert classify(None, 0) is Class.DIVERGENT


def test_the_tables_are_those_of_the_specification() -> None:
    assert {kind.name: int(kind) for kind in Class} == {
        "DEGRADING": -1,
        "STABLE": 0,
        "IMPROVING": 1,
        "OSCILLATORY": 2,
        "DIVERGENT": 3,
    }
    assert {action.name: int(action) for action in Action} == {"HOLD": 0, "RESET": 1, "ADJUST": 2, "RELEARN": 3}
    assert set(ACTIONS) == set(Class)
    assert set(ADVICE) == set(Action)


def test_confidence_is_certainty_or_a_share() -> None:
    assert confidence(None, Class.DIVERGENT, UP) == 1
    assert confidence(REST._replace(trend_share=0.25), Class.IMPROVING, UP) == 0.25
    assert confidence(REST._replace(peak_share=0.75), Class.OSCILLATORY, UP) == 0.75
    assert confidence(REST, Class.STABLE, UP) == 1
    assert confidence(REST._replace(long_slope=0.005, oscillation_score=0.015), Class.STABLE, UP) == 0.25
    assert confidence(REST._replace(long_slope=-0.1, short_slope=-0.2), Class.DIVERGENT, UP) == 0.5


# --- all series together -------------------------------------------------------------------------------------------

FALLING = RISING[::-1]
STILL = np.ones(LONG)
SWINGING = 1 + 0.1 * np.cos(2 * np.pi * 8 * np.arange(LONG) / LONG)
EXPLODING = np.exp(np.arange(LONG) / 6)
LOST = np.where(np.arange(LONG) < LONG - 1, 1.0, np.inf)


@pytest.mark.parametrize(
    ("series", "kind", "action", "words"),
    [
        ({}, Class.STABLE, Action.HOLD, "no series has a trend"),
        ({"loss": FALLING}, Class.IMPROVING, Action.HOLD, "the loss fell by "),
        ({"coherence": RISING}, Class.IMPROVING, Action.HOLD, "the coherence rose by "),
        ({"loss": RISING}, Class.DEGRADING, Action.ADJUST, "the loss rose by "),
        ({"loss": FALLING, "coherence": FALLING}, Class.DEGRADING, Action.ADJUST, "the coherence fell by "),
        ({"loss": SWINGING, "coherence": RISING}, Class.OSCILLATORY, Action.ADJUST, "the loss swings by ±"),
        ({"loss": SWINGING, "coherence": FALLING}, Class.DEGRADING, Action.ADJUST, "the coherence fell by "),
        ({"coherence": SWINGING / 2}, Class.OSCILLATORY, Action.ADJUST, "the coherence swings by ±0.0"),
        ({"grad_norm": SWINGING}, Class.STABLE, Action.HOLD, "no series has a trend"),
        ({"grad_norm": EXPLODING}, Class.STABLE, Action.HOLD, "no series has a trend"),
        ({"loss": EXPLODING}, Class.DIVERGENT, Action.RESET, "the loss rose by "),
        ({"loss": EXPLODING / 1e6}, Class.DIVERGENT, Action.RESET, "the loss rose by "),
        ({"grad_norm": LOST, "loss": FALLING}, Class.DIVERGENT, Action.RELEARN, "the gradient norm was not finite"),
        ({"loss": LOST}, Class.DIVERGENT, Action.RELEARN, "the loss was not finite in the last 32 steps"),
    ],
)
def test_the_worst_of_loss_and_coherence_makes_the_class(
    series: dict[str, np.ndarray], kind: Class, action: Action, words: str
) -> None:
    found = diagnose(make_records(**{**dict.fromkeys(SERIES, STILL), **series}))
    assert (found.kind, found.action) == (kind, action)
    assert reason(found).startswith(words)
    assert 0 <= found.confidence <= 1
    assert found.step == LONG
