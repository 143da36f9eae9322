"""What a run that may act does: when it stops, when it lowers its learning rate, and when it waits."""

from typing import Any

import pytest

from crh_train.config import DiagnosticsConfig
from crh_train.diagnostics.classes import Action, Class, Diagnosis
from crh_train.diagnostics.measures import LONG
from crh_train.diagnostics.policy import ADVICE_ONLY, CONFIDENT, Course, decide, parsed
from crh_train.errors import ConfigError

POLICY = DiagnosticsConfig(act=True, patience=2, factor=0.5, minimum_factor=0.2)
BAD, WAVES, GOOD, LOST = Class.DEGRADING, Class.OSCILLATORY, Class.IMPROVING, Class.DIVERGENT


def course(*kinds: Class | tuple[Class, float], every: int = LONG, policy: DiagnosticsConfig = POLICY) -> list[Course]:
    """After each of these diagnoses, `every` steps apart, the first after `LONG` steps."""
    found, after = Course(), []
    for number, kind in enumerate(kinds):
        named, confidence = kind if isinstance(kind, tuple) else (kind, 1.0)
        found = decide(found, Diagnosis(LONG + number * every, {}, named, Action.HOLD, confidence), policy)
        after.append(found)
    return after


def factors(*kinds: Class | tuple[Class, float], **options: Any) -> list[float]:
    return [each.learning_rate_factor for each in course(*kinds, **options)]


def test_the_learning_rate_is_lowered_after_patience_and_never_below_the_minimum() -> None:
    assert factors(BAD, WAVES, WAVES, BAD, BAD, BAD, BAD, BAD) == [1, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]
    assert factors(BAD, BAD, policy=POLICY.__class__(act=True, patience=1, factor=0.5, minimum_factor=0.2)) == [
        0.5,
        0.25,
    ]


def test_a_good_diagnosis_and_an_uncertain_one_begin_the_count_anew() -> None:
    assert factors(BAD, GOOD, BAD, BAD) == [1, 1, 1, 0.5]
    assert factors(BAD, (BAD, CONFIDENT - 0.01), BAD, (BAD, CONFIDENT)) == [1, 1, 1, 0.5]


def test_a_change_is_judged_only_by_steps_after_it() -> None:
    assert factors(*[BAD] * 7, every=LONG // 2) == [1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert [each.changed_at for each in course(BAD, BAD)] == [0, 2 * LONG]


def test_a_run_that_diverges_again_and_again_stops_for_good() -> None:
    assert [each.stopped for each in course(LOST, GOOD, LOST, LOST, GOOD)] == [False, False, False, True, True]
    assert factors(LOST, LOST) == [1, 1]
    assert factors(BAD, LOST, LOST) == [1, 0.5, 0.5]
    assert course(BAD, LOST, LOST)[-1].stopped


def test_advice_changes_nothing() -> None:
    for kinds in ([BAD] * 5, [LOST] * 5):
        assert course(*kinds, policy=ADVICE_ONLY)[-1] == Course()


def test_a_stored_section_is_what_was_configured() -> None:
    assert parsed({}) == ADVICE_ONLY
    section = {"act": True, "patience": 2, "factor": 0.5, "minimum_factor": 0.2}
    assert parsed({"diagnostics": section}) == POLICY
    assert parsed({"diagnostics": {**section, "factor": 1}}).factor == 1.0


@pytest.mark.parametrize(
    "changes", [{"act": False}, {"patience": 0}, {"patience": True}, {"factor": "1"}, {"factor": 2}, {"more": 1}]
)
def test_another_section_is_refused(changes: dict[str, Any]) -> None:
    section = {"act": True, "patience": 2, "factor": 0.5, "minimum_factor": 0.2, **changes}
    with pytest.raises(ConfigError, match="diagnostics"):
        parsed({"diagnostics": section})
    with pytest.raises(ConfigError, match="diagnostics"):
        parsed({"diagnostics": [section]})
