"""What cases say together: means, deviations and intervals that are the same everywhere, and groups of cases."""

import csv
import io
import math
import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_samples import outputs, start_python

from crh_train import metrics
from crh_train.reports import CaseRow, HeldOut, SliceRow, tables
from crh_train.validator.statistics import (
    BIAS,
    CONVENTIONS,
    RESAMPLES,
    Value,
    describe,
    interval,
    mean_over,
    resamples,
    subgroups,
)
from crh_train.validator.volumes import HeldOutVolume

WHOLE = slice(None), slice(None)
DRAWN = [[4, 3, 4, 1, 3], [0, 2, 1, 0, 0]]
FLOATS = st.floats(-(2.0**60), 2.0**60, width=32)


def values_of(*numbers: float | None) -> list[Value]:
    return [None if number is None else np.float32(number) for number in numbers]


def alone(count: int) -> list[str]:
    return [f"case {index}" for index in range(count)]


def described(values: list[Value], units: list[str] | None = None) -> Any:
    return describe(mean_over(values), values, range(len(values)), alone(len(values)) if units is None else units)


# --- one metric over cases -----------------------------------------------------------------------------------------


@given(st.lists(FLOATS, min_size=2, max_size=9))
def test_mean_and_deviation_are_rounded_once_and_ignore_the_order(numbers: list[float]) -> None:
    found = described(values_of(*numbers))
    assert found["n"] == len(numbers)
    assert found["mean"] == np.float32(math.fsum(numbers) / len(numbers))
    assert found["sd"] == np.float32(statistics.stdev(numbers))
    again = described(values_of(*reversed(numbers)))
    assert {key: again[key] for key in ("n", "mean", "sd")} == {key: found[key] for key in ("n", "mean", "sd")}
    if found["interval"] is not None:
        assert found["interval"][0] <= found["mean"] <= found["interval"][1]


def test_the_interval_is_that_of_the_resampled_means() -> None:
    numbers = np.random.default_rng(3).normal(30, 2, 12).astype(np.float32)
    means = sorted(float(np.float32(math.fsum(numbers[drawn].tolist()) / 12)) for drawn in resamples(12))
    assert described(list(numbers))["interval"] == [np.float32(means[25]), np.float32(means[974])]
    error = statistics.stdev(numbers.tolist()) / math.sqrt(12)
    low, high = described(list(numbers))["interval"]
    assert 3 * error < high - low < 4.5 * error  # a normal interval is 3.9 standard errors wide


def test_cases_without_a_value_are_not_counted() -> None:
    assert described(values_of(1, None, 3)) == described(values_of(1, 3))
    assert described(values_of(None, None)) == {"n": 0, "mean": None, "sd": None, "interval": None}


def test_a_single_case_has_no_deviation_and_no_interval() -> None:
    assert described(values_of(7)) == {"n": 1, "mean": 7, "sd": None, "interval": None}


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_shows_in_the_mean_and_has_no_spread(bad: float) -> None:
    found = described(values_of(1, bad, 3))
    assert (found["n"], found["sd"], found["interval"]) == (3, None, None)
    assert str(found["mean"]) == str(np.float32(bad))


def test_the_cases_of_one_patient_are_drawn_together() -> None:
    values = values_of(1, 1, 1, 5, 5, 5)
    assert described(values, ["p"] * 6)["interval"] is None
    assert described(values, [*"pppqqq"])["interval"] == described(values_of(1, 5))["interval"] == [1, 5]
    low, high = described(values)["interval"]
    assert 1 < low < high < 5


def test_a_resample_without_a_value_is_left_out() -> None:
    scores, positive = np.array([0.1, 0.7, 0.4, 0.9]), np.array([False, False, True, True])

    def area(chosen: Any) -> Value:
        found = metrics.auc(scores[list(chosen)], positive[list(chosen)])
        return None if found is None else np.float32(float(found))

    low, high = interval(area, range(4), alone(4)) or []
    assert 0 <= low < 0.75 < high <= 1
    assert interval(area, [0, 1], alone(4)) is None


# --- what is drawn -------------------------------------------------------------------------------------------------


def test_what_is_drawn_is_recorded() -> None:
    drawn = resamples(5)
    assert drawn[:2] == DRAWN
    assert (len(drawn), {len(each) for each in drawn}) == (RESAMPLES, {5})
    assert {index for each in drawn for index in each} == set(range(5))


_PROCESS = """
import numpy as np
from crh_train.validator.statistics import describe, mean_over
numbers = (np.arange(37, dtype=np.float32) * np.float32(0.37)) % np.float32(5.1)
print(describe(mean_over(list(numbers)), list(numbers), range(37), list("abcdefg" * 5 + "hi")))
"""


