"""The configuration of a run on disk: as it was, on as many threads as it was made with."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from store_samples import MANIFEST, PROGRAM, SESSION
from training_samples import configured

from crh_train import SEMANTICS_VERSION
from crh_train.config import RunConfig, semantic
from crh_train.diagnostics.policy import ADVICE_ONLY
from crh_train.digest import digest_json
from crh_train.errors import ConfigError, UsageError
from crh_train.run_store import RunFolder, RunStore
from crh_train.stored import check_semantics, stored_config


def made() -> RunConfig:
    """Another seed than `conf/` has, and threads left to the machine."""
    config = configured(model="cnn")
    return dataclasses.replace(config, engine=dataclasses.replace(config.engine, seed=41))


def session(threads: int, **runtime: Any) -> dict[str, Any]:
    """One that found `threads` threads on its machine."""
    asked = {**dataclasses.asdict(made().runtime), **runtime}
    return {**SESSION, "runtime": asked, "fingerprint": {"threads": threads}, "version": "0.0.9"}


def stored(root: Path, semantics: int = SEMANTICS_VERSION, config: RunConfig | None = None) -> RunFolder:
    document = {"config": semantic(made() if config is None else config), "optimizer": {}, "scheduler": {}}
    run = {
        "config_hash": digest_json(document),
        "dataset_state": digest_json(MANIFEST),
        "seed": 41,
        "semantics_version": semantics,
    }
    return RunStore(root).create(run, document, MANIFEST, session(threads=6), PROGRAM)


def test_a_stored_configuration_is_the_one_that_ran_with_its_number_of_threads(tmp_path: Path) -> None:
    found = stored_config(stored(tmp_path), [])
    assert semantic(found) == semantic(made())
    assert found.engine.seed == 41
    assert found.runtime == dataclasses.replace(made().runtime, threads=6)


def test_diagnostics_are_those_of_a_run_that_acts_and_else_do_nothing(tmp_path: Path) -> None:
    acting = dataclasses.replace(made(), diagnostics=dataclasses.replace(made().diagnostics, act=True, factor=1.0))
    assert stored_config(stored(tmp_path / "acts", config=acting), []).diagnostics == acting.diagnostics
    assert stored_config(stored(tmp_path / "advises"), []).diagnostics == ADVICE_ONLY


def test_where_and_how_it_runs_can_be_changed_and_nothing_else(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    assert stored_config(folder, ["runtime.threads=2", "runtime.progress=false"]).runtime == dataclasses.replace(
        made().runtime, threads=2, progress=False
    )
    with pytest.raises(ConfigError, match=r"'engine.epochs=3' would make another run"):
        stored_config(folder, ["engine.epochs=3"])
    with pytest.raises(ConfigError, match=r"runtime.threads='many': Value 'many' of type 'str' could not"):
        stored_config(folder, ["runtime.threads=many"])


def test_the_last_session_says_how_it_goes_on(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    folder.add_session(session(threads=3, checkpoint_every=5))
    found = stored_config(folder, []).runtime
    assert (found.threads, found.checkpoint_every) == (3, 5)


def test_todays_code_refuses_a_run_of_another_semantics_version_and_says_what_can(tmp_path: Path) -> None:
    folder = stored(tmp_path, SEMANTICS_VERSION + 1)
    with pytest.raises(UsageError, match=r"replay it by its archived program, or use crh-train 0.0.9"):
        check_semantics(folder)
    assert stored_config(folder, []).engine.seed == 41, "its archived program needs no more than that"
    check_semantics(stored(tmp_path))
