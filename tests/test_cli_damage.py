"""What the commands say of a run whose chronicle is damaged: never that the part that is left of it is the run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import EPOCHS, STEPS_PER_EPOCH, TINY, append, copied, crh, document, refused
from conftest import Made
from page_samples import Page
from store_samples import flip

from crh_train.chronicle import CHAIN_NAME, CHAIN_RECORD, LINES_NAME, SUM_BYTES, SUMS_NAME
from crh_train.page import read, render
from crh_train.run_store import RunFolder


def _changed(run: RunFolder) -> str:
    """A byte of the first line after the first epoch; returns what is said of it."""
    lines = (run.path / LINES_NAME).read_bytes().splitlines(keepends=True)
    flip(run.path / LINES_NAME, sum(map(len, lines[:STEPS_PER_EPOCH])) + 10)
    return f"chronicle.jsonl: line {STEPS_PER_EPOCH + 1}: "


def _cut(run: RunFolder) -> str:
    """All that was logged after the first epoch, from each of the three files, so that these agree."""
    lines = (run.path / LINES_NAME).read_bytes().splitlines(keepends=True)
    (run.path / LINES_NAME).write_bytes(b"".join(lines[:STEPS_PER_EPOCH]))
    for name, size in ((CHAIN_NAME, CHAIN_RECORD.size), (SUMS_NAME, SUM_BYTES)):
        (run.path / name).write_bytes((run.path / name).read_bytes()[: STEPS_PER_EPOCH * size])
    return (
        f"chronicle.jsonl: ends at step {STEPS_PER_EPOCH}, the newest checkpoint is of step {EPOCHS * STEPS_PER_EPOCH}"
    )


DAMAGES = pytest.mark.parametrize("damage", [_changed, _cut])


@DAMAGES
def test_list_and_show_call_it_damaged_and_count_nothing(
    damage: Callable[[RunFolder], str], store: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    said = damage(store)
    shown = document(crh("show", store.name, "--json", env=env, cwd=tmp_path))
    (listed,) = document(crh("list", "--json", env=env, cwd=tmp_path))["runs"]
    assert listed == shown
    assert shown["status"] == "damaged"
    assert shown["message"].startswith(said)
    assert [shown[key] for key in ("steps", "epochs", "last_loss", "chronicle_head")] == [None] * 4
    for command in (("show", store.name), ("list",)):
        done = crh(*command, env=env, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "DAMAGED" in done.stdout
        assert said in done.stdout
        assert "finished" not in done.stdout
        assert done.stdout.endswith(f"next: crh-train verify {store.name}\n")


@DAMAGES
@pytest.mark.parametrize("command", ["run", "resume", "diagnose", "watch"])
def test_what_rests_on_the_chronicle_is_refused(
    damage: Callable[[RunFolder], str], command: str, store: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    said = damage(store)
    words = TINY if command == "run" else [store.name]
    done = crh(command, *words, env=env, cwd=tmp_path)
    assert done.returncode == 3
    assert "finished" not in done.stdout
    if command == "watch":  # which shows what is good
        assert f"DAMAGED · good up to step {STEPS_PER_EPOCH} of {EPOCHS * STEPS_PER_EPOCH}" in done.stdout
        assert f"`crh-train verify {store.name}`" in done.stderr
        return
    message = refused(done, 3)
    assert message.startswith(f"run {store.name} is DAMAGED: {said}")
    assert f"`crh-train verify {store.name}`" in message


@DAMAGES
def test_the_page_tells_no_end_and_no_count(damage: Callable[[RunFolder], str], store: RunFolder) -> None:
    said = damage(store)
    found = Page(render(read(store)))
    assert f"The run is DAMAGED : {said}" in found.text
    assert "Run report · damaged" in found.text
    assert "stopped early" not in found.text
    assert f"({STEPS_PER_EPOCH} steps)" not in found.text
    assert "of a chain that is damaged" in found.text
    assert found.text.count(f"Of what is left of the chronicle, {STEPS_PER_EPOCH} lines") == 2


def test_what_a_crash_leaves_is_no_damage(
    interrupted: Made, finished: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    """The run of `stopped.py` was killed in the middle of the next line."""
    run = copied(interrupted.run("kill-stopped"), tmp_path / "runs")
    steps = document(crh("show", run.name, "--json", env=env, cwd=tmp_path))["steps"]
    lines = (finished.path / LINES_NAME).read_bytes().splitlines(keepends=True)
    append(run, lines[steps][:50], b"")
    shown = document(crh("show", run.name, "--json", env=env, cwd=tmp_path))
    assert (shown["status"], shown["message"], shown["steps"]) == ("unfinished", None, steps)
