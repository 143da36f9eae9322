"""Runs beside one another: which are averaged together, what differs, and which is best."""

import itertools
from typing import Any

import pytest

from crh_train.comparison import Result, compare
from crh_train.errors import UsageError


def result(seed: int, rate: float = 0.1, data: str = "d1", **metrics: Any) -> Result:
    parameters = {"engine.learning_rate": rate, "model.name": "cnn", "dataset_state": data, "made.scheduler": str(rate)}
    return Result(f"{seed}{rate}{data}", seed, parameters, {"psnr": None, "loss": 0.5, **metrics})


def test_runs_that_differ_in_the_seed_alone_are_one_group() -> None:
    found = compare([result(1, psnr=20.0), result(0, psnr=24.0)], [], None)
    (group,) = found.groups
    assert (group.seeds, group.parameters, found.parameters) == ((0, 1), {}, ())
    assert group.metrics["psnr"] == (22.0, 8**0.5)
    assert found.metrics == ("psnr", "loss")


def test_only_parameters_that_differ_are_columns() -> None:
    found = compare([result(0, rate, psnr=1.0) for rate in (0.1, 0.2)], [], None)
    assert found.parameters == ("engine.learning_rate",)
    assert [group.parameters for group in found.groups] == [
        {"engine.learning_rate": 0.1},
        {"engine.learning_rate": 0.2},
    ]


def test_runs_on_other_data_are_never_averaged_together() -> None:
    found = compare([result(0, psnr=1.0), result(1, data="d2", psnr=3.0)], [], None)
    assert [(group.seeds, group.parameters) for group in found.groups] == [
        ((1,), {"dataset_state": "d2"}),
        ((0,), {"dataset_state": "d1"}),
    ]


def test_code_that_made_another_schedule_of_one_configuration_is_a_difference() -> None:
    other = result(1)._replace(parameters={**result(1).parameters, "made.scheduler": "new"})
    assert compare([result(0), other], [], None).parameters == ("made.scheduler",)


@pytest.mark.parametrize(
    ("sort", "best"),
    [("psnr", 0.3), ("-psnr", 0.2), ("loss", 0.2), ("-loss", 0.3), (None, 0.3), ("baseline_mse", 0.2), ("hd95_2", 0.2)],
)
def test_the_best_comes_first_and_what_lacks_the_metric_last(sort: str | None, best: float) -> None:
    results = [
        result(0, 0.2, psnr=20.0, loss=0.1, baseline_mse=1.0, hd95_2=1.0),
        result(0, 0.3, psnr=30.0, loss=0.9, baseline_mse=2.0, hd95_2=2.0),
        result(0, 0.1, psnr="NaN", loss="Infinity"),
    ]
    for order in itertools.permutations(results):
        rates = [group.parameters["engine.learning_rate"] for group in compare(order, [], sort).groups]
        assert (rates[0], rates[-1]) == (best, 0.1)


def test_the_order_in_which_runs_are_given_changes_no_bit() -> None:
    results = [result(seed, psnr=psnr) for seed, psnr in enumerate((1e16, 1.0, -1e16, 0.1))]
    found = {repr(compare(order, [], None)) for order in itertools.permutations(results)}
    assert len(found) == 1


def test_metrics_are_chosen_by_name_and_a_wrong_one_is_named() -> None:
    assert compare([result(0, ssim=0.5)], ["ssim", "loss"], None).metrics == ("ssim", "loss")
    with pytest.raises(UsageError, match="no run has a metric 'pnsr': did you mean 'psnr'"):
        compare([result(0)], ["pnsr"], None)
    with pytest.raises(UsageError, match="did you mean 'loss'"):
        compare([result(0)], [], "-los")


def test_no_runs_are_no_groups() -> None:
    assert compare([], ["psnr"], "psnr").groups == ()
