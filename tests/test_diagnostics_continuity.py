"""The diagnoses along a chronicle: when they are made, and that they are the same wherever one begins."""

import json

import numpy as np
from diagnostics_samples import make_records
from hypothesis import given
from hypothesis import strategies as st

from crh_train.config import DiagnosticsConfig
from crh_train.diagnostics.continuity import CADENCE, Continuity, follow
from crh_train.diagnostics.measures import LONG
from crh_train.diagnostics.policy import ADVICE_ONLY

ACTS = DiagnosticsConfig(act=True, patience=1, factor=0.5, minimum_factor=0.01)
SWINGING = make_records(1 + 0.1 * np.cos(2 * np.pi * 8 * np.arange(150) / LONG))
EXPLODING = make_records(np.exp(np.arange(60) / 6))


@given(st.integers(1, 150), st.integers(0, 150))
def test_a_diagnosis_is_made_at_a_cadence_and_at_each_epochs_end(per_epoch: int, steps: int) -> None:
    _, entries = follow(Continuity(per_epoch, ADVICE_ONLY), SWINGING[:steps])
    due = [step for step in range(LONG, steps + 1) if step % CADENCE == 0 or step % per_epoch == 0]
    assert [entry.diagnosis.step for entry in entries] == due
    assert all((entry.change, entry.learning_rate_factor) == (None, 1) for entry in entries)


@given(st.integers(0, 150), st.integers(1, 40))
def test_it_goes_on_from_anywhere(cut: int, per_epoch: int) -> None:
    whole, entries = follow(Continuity(per_epoch, ACTS), SWINGING)
    middle, first = follow(Continuity(per_epoch, ACTS), SWINGING[:cut])
    end, last = follow(middle, SWINGING[cut:])
    assert (end, first + last) == (whole, entries)


def test_what_is_done_is_done_at_an_epochs_end() -> None:
    _, entries = follow(Continuity(20, ACTS), SWINGING)
    assert [(entry.diagnosis.step, entry.learning_rate_factor) for entry in entries if entry.change == "lower"] == [
        (40, 0.5),
        (80, 0.25),
        (120, 0.125),
    ]
    _, entries = follow(Continuity(20, ACTS), EXPLODING)
    assert [(entry.diagnosis.step, entry.change) for entry in entries if entry.change is not None] == [(40, "stop")]


def test_a_line_is_canonical_json_with_every_number() -> None:
    lost = make_records(np.full(LONG, np.nan))
    for records in (SWINGING[:LONG], lost):
        _, (entry,) = follow(Continuity(1, ADVICE_ONLY), records)
        line = entry.line()
        assert line.endswith(b"}\n")
        assert json.loads(line) == json.loads(json.dumps(entry.document()))
        assert json.loads(line)["series"]["loss"]["measures"] is None or records is not lost
