"""`replay` in processes of its own: that it finds nothing where nothing changed, and the first bit where one did."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from command_line import EPOCHS, STEPS_PER_EPOCH, STOPPED, contents, crh, document
from conftest import Made
from forged_runs import rewritten, ulp_up

from crh_train import checkpoint
from crh_train.checkpoint import Checkpoint
from crh_train.chronicle import ChronicleRecord
from crh_train.run_store import RunFolder, RunStore

STEPS = EPOCHS * STEPS_PER_EPOCH


@pytest.fixture
def own(tmp_path: Path, env: dict[str, str]) -> dict[str, str]:
    """The environment with a folder for scratch that is this test's own."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return {**env, "TMPDIR": str(scratch)}


@pytest.fixture
def compiles(own: dict[str, str], compiling: dict[str, str]) -> dict[str, str]:
    """`own`, in which everything is compiled anew."""
    return {**compiling, "TMPDIR": own["TMPDIR"]}


def scratch(own: Mapping[str, str]) -> list[Path]:
    return list(Path(own["TMPDIR"]).iterdir())


def hash_after(run: RunFolder, epoch: int) -> str:
    (found,) = [saved.name.hash for saved in run.checkpoints() if saved.name.step == epoch * STEPS_PER_EPOCH]
    return found


def test_an_untouched_run_is_identical_and_stays_untouched(finished: RunFolder, compiles: dict[str, str]) -> None:
    before = contents(finished.path), {path: path.stat().st_mtime_ns for path in finished.path.rglob("*")}
    said = crh("replay", finished.name, env=compiles, cwd=finished.path.parents[1])
    assert (said.returncode, said.stderr) == (0, "")
    assert f"replayed  {finished.name}, steps 1 to {STEPS}\n" in said.stdout
    assert f"compared  {STEPS} chronicle lines, {EPOCHS} checkpoints\n" in said.stdout
    assert "program   the one that was archived with the run\n" in said.stdout
    assert "promise   portable arithmetic: the same bits are promised on every machine\n" in said.stdout
    assert f"state     {hash_after(finished, EPOCHS)}\n" in said.stdout
    assert "verdict   identical: every bit is the same\n" in said.stdout
    assert said.stdout.endswith(f"next: crh-train verify {finished.name}\n")
    assert scratch(compiles) == []
    assert (contents(finished.path), {path: path.stat().st_mtime_ns for path in finished.path.rglob("*")}) == before


@pytest.mark.parametrize(("words", "begin", "end"), [(("--from", "1", "--to", "2"), 1, 2), (("--from", "2"), 2, 3)])
def test_a_segment_gives_what_the_whole_gave(
    finished: RunFolder, own: dict[str, str], words: tuple[str, ...], begin: int, end: int
) -> None:
    said = crh("replay", finished.name, *words, "--json", env=own, cwd=finished.path.parents[1])
    assert said.returncode == 0, said.stderr
    found = document(said)
    assert found["identical"] is True
    assert (found["first_step"], found["last_step"]) == (begin * STEPS_PER_EPOCH, end * STEPS_PER_EPOCH)
    assert found["steps_compared"] == (end - begin) * STEPS_PER_EPOCH
    assert found["checkpoints_compared"] == end - begin
    assert found["final_state"] == hash_after(finished, end)


def test_a_resumed_run_replays_from_the_start(interrupted: Made, compiles: dict[str, str]) -> None:
    run = interrupted.run("term")
    said = crh("replay", run.name, "--json", env=compiles, cwd=interrupted.folder / "term")
    assert said.returncode == 0, said.stderr
    found = document(said)
    assert (found["steps_compared"], found["segments"]) == (STEPS, 1)
    assert found["checkpoints_compared"] == len(run.checkpoints()) == EPOCHS + 1, "one is inside an epoch"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--from", "9"), "--from 9: run {} has no checkpoint there; it has epochs 0, 1, 2, 3"),
        (("--to", "4"), "--to 4: run {} got to epoch 3; give at most 3"),
        (("--from", "2", "--to", "1"), "run {} has nothing to replay from step 12 to step 6; --from comes first"),
    ],
)
def test_an_epoch_that_is_not_there_is_refused_with_those_that_are(
    finished: RunFolder, own: dict[str, str], words: tuple[str, ...], expected: str
) -> None:
    said = crh("replay", finished.name, *words, env=own, cwd=finished.path.parents[1])
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == f"error: {expected.format(finished.name)}\n"
    assert scratch(own) == []


