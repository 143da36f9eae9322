"""Reports: same values, same bytes, in every process; exact numbers; what is missing is not made up."""

import hashlib
import io
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import (
    RUN_HASH,
    made_up_cases,
    made_up_held_out,
    made_up_inputs,
    made_up_records,
    summary_of,
    training_of,
)

from crh_train.averages import mean, moving_average
from crh_train.errors import CorruptRun, UsageError
from crh_train.reports import (
    build,
    validation_metrics,
)
from crh_train.reports.documents import indented_json
from crh_train.reports.inputs import METRICS
from crh_train.reports.training_metrics import (
    EMA_DECAY,
    best_epoch,
    epoch_summaries,
    series,
)


@pytest.fixture(scope="module")
def bundles() -> dict[int, dict[str, bytes]]:
    """classes -> the reports of `made_up_inputs`."""
    return {classes: build(made_up_inputs(classes)) for classes in (0, 3)}


# --- the bundle ----------------------------------------------------------------------------------------------------


def test_sums_come_last_and_cover_every_other_file_in_sorted_order(bundles):
    files = bundles[0]
    *names, last = files
    assert last == "SHA256SUMS"
    assert names == [
        "case_metrics.csv",
        "cases.json",
        "cases.npy",
        "cases.png",
        "curves.png",
        "session_summary.md",
        "slice_metrics.csv",
        "training_metrics.json",
        "validation_metrics.json",
    ]
    expected = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in names)
    assert files[last].decode() == expected


def test_without_cases_there_is_no_picture_of_them_and_no_link_to_it():
    files = build(made_up_inputs(cases=[]))
    assert "cases.png" not in files
    assert b"cases.png" not in files["session_summary.md"]


_PROCESS = """
import hashlib, sys
import crh_train.reports
assert "matplotlib" not in sys.modules, "importing the package imports matplotlib"
assert "jax" not in sys.modules, "importing the package imports jax"
import report_samples
for classes in (0, 3):
    print(crh_train.reports.build(report_samples.made_up_inputs(classes))["SHA256SUMS"].decode())
for name in ("jax", "matplotlib.pyplot"):
    assert name not in sys.modules, f"building the reports imports {name}"
"""


def test_fresh_processes_give_the_same_bytes_whatever_surrounds_them(tmp_path, bundles):
    hostile = tmp_path / "config"
    hostile.mkdir()
    (hostile / "matplotlibrc").write_text("font.family: serif\nsavefig.dpi: 50\nlines.linewidth: 9\nbackend: svg\n")
    surroundings = [
        ({"PYTHONHASHSEED": "1", "TZ": "UTC"}, Path.cwd()),
        ({"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "LC_ALL": "C", "MPLCONFIGDIR": str(hostile)}, tmp_path),
    ]
    outputs = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", _PROCESS],
            env={**os.environ, **variables, "PYTHONPATH": str(Path(__file__).parent)},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        for variables, folder in surroundings
    ]
    assert [output.returncode for output in outputs] == [0, 0], outputs[0].stderr + outputs[1].stderr
    assert outputs[0].stdout == outputs[1].stdout
    here = "".join(bundles[classes]["SHA256SUMS"].decode() + "\n" for classes in (0, 3))
    assert outputs[0].stdout == here


def test_the_callers_matplotlib_settings_neither_matter_nor_change(bundles):
    import matplotlib

    with matplotlib.rc_context({"font.size": 31.0, "axes.facecolor": "pink"}):
        assert build(made_up_inputs()) == bundles[0]
        assert matplotlib.rcParams["font.size"] == 31.0
        assert matplotlib.rcParams["axes.facecolor"] == "pink"


def test_the_wall_clock_of_the_chronicle_is_in_no_report(bundles):
    records = made_up_records(3, 7)
    for record in records:
        record.timestamp = 1e6
    assert build(made_up_inputs(records=records)) == bundles[0]


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"seed": 4}, {"session_summary.md", "training_metrics.json"}),
        ({"chronicle_head": "6" * 64}, {"session_summary.md", "training_metrics.json"}),
        ({"dataset_state": "6" * 64}, {"session_summary.md", "training_metrics.json"}),
        (
            {"config_hash": "6" * 64},
            {"session_summary.md", "training_metrics.json", "validation_metrics.json"},
        ),
        (
            {"final_checkpoint": "6" * 64},
            {"session_summary.md", "training_metrics.json", "validation_metrics.json"},
        ),
        ({"cases": made_up_cases(0)[:1]}, {"cases.png"}),
        ({"fingerprint": {"threads": 8}}, {"session_summary.md"}),
    ],
)
def test_each_input_reaches_its_files_and_no_other(changes, changed, bundles):
    before, after = bundles[0], build(made_up_inputs(**changes))
    assert {name for name in before if before[name] != after[name]} == changed | {"SHA256SUMS"}


