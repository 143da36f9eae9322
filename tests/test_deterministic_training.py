"""The spec's replay test: one configuration run twice, in processes that have nothing in common but the machine."""

import shutil
from pathlib import Path

import pytest
from command_line import TINY, chronicle_text, contents, crh, environment, made_once, only_run

from crh_train.run_store import RunFolder


@pytest.fixture(scope="session")
def again(shared: Path) -> RunFolder:
    """`TINY` from another folder, with nothing cached, and in another time zone, locale and hash seed."""

    def make(folder: Path) -> None:
        elsewhere = folder / "else where"
        elsewhere.mkdir()
        changes = {"PYTHONHASHSEED": "4711", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "LANG": "de_DE", "COLUMNS": "40"}
        env = environment(folder / "environment", **changes)
        done = crh("run", *TINY, "--runs", folder / "another" / "store", env=env, cwd=elsewhere)
        assert done.returncode == 0, done.stderr
        assert not list(elsewhere.iterdir())
        shutil.rmtree(folder / "environment")

    return only_run(made_once(shared / "again", make) / "another" / "store")


def test_the_same_configuration_gives_the_same_final_checkpoint_hash(finished: RunFolder, again: RunFolder) -> None:
    assert again.checkpoints()[-1].name.hash == finished.checkpoints()[-1].name.hash


def test_every_byte_is_the_same_but_the_clock(finished: RunFolder, again: RunFolder) -> None:
    before, now = contents(finished.path), contents(again.path)
    assert sorted(before) == sorted(now)
    assert sum(name.startswith("checkpoints/") for name in now) == 3
    assert sum(name.startswith("reports/") for name in now) == 10
    timed = {"chronicle.jsonl", "chronicle.sums", ".lock"}  # timestamps; the writer's process id
    assert {name for name in now if now[name] != before[name]} <= timed
    assert chronicle_text(again) == chronicle_text(finished)


def test_another_seed_gives_other_bits(finished: RunFolder, other_seed: RunFolder) -> None:
    assert other_seed.run_document()["config_hash"] == finished.run_document()["config_hash"]
    assert other_seed.run_hash != finished.run_hash
    for mine, other in zip(finished.checkpoints(), other_seed.checkpoints(), strict=True):
        assert mine.name.hash != other.name.hash
    for mine, other in zip(finished.chronicle(), other_seed.chronicle(), strict=True):
        assert mine.loss != other.loss
