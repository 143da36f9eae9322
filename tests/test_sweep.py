"""Runs over seeds: which belong together, and their mean and standard deviation."""

import math
from typing import Any

import pytest

from crh_train.sweep import SUMMARISED, summarise
from crh_train.validator.conventions import CONVENTIONS


def result(seed: int, config: str = "c1", data: str = "d1", **metrics: Any) -> dict[str, Any]:
    return {
        "conf": "mri_step",
        "overrides": [f"engine.seed={seed}", "engine.epochs=3"],
        "config_hash": config,
        "dataset_state": data,
        "seed": seed,
        "validation": {**dict.fromkeys(SUMMARISED), **metrics},
    }


def test_no_runs_have_no_summary() -> None:
    assert summarise([]) == []


def test_the_spread_over_seeds_is_mean_and_sample_deviation() -> None:
    (group,) = summarise([result(seed, loss=loss) for seed, loss in ((0, 1.0), (1, 2.0), (4, 6.0))])
    assert group == {
        "conf": "mri_step",
        "overrides": ["engine.epochs=3"],
        "config_hash": "c1",
        "seeds": [0, 1, 4],
        "metrics": {"loss": {"mean": 3.0, "sd": pytest.approx(math.sqrt(7))}},
    }


def test_one_seed_has_no_deviation() -> None:
    (group,) = summarise([result(0, loss=1.5)])
    assert group["metrics"] == {"loss": {"mean": 1.5, "sd": None}}


def test_runs_of_another_configuration_or_other_data_are_another_group() -> None:
    results = [result(0), result(0, config="c2"), result(1), result(0, data="d2"), result(1, config="c2")]
    groups = summarise(results)
    assert [(group["config_hash"], group["seeds"]) for group in groups] == [("c1", [0, 1]), ("c2", [0, 1]), ("c1", [0])]


def test_a_metric_that_does_not_apply_or_is_not_finite_is_left_out() -> None:
    """Reports write a number that is not finite as text."""
    results = [result(0, loss=1.0, psnr="Infinity", nmse=0.5), result(1, loss=1.0, psnr=30.0, nmse="NaN")]
    (group,) = summarise(results)
    assert group["metrics"] == {"loss": {"mean": 1.0, "sd": 0.0}}


def test_what_is_summarised_is_what_validation_measures() -> None:
    assert set(SUMMARISED) <= set(CONVENTIONS)