# --- numbers -------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=4, max_size=4))  # of integers below 2^32, few are drawn with a sign
def test_every_float32_reads_back_from_its_shortest_text(image):
    value = np.frombuffer(image, np.float32)[0]
    text = indented_json([value]).decode()
    found = json.loads(text, parse_constant=pytest.fail)[0]
    if np.isnan(value):
        assert found == "NaN"
    elif np.isinf(value):
        assert found == ("Infinity" if value > 0 else "-Infinity")
    else:
        assert np.float32(found).tobytes() == value.tobytes()
        assert found == float(str(value))
        assert len(re.sub(r"e.*|\D", "", repr(found)).strip("0")) <= 9


def test_documents_have_sorted_keys_and_a_final_newline(bundles):
    files = bundles[0]
    for name in ("training_metrics.json", "validation_metrics.json"):
        document = json.loads(files[name], object_pairs_hook=_sorted_only)
        assert files[name].endswith(b"}\n")
        assert {document["run_hash"], document["config_hash"]} == {RUN_HASH, "1" * 64}


def _sorted_only(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    assert keys == sorted(set(keys))
    return dict(pairs)


def test_non_finite_values_stay_visible_and_strict_json():
    records = made_up_records(3, 7)
    records[8].loss = np.float32(np.nan)
    records[15].grad_norm = np.float32(np.inf)
    document = training_of(made_up_inputs(records=records))
    assert document["per_epoch"][1]["mean_loss"] == "NaN"
    assert isinstance(document["per_epoch"][0]["mean_loss"], float)
    assert isinstance(document["per_epoch"][2]["mean_grad_norm"], str)
    assert document["best_epoch"]["epoch"] == 2


def test_every_step_is_in_one_epoch_and_the_epochs_learning_rate_is_its_last():
    records = made_up_records(3, 7)[:-2]  # the last epoch is shorter
    epochs = epoch_summaries(records)
    assert [epoch.epoch for epoch in epochs] == [0, 1, 2]
    assert [epoch.steps for epoch in epochs] == [7, 7, 5]
    assert [epoch.last_step for epoch in epochs] == [7, 14, 19]
    assert [epoch.lr for epoch in epochs] == [records[step - 1].lr for step in (7, 14, 19)]
    for epoch, part in zip(epochs, (records[:7], records[7:14], records[14:]), strict=True):
        assert epoch.mean_loss == mean(series(part, "loss"))
        assert epoch.mean_coherence == mean(series(part, "coherence"))
        assert epoch.mean_grad_norm == mean(series(part, "grad_norm"))
    assert epochs[-1].loss_ema == moving_average(series(records, "loss"), EMA_DECAY)[-1]


def test_the_best_epoch_is_the_first_of_the_smallest_and_never_nan():
    epoch = epoch_summaries(made_up_records(1, 2))[0]
    nan, low, high = (epoch._replace(epoch=n, mean_loss=np.float32(x)) for n, x in enumerate((math.nan, 1, 2)))
    assert best_epoch([high, nan, low, low._replace(epoch=9)]) == low
    assert best_epoch([nan]) is None


def test_final_values_are_those_of_the_last_step():
    inputs = made_up_inputs()
    document = training_of(inputs)
    last = inputs.records[-1]
    for field in ("loss", "coherence", "grad_norm", "lr"):
        assert np.float32(document["final"][field]) == getattr(last, field)
    assert (document["final"]["step"], document["steps"], document["epochs"]) == (21, 21, 3)
    assert document["ema_decay"] == EMA_DECAY


def test_a_metric_that_a_run_does_not_have_is_null():
    given_metrics = {"psnr": None, "dice": 0.5, "conventions": {"dice": "per class"}}
    document = json.loads(validation_metrics.render(made_up_inputs(validation=given_metrics)))
    assert set(document["metrics"]) == {*METRICS, "dice"}
    assert {name: entry["value"] for name, entry in document["metrics"].items()} == {
        **dict.fromkeys(METRICS),
        "dice": 0.5,
    }
    assert document["metrics"]["dice"]["convention"] == "per class"


def test_each_metric_has_its_spread_over_cases_and_groups_are_there(bundles):
    document = json.loads(bundles[0]["validation_metrics.json"])
    assert document["metrics"]["psnr"]["interval"] == [0.25, 0.75]
    assert document["metrics"]["ssim"]["mean"] is document["metrics"]["ssim"]["interval"] is None
    assert (document["cases"], document["conventions"]["interval"]) == (2, "how the interval is computed")
    assert document["subgroups"][0]["gaps"]["psnr"]["highest"] == "F"
    assert document["bias"] == "what a gap can say"


@pytest.mark.parametrize("classes", [0, 3])
def test_panels_are_an_array_with_an_index(classes, bundles):
    array = np.load(io.BytesIO(bundles[classes]["cases.npy"]))
    index = json.loads(bundles[classes]["cases.json"])
    assert (array.dtype, array.shape) == (np.float32, (1, 2, 12, 10))
    assert index["images"] == ["input", "output"]
    (panel,) = index["panels"]
    assert (panel["case"], panel["slice"], panel["chosen"]) == ("F", 3, ["best case"])
    expected = np.stack(made_up_cases(classes)[0].images[:2]).astype(np.float32)
    assert array[0].tobytes() == expected.tobytes()


def test_without_slices_and_panels_there_are_no_such_files():
    none = made_up_held_out(0)._replace(slices=[], panels=[])
    files = build(made_up_inputs(held_out=none))
    assert not {"cases.npy", "slice_metrics.csv"} & set(files)
    assert json.loads(files["cases.json"])["arrays"] is None
    assert b"slice_metrics.csv" not in files["session_summary.md"]


# --- the summary ---------------------------------------------------------------------------------------------------


def test_the_summary_gives_result_against_baseline_proof_and_commands():
    text = summary_of(made_up_inputs())
    assert "**PSNR 23.10 dB → 27.60 dB (+4.50 dB)** from zero-filled input to reconstruction" in text
    assert "| PSNR | 23.10 dB | 27.60 dB | +4.50 dB |" in text
    assert "| NMSE | 0.05000 | 0.01250 | -75.0 % |" in text
    assert "| MSE | – | 0.0009000 | – |" in text
    for digest in (RUN_HASH, *(digit * 64 for digit in "1245")):
        assert f"`{digest}`" in text
    assert f"crh-train replay {RUN_HASH[:16]}\ncrh-train verify {RUN_HASH[:16]}\n" in text
    assert "| model | `unet` | channels 16, residual yes |" in text
    assert "| data | `mni152` | shape [96, 112], mask none |" in text
    assert "- SSIM: how ssim is computed" in text
    assert "(cases.png)" in text
    assert "(curves.png)" in text


def test_a_row_of_the_trainings_table_is_of_one_step():
    inputs = made_up_inputs()
    text = summary_of(inputs)
    for name, record in (("first", inputs.records[0]), ("last", inputs.records[-1])):
        (row,) = [line.split("|") for line in text.splitlines() if line.startswith(f"| {name} ")]
        assert [row[2].strip(), row[4].strip()] == [f"{record.loss:#.4g}", f"{record.lr:#.3g}"]


def test_the_summary_gives_the_spread_and_the_groups():
    text = summary_of(made_up_inputs())
    assert "| PSNR | 2 | 0.50 dB | 0.10 dB | 0.25 dB to 0.75 dB |" in text
    assert "By sex, each with its 95 % interval. Without a value: 1 of the cases." in text
    assert "| F | 1 | 0.50 dB |" in text
    assert "| largest gap |  | 0.12 dB |" in text
    assert "what a gap can say" in text
    single = made_up_held_out(0)._replace(cases=made_up_held_out(0).cases[:1], subgroups=[])
    assert "One volume was held out" in summary_of(made_up_inputs(held_out=single))


def test_the_environment_takes_one_line_an_entry():
    block = re.findall(r"```\n(.*?)```", summary_of(made_up_inputs()), re.DOTALL)[0]
    assert [line.split(":")[0] for line in block.splitlines()] == ["cpu", "devices", "software", "threads", "xla_flags"]
    assert "30 entries (SHA-256 " in block


def test_a_class_task_has_no_baseline_and_shows_what_is_missing_as_missing():
    text = summary_of(made_up_inputs(classes=3))
    assert "**Accuracy 0.9500**, F1 0.9100 over 14 held-out samples." in text
    assert "| Accuracy | 0.9500 |" in text
    assert "| MSE | – |" in text
    assert "zero-filled" not in text
    assert "PSNR" not in text


def test_only_the_template_is_called_synthetic():
    inputs = made_up_inputs()
    assert "synthetic and without clinical meaning" in summary_of(inputs)
    own = {**inputs.config, "data": {"name": "nifti"}}
    assert "synthetic" not in summary_of(replace(inputs, config=own))


def test_names_cannot_break_a_table():
    inputs = made_up_inputs(config={"data": {"name": "a|b\nc"}, "task": {"name": "x"}, "zoo": {"k": "v"}})
    text = summary_of(inputs)
    assert "| data | `a\\|b c` |  |" in text
    assert "| zoo |  | k v |" in text  # a part that the schema does not know is shown all the same


# --- refusals ------------------------------------------------------------------------------------------------------


def test_an_empty_chronicle_is_refused():
    with pytest.raises(CorruptRun, match="at least one step, found none"):
        made_up_inputs(records=[])


def test_a_number_without_its_convention_is_refused():
    with pytest.raises(UsageError, match="'dice' has a value but no sentence"):
        made_up_inputs(validation={"dice": 0.5, "conventions": {}})


@pytest.mark.parametrize("shapes", [((12, 10), (12, 10), (12, 11)), ((1, 12, 10),) * 3])
def test_cases_that_are_no_pictures_of_one_shape_are_refused(shapes):
    with pytest.raises(UsageError, match="of one shape"):
        made_up_inputs(cases=[("odd", tuple(np.zeros(shape, np.float32) for shape in shapes))])


def test_an_unknown_determinism_level_is_refused():
    with pytest.raises(UsageError, match=r"'quantum' has no sentence.*known: portable, native"):
        summary_of(made_up_inputs(determinism="quantum"))
