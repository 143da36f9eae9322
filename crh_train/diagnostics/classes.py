"""From measures to a class, and from a class to an action: fixed tables, each number compared as it is recorded.

Of a series for which up is good (the signs of slopes turn where down is good), in this order of precedence:

     3 divergent    a value is not finite; or both slopes < -0.05 and stdev > 0.03
    -1 degrading    long_slope < -0.01 and stdev > 0.005
     2 oscillatory  oscillation_score >= 0.02
     1 improving    long_slope > 0.01
     0 stable       else

Loss is good downwards, coherence upwards; the run's class is the first in this order that one of the two has. The
gradient norm has no good direction: it is oscillatory, stable, or divergent where it is not finite, and only the last
of these makes the run's class.

Numbers and classes are those of the related specifications, Diagnostics, slopes per step. There `slope` is not said
to be the short or the long one: the long one, whose error under noise is an eighth, decides; that training diverges
now, both must say.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from crh_train.chronicle import StepFields
from crh_train.diagnostics.measures import LONG, Measures, measure

SLOPE = 0.01
DEGRADING_STDEV = 0.005
OSCILLATION = 0.02
DIVERGENT_SLOPE = 0.05
DIVERGENT_STDEV = 0.03


class Class(IntEnum):
    DEGRADING = -1
    STABLE = 0
    IMPROVING = 1
    OSCILLATORY = 2
    DIVERGENT = 3


class Action(IntEnum):
    HOLD = 0  # go on as it is
    RESET = 1  # back to a checkpoint from before it began
    ADJUST = 2  # lower the learning rate
    RELEARN = 3  # begin again, otherwise


PRECEDENCE = (Class.DIVERGENT, Class.DEGRADING, Class.OSCILLATORY, Class.IMPROVING, Class.STABLE)

ACTIONS: Mapping[Class, Action] = {
    Class.STABLE: Action.HOLD,
    Class.IMPROVING: Action.HOLD,
    Class.OSCILLATORY: Action.ADJUST,
    Class.DEGRADING: Action.ADJUST,
    Class.DIVERGENT: Action.RESET,  # RELEARN where a value is not finite: then the state is lost too
}

SERIES: Mapping[str, int] = {"loss": -1, "coherence": 1, "grad_norm": 0}
"""The chronicle's series, and which way is good: 1 up, -1 down, 0 neither."""
FIXED_SCALE = ("coherence",)


class Finding(NamedTuple):
    """One series."""

    measures: Measures | None  # None: a value is not finite
    kind: Class
    confidence: float


class Diagnosis(NamedTuple):
    """All series after a step."""

    step: int
    findings: Mapping[str, Finding]  # by the names of `SERIES`
    kind: Class
    action: Action
    confidence: float  # in [0, 1]


def diagnose(window: Sequence[StepFields]) -> Diagnosis:
    """The diagnosis after the last of `LONG` steps."""
    assert len(window) == LONG
    findings = {}
    for name, good in SERIES.items():
        values: list[np.float32] = [getattr(fields, name) for fields in window]
        measures = measure(values, relative=name not in FIXED_SCALE)
        kind = classify(measures, good)
        findings[name] = Finding(measures, kind, confidence(measures, kind, good))
    heard = deciding(findings).values()
    kind = min((finding.kind for finding in heard), key=PRECEDENCE.index)
    found = [finding.confidence for finding in heard if finding.kind is kind]
    lost = any(finding.measures is None for finding in findings.values())
    return Diagnosis(
        step=window[-1].step,
        findings=findings,
        kind=kind,
        action=Action.RELEARN if lost else ACTIONS[kind],
        confidence=min(found) if kind is Class.STABLE else max(found),  # stable needs all of them, the others one
    )


def deciding(findings: Mapping[str, Finding]) -> Mapping[str, Finding]:
    """Those of which one makes the run's class."""
    return {name: each for name, each in findings.items() if SERIES[name] or each.kind is Class.DIVERGENT}


def classify(measures: Measures | None, good: int) -> Class:
    """The class of a series of which `good` says which way is good."""
    if measures is None:
        return Class.DIVERGENT
    short, long = good * measures.short_slope, good * measures.long_slope
    if short < -DIVERGENT_SLOPE and long < -DIVERGENT_SLOPE and measures.stdev > DIVERGENT_STDEV:
        return Class.DIVERGENT
    if long < -SLOPE and measures.stdev > DEGRADING_STDEV:
        return Class.DEGRADING
    if measures.oscillation_score >= OSCILLATION:
        return Class.OSCILLATORY
    return Class.IMPROVING if long > SLOPE else Class.STABLE


def confidence(measures: Measures | None, kind: Class, good: int) -> float:
    """How much of what the series does is what its class says, in [0, 1]: the share of its variance that the trend
    explains, or of its detrended variance that the oscillation does; for a stable one, how far it is from another class
    (1 at rest, 0 at a threshold); for a divergent one, how far its smaller slope is past the threshold. Certain where a
    value is not finite."""
    if measures is None:
        return 1.0
    if kind is Class.OSCILLATORY:
        return measures.peak_share
    if kind is Class.STABLE:
        nearest = max(abs(good * measures.long_slope) / SLOPE, measures.oscillation_score / OSCILLATION)
        return max(0.0, 1.0 - nearest)
    if kind is Class.DIVERGENT:
        return 1.0 - DIVERGENT_SLOPE / min(abs(measures.short_slope), abs(measures.long_slope))
    return measures.trend_share