def test_fresh_processes_give_the_same_bits() -> None:
    first, second = outputs(
        start_python(_PROCESS, PYTHONHASHSEED="1"),
        start_python(_PROCESS, PYTHONHASHSEED="2", OMP_NUM_THREADS="1"),
    )
    assert first == second
    assert "interval': [np.float32" in first


# --- groups --------------------------------------------------------------------------------------------------------


def cases(**columns: list[str | None]) -> list[HeldOutVolume]:
    (count,) = {len(texts) for texts in columns.values()}
    rows = [{name: text for name, texts in columns.items() if (text := texts[i]) is not None} for i in range(count)]
    return [HeldOutVolume(f"case {i}", (i,), (0,), (1.0, 1.0, 1.0), None, row, WHOLE) for i, row in enumerate(rows)]


def grouped(values: list[Value], **columns: list[str | None]) -> list[dict[str, Any]]:
    return subgroups({"dice": (mean_over(values), values)}, cases(**columns), alone(len(values)))


def test_a_column_of_few_values_is_compared_group_by_group() -> None:
    (found,) = grouped(values_of(0.9, 0.8, 0.5, None, 0.6), sex=["F", "F", "M", "M", None])
    assert (found["column"], found["missing"]) == ("sex", 1)
    assert [(each["group"], each["n"]) for each in found["groups"]] == [("F", 2), ("M", 2)]
    women, men = (each["metrics"]["dice"] for each in found["groups"])
    assert women["value"] == women["mean"] == np.float32(0.85)
    assert women["interval"] == [np.float32(0.8), np.float32(0.9)]
    assert (men["n"], men["value"], men["interval"]) == (1, np.float32(0.5), None)
    assert found["gaps"]["dice"] == {"gap": np.float32(0.85) - np.float32(0.5), "highest": "F", "lowest": "M"}


def test_a_column_of_one_value_or_of_too_many_is_none_of_groups() -> None:
    values = values_of(*range(30))
    ages = [str(age) for age in range(30)]
    assert grouped(values, site=["x"] * 30) == grouped(values, age=ages) == []  # type: ignore[list-item]
    assert len(grouped(values_of(*range(20)), age=ages[:20])[0]["groups"]) == 20  # type: ignore[arg-type]


def test_a_metric_of_all_cases_together_is_made_anew_in_each_group() -> None:
    scores, positive = np.array([0.1, 0.9, 0.8, 0.2]), np.array([False, True, False, True])

    def area(chosen: Any) -> Value:
        found = metrics.auc(scores[list(chosen)], positive[list(chosen)])
        return None if found is None else np.float32(float(found))

    (found,) = subgroups({"auc": (area, None)}, cases(scanner=["A", "A", "B", "B"]), alone(4))
    assert [each["metrics"]["auc"]["value"] for each in found["groups"]] == [1, 0]
    assert found["gaps"]["auc"]["gap"] == 1


def test_without_two_numbers_there_is_no_gap() -> None:
    (found,) = grouped(values_of(0.9, math.inf, None), sex=["F", "M", "X"])
    assert found["gaps"] == {"dice": None}


def test_what_a_gap_cannot_say_is_said() -> None:
    assert "does not say why" in BIAS
    assert set(CONVENTIONS) == {"n", "mean", "sd", "interval"}


# --- tables --------------------------------------------------------------------------------------------------------


def held_out(rows: list[CaseRow], slices: list[SliceRow]) -> HeldOut:
    return HeldOut({}, {}, [], "", rows, slices, [])


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(TEXT, TEXT, st.floats(width=32), TEXT)
def test_a_table_of_cases_reads_back_as_it_was(name: str, patient: str, number: float, text: str) -> None:
    value = np.float32(number)
    rows = [
        CaseRow(name, patient, {"dice": value, "psnr": None}, {"samples": 3}, {"a,b": text}),
        CaseRow("second", None, {"dice": np.float32(1 / 3), "psnr": np.float32(30)}, {"samples": 1}, {}),
    ]
    data = tables.render_cases(held_out(rows, []))
    read = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    assert list(read[0]) == ["case", "patient", "samples", "dice", "psnr", "metadata.a,b"]
    assert (read[0]["case"], read[0]["patient"], read[0]["metadata.a,b"]) == (name, patient, text)
    back = np.float32(read[0]["dice"])
    assert back.tobytes() == value.tobytes() or (np.isnan(back) and np.isnan(value))
    assert read[1] == {
        "case": "second",
        "patient": "",
        "samples": "1",
        "dice": "0.33333334",
        "psnr": "30.0",
        "metadata.a,b": "",
    }


def test_lines_end_as_rfc_4180_has_them() -> None:
    data = tables.render_slices(held_out([], [SliceRow('a "b"', 3, {"ssim": np.float32(np.inf)})]))
    assert data == b'case,slice,ssim\r\n"a ""b""",3,Infinity\r\n'
