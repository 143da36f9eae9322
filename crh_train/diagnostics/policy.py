"""What a run that may act (`diagnostics.act`) does about its diagnoses. A pure function of them, so that a replay, a
resumed run and every process of a run do the same; changing it changes such runs, so raise `SEMANTICS_VERSION`.

At the ends of epochs where there is a diagnosis, `patience` of them one after another:

- divergent: the run stops. It is finished with the steps that it has, validated and reported.
- divergent, degrading or oscillatory: the learning rate is multiplied by `factor` from the next step on, all changes
  together never to less than `minimum_factor`. Only diagnoses whose long window lies after the last change count, so
  that a change is judged by what came of it; and of the last two, only those of at least `CONFIDENT`: one outlier makes
  a slope, but explains nothing by it.
"""

import dataclasses
from typing import Any, NamedTuple

from crh_train.config import DiagnosticsConfig, check_ranges
from crh_train.diagnostics.classes import Class, Diagnosis
from crh_train.diagnostics.measures import LONG
from crh_train.errors import ConfigError
from crh_train.shape import misfit

CONFIDENT = 0.25

ADVICE_ONLY = DiagnosticsConfig(act=False, patience=1, factor=1.0, minimum_factor=1.0)
"""Of a stored configuration without the section, which a run that does not act has no use for."""


class Course(NamedTuple):
    """What was done about the diagnoses so far."""

    learning_rate_factor: float = 1.0
    divergent: int = 0  # diagnoses, one after another, that say so
    troubled: int = 0  # diagnoses, one after another, that ask for a lower learning rate
    changed_at: int = 0  # the step after which the learning rate was changed last
    stopped: bool = False


def parsed(config: Any) -> DiagnosticsConfig:
    """The section of a stored semantic configuration. Raises `ConfigError`."""
    if "diagnostics" not in config:
        return ADVICE_ONLY
    section = config["diagnostics"]
    shape = {field.name: object for field in dataclasses.fields(DiagnosticsConfig)}
    if (message := misfit(section, shape, "diagnostics")) is not None:
        raise ConfigError(message)
    numbers = [section[name] for name in ("factor", "minimum_factor")]
    if (
        section["act"] is not True
        or type(section["patience"]) is not int
        or not all(type(number) in (int, float) for number in numbers)  # canonical JSON writes 1.0 as 1
    ):
        raise ConfigError(f"diagnostics: expected act true, a whole patience and two factors, found {section}")
    factor, minimum = map(float, numbers)
    found = DiagnosticsConfig(act=True, patience=section["patience"], factor=factor, minimum_factor=minimum)
    check_ranges(found, "diagnostics")
    return found


def decide(course: Course, diagnosis: Diagnosis, policy: DiagnosticsConfig) -> Course:
    """The course after a diagnosis at the end of an epoch."""
    if not policy.act or course.stopped:
        return course
    divergent = diagnosis.kind is Class.DIVERGENT
    course = course._replace(divergent=course.divergent + 1 if divergent else 0)
    if course.divergent >= policy.patience:
        return course._replace(stopped=True)
    if diagnosis.step < course.changed_at + LONG:
        return course
    uneasy = diagnosis.kind in (Class.DEGRADING, Class.OSCILLATORY) and diagnosis.confidence >= CONFIDENT
    course = course._replace(troubled=course.troubled + 1 if divergent or uneasy else 0)
    lower = max(course.learning_rate_factor * policy.factor, policy.minimum_factor)
    if course.troubled < policy.patience or lower >= course.learning_rate_factor:
        return course
    return course._replace(learning_rate_factor=lower, troubled=0, changed_at=diagnosis.step)