def test_one_ulp_in_one_logged_loss_is_found(finished: RunFolder, own: dict[str, str], tmp_path: Path) -> None:
    def edit(record: ChronicleRecord) -> ChronicleRecord:
        return record._replace(loss=ulp_up(record.loss)) if record.step == 8 else record

    forged = rewritten(finished, tmp_path / "runs", edit_line=edit)
    assert crh("verify", forged.name, env=own, cwd=tmp_path).returncode == 0
    said = crh("replay", forged.name, "--json", env=own, cwd=tmp_path)
    assert said.returncode == 1
    found = document(said)
    assert found["identical"] is False
    assert found["promised"] is True
    true = finished.chronicle()[7].loss
    expected = {"step": 8, "field": "loss", "recorded": str(ulp_up(true)), "replayed": str(true), "ulp": 1}
    assert found["difference"] == expected
    assert found["arrays"] == []
    assert Path(found["scratch"]).parent == Path(own["TMPDIR"])
    (kept,) = RunStore(Path(found["scratch"])).list()
    assert [record.step for record in kept.chronicle()] == list(range(1, 10)), "it stopped soon after"


def test_one_ulp_in_one_weight_is_found(finished: RunFolder, own: dict[str, str], tmp_path: Path) -> None:
    name = "layer.01.kernel"

    def edit(saved: Checkpoint) -> Checkpoint:
        if saved.epoch_index != 2:
            return saved
        weights = saved.model_state[name].copy()
        weights.flat[3] = ulp_up(weights.flat[3])
        return dataclasses.replace(saved, model_state={**saved.model_state, name: weights})

    forged = rewritten(finished, tmp_path / "runs", edit_checkpoint=edit)
    assert crh("verify", forged.name, env=own, cwd=tmp_path).returncode == 0
    said = crh("replay", forged.name, env=own, cwd=tmp_path)
    assert said.returncode == 1
    size = checkpoint.read(finished.checkpoints()[0].path).model_state[name].size
    assert (
        f"differs   state after step 12: 'model {name}': 1 of {size} elements differ, by at most 1 ulp\n" in said.stdout
    )
    assert "verdict   DIFFERENT\n" in said.stdout
    (kept,) = RunStore(*scratch(own)).list()
    assert kept.checkpoints()[0].name.hash == hash_after(finished, 2), "what the replay had in place of it"


def test_another_key_is_found(finished: RunFolder, own: dict[str, str], tmp_path: Path) -> None:
    def edit(saved: Checkpoint) -> Checkpoint:
        return dataclasses.replace(saved, rng_state=saved.rng_state + np.uint32(saved.epoch_index == 1))

    forged = rewritten(finished, tmp_path / "runs", edit_checkpoint=edit)
    said = crh("replay", forged.name, "--json", env=own, cwd=tmp_path)
    assert said.returncode == 1
    found = document(said)
    assert found["arrays"] == [f"state after step {STEPS_PER_EPOCH}: 'root key': 2 of 2 elements differ"]
    assert (found["steps_compared"], found["checkpoints_compared"]) == (STEPS_PER_EPOCH, 1), "and nothing after it"


def test_other_threads_give_the_same_bits(finished: RunFolder, compiles: dict[str, str]) -> None:
    recorded = finished.sessions()[0]["fingerprint"]["threads"]
    words = (f"runtime.threads={recorded + 1}", "--to", "1", "--json")
    found = document(crh("replay", finished.name, *words, env=compiles, cwd=finished.path.parents[1]))
    assert (found["identical"], found["promised"]) == (True, True)
    assert found["promise"] == (
        "portable arithmetic: the same bits are promised on every machine; what differs here: threads"
    )


def test_a_replay_that_is_stopped_says_so_and_leaves_nothing(finished: RunFolder, own: dict[str, str]) -> None:
    before = contents(finished.path)
    words = ("SIGTERM", "3", "replay", finished.name)
    said = crh(*words, env=own, cwd=finished.path.parents[1], program=(str(STOPPED),))
    assert (said.returncode, said.stdout) == (130, "")
    assert said.stderr == (
        f"error: the replay of run {finished.name} was stopped; 4 of its steps were compared and are the same. "
        "The run itself was not touched: replay it again\n"
    )
    assert scratch(own) == []
    assert contents(finished.path) == before


def test_only_runtime_can_be_changed(finished: RunFolder, own: dict[str, str]) -> None:
    said = crh("replay", finished.name, "engine.epochs=4", env=own, cwd=finished.path.parents[1])
    assert said.returncode == 2
    assert said.stderr == "error: 'engine.epochs=4' would make another run; only runtime.KEY=VALUE can change here\n"
