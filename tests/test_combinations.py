"""The combinations of a sweep: which are the same, which runs are theirs, and what is to be done with each."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import TINY
from conftest import Made
from store_samples import create_run, finish

from crh_train import combinations
from crh_train.combinations import StoredRuns, combined, state, sweep_hash
from crh_train.compose import compose, packaged_conf
from crh_train.config import RunConfig
from crh_train.errors import ConfigError
from crh_train.run_store import RunFolder, RunStore

FOLDERS = [packaged_conf()]
STEP = "conf=mri_step"


def hashes(*expanded: list[str]) -> list[str]:
    return [each.hash for each in combined(expanded, FOLDERS)]


def test_a_combination_is_what_it_is_and_not_how_it_was_written() -> None:
    (one,) = hashes([STEP, "engine.learning_rate=2e-3", "engine.epochs=5"])
    assert hashes(["engine.epochs=5", "engine.learning_rate=0.002", STEP, "runtime.threads=3"]) == [one]
    others = hashes([STEP, "engine.epochs=5"], [STEP, "engine.epochs=5", "engine.seed=1"])
    assert len({one, *others}) == 3
    (moved,) = hashes([STEP, "engine.epochs=5", "runtime.data_root=elsewhere"])
    assert moved not in others  # other data, for all that is known without reading them


def test_a_combination_does_not_depend_on_how_its_text_is_quoted() -> None:
    assert len({*hashes([STEP, "runtime.data_root=t/Ü (2)"], [STEP, 'runtime.data_root="t/Ü (2)"'])}) == 1


def test_the_same_combinations_in_any_order_are_the_same_sweep() -> None:
    words = [[STEP, f"engine.seed={seed}"] for seed in (0, 1)]
    forth, back = combined(words, FOLDERS), combined(words[::-1], FOLDERS)
    assert sweep_hash(forth) == sweep_hash(back)
    assert [each.words for each in back] == [tuple(each) for each in words[::-1]]
    assert sweep_hash(forth) != sweep_hash(forth[:1])


def test_the_same_combination_is_there_once() -> None:
    found = combined([[STEP, f"runtime.threads={threads}"] for threads in (1, 2)], FOLDERS)
    assert [each.words for each in found] == [(STEP, "runtime.threads=1")]


def test_a_mistake_in_some_combinations_leaves_the_others() -> None:
    bad, good = combined([[STEP, "engine.epoch=1"], [STEP]], FOLDERS)
    assert isinstance(bad.config, ConfigError)
    assert isinstance(good.config, RunConfig)
    (again,) = combined([[STEP, "runtime.threads=1", "engine.epoch=1"], [STEP]], FOLDERS)[:1]
    assert again.hash == bad.hash
    with pytest.raises(ConfigError, match=r"engine\.epoch'"):
        combined([[STEP, "engine.epoch=1"], [STEP, "engine.epoch=2"]], FOLDERS)
    with pytest.raises(ConfigError, match="give exactly one conf=NAME"):
        combined([["engine.epochs=1"]], FOLDERS)


def test_several_processes_are_refused() -> None:
    with pytest.raises(ConfigError, match="-m runs each combination in one process"):
        combined([[STEP], [STEP, "runtime.processes=2"]], FOLDERS)


def test_a_run_on_disk_is_found_by_what_it_is(swept: Made, finished: RunFolder, tmp_path: Path) -> None:
    store = RunStore(swept.folder / "runs")
    config = compose("mri_step", TINY[1:], FOLDERS)
    found = StoredRuns(store).find(config)
    assert found is not None
    assert found.run_hash == finished.run_hash
    for other in ("engine.seed=7", "model.layers=3", "data.stride=2", "determinism=native"):
        assert StoredRuns(store).find(compose("mri_step", [*TINY[1:], other], FOLDERS)) is None
    nothing = compose("mri_step", [*TINY[1:], "data=nifti", "runtime.data_root=nothing"], FOLDERS)
    assert StoredRuns(store).find(nothing) is None
    damaged = RunStore(tmp_path)
    shutil.copytree(finished.path, tmp_path / finished.name)
    (tmp_path / finished.name / "config.json").write_bytes(b"{}")
    assert StoredRuns(damaged).find(config) is None


def test_a_run_of_another_meaning_is_not_taken(
    swept: Made, monkeypatch: pytest.MonkeyPatch, finished: RunFolder
) -> None:
    monkeypatch.setattr(combinations, "SEMANTICS_VERSION", finished.run_document()["semantics_version"] + 1)
    config = compose("mri_step", TINY[1:], FOLDERS)
    assert StoredRuns(RunStore(swept.folder / "runs")).find(config) is None


def test_what_is_to_be_done(tmp_path: Path) -> None:
    unfinished, done = create_run(tmp_path / "a"), create_run(tmp_path / "b")
    finish(done)
    run = unfinished.run_hash

    def record(kind: str, **more: Any) -> dict[str, Any]:
        return {"record": kind, "combination": "1" * 64, "run": run, **more}

    diverged = record("failed", error="Diverged", message="", exit_code=1)
    records = [None, record("begun"), record("interrupted"), record("finished"), diverged]
    records.append(record("failed", error="ProcessFailed", message="", exit_code=1))
    for each in records:
        for retry in (False, True):
            assert state(each, None, retry) == "run"
            assert state(each, done, retry) == "finished"
            assert state(each, unfinished, retry) == ("diverged" if each is diverged and not retry else "resume")
    assert state({**diverged, "run": "b" * 64}, unfinished, False) == "resume"  # that of other data
