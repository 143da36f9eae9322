"""The self-check of `doctor`: one hash everywhere, and another where something is broken."""

import pytest
from training_samples import outputs, start_python

from crh_train import self_check
from crh_train.portable import portable

FOUND = "from crh_train import self_check; print(self_check.found())"


def test_every_environment_gives_the_bits_on_record() -> None:
    environments = (
        {},
        {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2", "PJRT_NPROC": "1"},
        {"XLA_FLAGS": "--xla_backend_optimization_level=0"},
    )
    found = outputs(*(start_python(FOUND, **variables) for variables in environments))
    assert found == [f"{self_check.GOLDEN}\n"] * len(environments)


@pytest.mark.parametrize("broken", [lambda function: function, lambda function: portable(function, digits=2)])
def test_other_arithmetic_gives_another_hash(monkeypatch: pytest.MonkeyPatch, broken) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(self_check, "portable", broken)
    assert self_check.found() != self_check.GOLDEN
