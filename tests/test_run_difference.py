"""Two runs on disk: whatever differs is told, and where nothing does, nothing is."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import store_samples
from command_line import copied
from forged_runs import rewritten, ulp_up
from store_samples import CONFIG, MANIFEST, PROGRAM, SESSION, create_run, flip, make_run_document, train

from crh_train.checkpoint import Checkpoint
from crh_train.chronicle import ChronicleRecord
from crh_train.digest import digest_bytes, digest_json
from crh_train.document_difference import Entry
from crh_train.errors import CorruptCheckpoint, CorruptChronicle
from crh_train.run_difference import compare, document
from crh_train.run_folder import StoredProgram
from crh_train.run_store import RunFolder, RunStore

STEPS = 3 * store_samples.STEPS_PER_EPOCH


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = create_run(tmp_path / "runs")
    train(folder, 3)
    return folder


def made(root: Path, manifest: Any = MANIFEST, session: Any = SESSION, program: StoredProgram = PROGRAM) -> RunFolder:
    stated = {**make_run_document(), "dataset_state": digest_json(manifest)}
    return RunStore(root).create(stated, CONFIG, manifest, {**session, "program": program.digest}, program)


def test_the_same_run_in_two_stores_does_not_differ(run: RunFolder, tmp_path: Path) -> None:
    found = compare(run, copied(run, tmp_path / "other"))
    assert found.identical
    assert found.parted_by is None
    assert (found.configuration, found.data, found.environment, found.program) == ((), (), (), ())
    assert (found.steps_compared, found.checkpoints_compared, found.equal_after) == (STEPS, 3, STEPS)


@pytest.mark.parametrize("field", ["loss", "coherence", "lr"])
@pytest.mark.parametrize("step", [1, 4, 6])
def test_one_bit_of_one_number_is_found(run: RunFolder, tmp_path: Path, step: int, field: str) -> None:
    def edit(record: ChronicleRecord) -> ChronicleRecord:
        return record._replace(**{field: ulp_up(getattr(record, field))}) if record.step == step else record

    found = compare(run, rewritten(run, tmp_path / "other", edit_line=edit))
    ((told),) = found.chronicle
    assert (told.step, told.field, told.ulp) == (step, field, 1)
    assert found.state is None
    assert not found.identical
    assert (found.parted_by, found.equal_after) == (step, (step - 1) // 2 * 2)


def test_every_field_of_the_first_step_and_of_no_later_one_is_told(run: RunFolder, tmp_path: Path) -> None:
    def edit(record: ChronicleRecord) -> ChronicleRecord:
        return record._replace(loss=ulp_up(record.loss), lr=ulp_up(record.lr)) if record.step > 2 else record

    found = compare(run, rewritten(run, tmp_path / "other", edit_line=edit))
    assert [(each.step, each.field) for each in found.chronicle] == [(3, "loss"), (3, "lr")]


def test_one_bit_of_one_leaf_is_found(run: RunFolder, tmp_path: Path) -> None:
    def edit(saved: Checkpoint) -> Checkpoint:
        if saved.step < 4:
            return saved
        kernel = saved.optimizer_state["mu/dense/kernel"].copy()
        kernel[1, 2] = ulp_up(kernel[1, 2])
        return dataclasses.replace(saved, optimizer_state={**saved.optimizer_state, "mu/dense/kernel": kernel})

    found = compare(run, rewritten(run, tmp_path / "other", edit_checkpoint=edit))
    assert found.chronicle == ()
    assert found.state is not None
    assert found.state.step == 4
    ((told),) = found.state.arrays
    assert (told.name, told.element, told.differing, told.ulp) == ("optimizer mu/dense/kernel", (1, 2), 1, 1)
    assert (found.parted_by, found.equal_after, found.checkpoints_compared) == (4, 2, 2)


def test_the_root_key_is_part_of_the_state(run: RunFolder, tmp_path: Path) -> None:
    def edit(saved: Checkpoint) -> Checkpoint:
        return dataclasses.replace(saved, rng_state=saved.rng_state + np.uint32(1))

    found = compare(run, rewritten(run, tmp_path / "other", edit_checkpoint=edit))
    assert found.state is not None
    assert [told.name for told in found.state.arrays] == ["root key"]


def test_a_run_that_goes_on_further_is_not_identical_but_parts_nowhere(run: RunFolder, tmp_path: Path) -> None:
    shorter = create_run(tmp_path / "other")
    train(shorter, 2)
    found = compare(run, shorter)
    assert (found.identical, found.parted_by, found.steps, found.steps_compared) == (False, None, (6, 4), 4)


def test_another_seed_is_a_difference_of_the_configuration(run: RunFolder, tmp_path: Path) -> None:
    other = create_run(tmp_path / "other", seed=8)
    assert compare(run, other).configuration == (Entry("engine.seed", {"a": 7, "b": 8}),)


def test_files_splits_and_samples_are_told_by_name(run: RunFolder, tmp_path: Path) -> None:
    sample = MANIFEST["samples"][0]
    manifest = {
        **MANIFEST,
        "files": [{"name": "template", "sha256": "ce" * 32}, {"name": "new", "sha256": "00" * 32}],
        "samples": [{**sample, "split": "validation"}, {**sample, "id": "template/axial/001"}],
    }
    found = compare(run, made(tmp_path / "other", manifest=manifest))
    assert found.data == (
        Entry("files.new", {"b": "00" * 32}),
        Entry("files.template", {"a": "cd" * 32, "b": "ce" * 32}),
        Entry("samples.validation", {"b": 1}),
        Entry("samples: only in B", {"b": "template/axial/001"}),
        Entry("samples: split of template/axial/000", {"a": "train", "b": "validation"}),
    )


def test_the_order_of_samples_is_a_difference_too(tmp_path: Path) -> None:
    samples = [{**MANIFEST["samples"][0], "id": name} for name in ("x", "y")]
    one, other = (
        made(tmp_path / name, manifest={**MANIFEST, "samples": order})
        for name, order in (("one", samples), ("other", samples[::-1]))
    )
    assert compare(one, other).data == (Entry("samples: order", {"a": ["x", "y"], "b": ["y", "x"]}),)


def test_sessions_are_told_by_what_they_had_in_turn(run: RunFolder, tmp_path: Path) -> None:
    other = copied(run, tmp_path / "other")
    other.add_session({**SESSION, "first_step": 4, "fingerprint": {"threads": 2}})
    assert compare(run, other).environment == (
        Entry("sessions from step", {"a": 0, "b": [0, 4]}),
        Entry("threads", {"a": 4, "b": [4, 2]}),
    )


def test_another_program_is_told_by_function(run: RunFolder, tmp_path: Path) -> None:
    files = {**PROGRAM.files, "step": b"another step"}
    functions = {name: {"sha256": digest_bytes(data)} for name, data in files.items()}
    other = made(tmp_path / "other", program=StoredProgram({**PROGRAM.document, "functions": functions}, files))
    sums = {side: digest_bytes(data) for side, data in (("a", PROGRAM.files["step"]), ("b", b"another step"))}
    assert compare(run, other).program == (Entry("functions.step", sums),)


def test_what_is_damaged_is_refused_and_not_compared(run: RunFolder, tmp_path: Path) -> None:
    other = copied(run, tmp_path / "other")
    flip(other.checkpoints()[1].path, -1)
    with pytest.raises(CorruptCheckpoint, match="does not have its SHA-256"):
        compare(run, other)
    flip(other.path / "chronicle.jsonl", 20)
    with pytest.raises(CorruptChronicle):
        compare(run, other)


def test_as_json_it_says_a_and_b(run: RunFolder, tmp_path: Path) -> None:
    told = document(compare(run, create_run(tmp_path / "other", seed=8)))
    assert told["configuration"] == [{"key": "engine.seed", "a": 7, "b": 8}]
    assert (told["identical"], told["steps"], told["state"]) == (False, [6, 0], None)
