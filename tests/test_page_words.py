"""What the page says of a run: the command that makes it again, whose scores stand where, each number by its name."""

import csv
import dataclasses
import shlex
from typing import Any

import numpy as np
import pytest
from command_line import copied
from page_samples import Page, replayed_whole

from crh_train.page import Contents, read, render, words
from crh_train.page.contents import again
from crh_train.reports.numbers import label, written
from crh_train.run_store import RunFolder


@pytest.fixture(scope="module")
def said(finished: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """Of a copy, beside which no other test leaves the verdict of a replay."""
    return read(copied(finished, tmp_path_factory.mktemp("page") / "runs"))


@pytest.fixture(scope="module")
def page(said: Contents) -> Page:
    return Page(render(said))


def test_the_command_that_trains_anew_is_for_any_machine_and_names_what_it_takes(said: Contents, page: Page) -> None:
    ours = "The configuration does not come with crh-train"
    assert ours not in page.text
    semantic = [word for word in said.run["overrides"] if not word.startswith("runtime.")]
    assert f"crh-train run conf=mri_step {' '.join(map(shlex.quote, semantic))} Replay it" in page.text
    assert "the hashes above must come out, but that of the environment" in page.text
    assert ours in Page(render(dataclasses.replace(said, packaged=False))).text


@pytest.mark.parametrize(
    ("changes", "packaged", "kept"),
    [
        ({}, True, []),
        ({"conf": "of_my_own"}, False, []),
        ({"overrides": ["engine.epochs=4"]}, False, ["engine.epochs=4"]),
        ({"seed": 1}, False, []),
        (
            {"overrides": ["runtime.devices=2", "runtime.process=1", "runtime.data_root=a"]},
            True,
            ["runtime.data_root=a"],
        ),
    ],
)
def test_whether_the_packaged_configurations_make_the_run(
    said: Contents, changes: dict[str, Any], packaged: bool, kept: list[str]
) -> None:
    semantic = [word for word in said.run["overrides"] if not word.startswith("runtime.")]
    run = {**said.run, **changes, "overrides": [*semantic, *changes.get("overrides", [])]}
    assert again(run) == ([f"conf={run['conf']}", *semantic, *kept], packaged)


def test_scores_say_whose_they_are(said: Contents, finished: RunFolder, page: Page) -> None:
    assert said.held is not None
    rows = list(csv.DictReader((finished.path / "reports" / "case_metrics.csv").read_text().splitlines()))
    cases = {row["case"]: row for row in rows}
    assert said.held.panels
    for panel in said.held.panels:
        own, case = dict(words.scores(panel))["this slice"], dict(words.scores(panel))["the case"]
        assert [name for name, _ in own] == [label(n) for n in sorted(panel.scores) if not n.startswith("baseline_")]
        score, before = (float(cases[panel.case][name]) for name in (panel.metric, f"baseline_{panel.metric}"))
        assert case == [(label(panel.metric), f"{written(panel.metric, before)} → {written(panel.metric, score)}")]
    assert page.text.count("this slice:") == page.text.count("the case:") == len(said.held.panels)
    whole = said.held.panels[0]._replace(scores={"auc": 0.5}, images={"input": np.zeros((2, 2), np.float32)})
    assert words.scores(whole) == [("the case", [("AUC", "0.5000")])]


def test_on_a_narrow_screen_each_number_of_a_result_is_named(page: Page) -> None:
    head, *rows = page.tables["Metrics"]
    cells = [value for tag, name, value in page.attributes if (tag, name) == ("td", "data-label")]
    assert cells == head[1:] * len(rows)


def test_only_the_steps_that_were_replayed_are_called_identical(said: Contents) -> None:
    total = said.run["steps"]
    report = replayed_whole(said.run["run_hash"], total, {})

    def verdict(*spans: tuple[int, int]) -> str:
        found = [dataclasses.replace(report, first_step=first, steps_compared=last - first) for first, last in spans]
        return words.replayed(dataclasses.replace(said, replays=found)).sentence

    assert verdict((2, 7)) == f"steps 3 to 7 (5 of {total})"
    assert verdict((12, 18), (0, 3), (2, 4)) == f"steps 1 to 4, 13 to 18 (10 of {total})"
    assert verdict((0, 12), (12, total)) == f"all {total} steps"
