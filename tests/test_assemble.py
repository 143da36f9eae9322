"""From a configuration to a run's parts, identity and program: what fits together, and what a batch depends on."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_samples import configured, outputs, start_python

from crh_train import SEMANTICS_VERSION, chromatic, metrics
from crh_train.archive import open_program
from crh_train.assemble import FACTORIES, archive_program, factory, identify, layout, make_parts
from crh_train.compose import compose, packaged_conf
from crh_train.config import PARTS, RunConfig
from crh_train.data import manifest
from crh_train.data.dataset import PreparedSplit
from crh_train.data.volume import Segment, Source, Volume
from crh_train.digest import digest_json
from crh_train.distribution import placements
from crh_train.engine import StepParts, make_init, make_train_step
from crh_train.errors import ConfigError
from crh_train.randomness import root_key
from crh_train.state import state_digest, to_host
from crh_train.tasks.labels import check_labels
from crh_train.training import Program, make_program
from crh_train.types import Batch, Layout

CONFIGURATIONS = ["chromatic", "mri_cosine", "mri_denoise", "mri_step", "mri_superres", "temporal", "tissue_linear"]
SAMPLES = 13


@functools.cache
def small(name: str = "mri_step", *overrides: str) -> RunConfig:
    """Under native determinism, which is quick to compile; what portable gives is tested elsewhere."""
    sizes = ["data.shape=[16,16]", "engine.batch_size=4", "engine.epochs=3", "determinism=native"]
    return compose(name, [*sizes, *overrides], [packaged_conf()])


def split_of(config: RunConfig, samples: int = SAMPLES) -> PreparedSplit:
    """Sample number i is i everywhere, and so are its labels modulo the classes."""
    shape = (samples, config.data.slices, *config.data.shape)
    number = np.broadcast_to(np.arange(samples).reshape(-1, 1, 1, 1), shape)
    labels = (number % 3).astype(np.int32) if config.task.name == "tissue" else None
    return PreparedSplit(np.float32(number) / np.float32(samples), labels, tuple(f"s/{i:03d}" for i in range(samples)))


def changed(config: RunConfig, section: str, **fields: Any) -> RunConfig:
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **fields)})


def source_of(digest: str = "ab" * 32, samples: int = SAMPLES, slices: int = 1, classes: int = 0) -> Source:
    """One volume; so many training samples of `slices` slices."""

    def read() -> Any:
        raise AssertionError("neither an identity nor a program needs the volumes")

    train = samples + slices - 1
    volume = Volume("head", {"head.nii": digest}, (20, 20, train + slices), (1.0, 1.0, 1.0), "RAS", read)
    segments = (Segment("head", "train", 0, train), Segment("head", "validation", train, train + slices))
    return Source("sample", (volume,), segments, classes)


def program_for(config: RunConfig, split: PreparedSplit | None = None) -> Program:
    """The program that `config` makes of `split`."""
    train = split_of(config) if split is None else split
    source = source_of(samples=len(train.ids), slices=config.data.slices, classes=0 if train.labels is None else 3)
    stored = archive_program(config, source, manifest.build(source, config.data))
    check_labels(make_parts(config, stored.document["steps_per_epoch"], layout(config, source)).task, train.labels)
    return make_program(config, open_program(stored, placements(config.runtime)[0]), train)


def parts_of(config: RunConfig) -> StepParts:
    classes = 3 if config.task.name == "tissue" else 0
    return make_parts(config, 3, layout(config, source_of(classes=classes)))


def refusal(config: RunConfig, split: PreparedSplit | None = None) -> str:
    with pytest.raises(ConfigError) as raised:
        program_for(config, split)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- the table -----------------------------------------------------------------------------------------------------


def test_every_choice_of_the_schema_has_a_factory_and_no_other() -> None:
    listed = {group: set(names) for group, names in FACTORIES.items()}
    assert listed == {group: set(names) for group, names in PARTS.items()}


def test_an_unknown_part_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"^optimizer.name='adamw' is unknown: did you mean 'adam'\?$"):
        factory("optimizer", "adamw")


# --- programs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_configuration_makes_a_step_that_fits_its_state(name: str) -> None:
    config = small(name)
    program = program_for(config)
    assert program.steps_per_epoch == SAMPLES // 4
    start = jax.eval_shape(program.init, program.root)
    state, found = jax.eval_shape(program.train_step, start, program.load(0))
    assert jax.tree.structure(state) == jax.tree.structure(start)
    for before, after in zip(jax.tree.leaves(start), jax.tree.leaves(state), strict=True):
        assert (before.shape, before.dtype) == (after.shape, after.dtype)
    assert (found.loss.shape, found.loss.dtype) == ((), jnp.float32)
    assert found.leaf_grad_norms.shape == (len(program.leaf_names),)
    assert list(program.leaf_names) == sorted(start.params)


@functools.cache
def program_of(config_seed: int) -> Program:
    config = changed(
        small("tissue_linear", "augmentation=none", "model.channels=2", "model.layers=2"), "engine", seed=config_seed
    )
    return program_for(config)


def trained(program: Program, steps: int) -> str:
    state = program.init(program.root)
    for done in range(steps):
        state, _ = program.train_step(state, program.load(done))
    return state_digest(to_host(state))


def test_training_goes_on_over_epochs_and_from_the_start_again() -> None:
    """The step takes over the state's memory; the root key, which starts a state, must outlive it."""
    program = program_of(0)
    once = trained(program, 2 * program.steps_per_epoch)
    assert trained(program, 2 * program.steps_per_epoch) == once
    assert trained(program_of(1), 2 * program.steps_per_epoch) != once


# --- batches -------------------------------------------------------------------------------------------------------


def drawn(program: Program, done: int) -> list[int]:
    return np.asarray(program.load(done).sample).tolist()


def test_a_batch_depends_on_nothing_but_seed_and_step() -> None:
    program, another = program_of(0), program_for(small())
    steps = 3 * program.steps_per_epoch
    forwards = [drawn(program, done) for done in range(steps)]
    backwards = [drawn(another, done) for done in reversed(range(steps))]
    assert backwards[::-1] == forwards
    assert [drawn(program_of(1), done) for done in range(steps)] != forwards


def test_an_epoch_visits_no_sample_twice_and_the_next_one_in_another_order() -> None:
    program = program_of(0)
    epochs = [[index for batch in range(3) for index in drawn(program, epoch * 3 + batch)] for epoch in range(3)]
    for visited in epochs:
        assert len(set(visited)) == len(visited) == 12
        assert set(visited) <= set(range(SAMPLES))
    assert epochs[0] != epochs[1] != epochs[2]


def test_images_and_labels_are_those_of_the_samples() -> None:
    batch = program_of(0).load(4)
    split = split_of(small("tissue_linear"))
    assert split.labels is not None
    assert batch.label is not None
    chosen = np.asarray(batch.sample)
    assert np.asarray(batch.image).tobytes() == split.images[chosen].tobytes()
    assert np.asarray(batch.label).tobytes() == split.labels[chosen].tobytes()
    assert [array.dtype for array in batch] == [jnp.float32, jnp.int32, jnp.int32]


def test_a_source_without_labels_gives_batches_without() -> None:
    assert program_for(small()).load(0).label is None


# --- what does not fit ---------------------------------------------------------------------------------------------


def parts_refusal(name: str, **sections: dict[str, Any] | Any) -> str:
    config = dataclasses.replace(small(name), **{k: v for k, v in sections.items() if not isinstance(v, dict)})
    for section, fields in sections.items():
        if isinstance(fields, dict):
            config = changed(config, section, **fields)
    with pytest.raises(ConfigError) as raised:
        parts_of(config)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_batch_that_micro_batches_and_devices_do_not_divide_is_refused() -> None:
    assert parts_refusal("mri_step", engine={"micro_batches": 3}).startswith(
        "engine.batch_size=4 must be a multiple of engine.micro_batches x runtime.devices = 3 x 1"
    )
    said = parts_refusal("mri_step", engine={"micro_batches": 2}, runtime={"devices": 4})
    assert said.startswith("engine.batch_size=4 must be a multiple of engine.micro_batches x runtime.devices = 2 x 4")


def test_a_loss_that_does_not_fit_the_task_is_refused() -> None:
    losses = {name: configured(loss=name).loss for name in PARTS["loss"]}
    for name, loss in losses.items():
        if name not in ("cross_entropy", "dice_cross_entropy"):
            said = parts_refusal("tissue_linear", loss=loss)
            fitting = "loss=dice_cross_entropy or loss=cross_entropy"
            assert said == f"loss={name} does not fit task=tissue; choose {fitting}"
    said = parts_refusal("mri_step", loss=losses["cross_entropy"])
    assert said == "loss=cross_entropy does not fit task=reconstruction; choose task=segmentation, or another loss"
    said = parts_refusal("mri_step", loss=losses["chromatic_coherence"])
    assert said == "loss=chromatic_coherence needs colour fields; choose tokenizer=chromatic"


def test_whole_cases_are_classified_from_any_model_and_pixels_losses_refused() -> None:
    config = dataclasses.replace(small("tissue_linear"), task=configured(task="classification").task)
    config = changed(changed(config, "tokenizer", patch=2), "data", slices=2)
    cases = Layout(2, 16, 16, 2, 3, "case")
    parts = make_parts(config, 3, cases)
    image, label = jnp.zeros((4, 2, 16, 16, 2)), jnp.array([0, 1, 2, 1])
    batch = Batch(image, label, jnp.arange(4))
    _, found = jax.eval_shape(make_train_step(parts, 2), jax.eval_shape(make_init(parts), root_key(0)), batch)
    assert found.loss.shape == found.coherence.shape == ()
    params = jax.eval_shape(parts.model.init, root_key(0))
    assert jax.eval_shape(parts.model.apply, params, jnp.zeros((4, 2, 8, 8, 8))).shape == (4, 3)
    dice = dataclasses.replace(config, loss=configured(loss="dice_cross_entropy").loss)
    with pytest.raises(
        ConfigError, match="loss=dice_cross_entropy does not fit task=classification; choose loss=cross"
    ):
        make_parts(dice, 3, cases)


def test_samples_that_the_model_takes_in_patches_only_are_refused_before_training() -> None:
    config = small("tissue_3d", "augmentation.patch=[4,8,8]", "data.slices=6", "model.channels=2")
    source = source_of(slices=6, classes=3)
    with pytest.raises(ConfigError, match=r"slices by 4, .* got 6×16×16: change data.slices"):
        archive_program(config, source, manifest.build(source, config.data))


def test_what_a_task_draws_is_new_at_each_step_and_depends_on_the_sample_alone() -> None:
    config = small("mri_denoise", "augmentation=none", "model.channels=2", "model.layers=2")
    parts = make_parts(config, 3, layout(config, source_of()))
    start = make_init(parts)(root_key(0))
    same = jnp.full((2, 1, 16, 16), 0.5)
    step = jax.jit(make_train_step(parts, 1))

    def at(number: int, *samples: int) -> float:
        state = start._replace(step=jnp.int32(number))
        return float(step(state, Batch(same, None, jnp.array(samples)))[1].loss)

    assert at(0, 4, 4) == at(0, 4, 4)
    assert len({at(0, 4, 4), at(0, 7, 7), at(1, 4, 4)}) == 3
    assert at(0, 4, 7) == pytest.approx((at(0, 4, 4) + at(0, 7, 7)) / 2, rel=1e-6)


def test_patches_where_each_pixel_counts_are_refused() -> None:
    assert "needs one pixel each: patch=1" in parts_refusal("mri_cosine", tokenizer={"patch": 2})
    assert "task=tissue needs one pixel each: patch=1" in parts_refusal("tissue_linear", tokenizer={"patch": 2})


def test_images_too_small_to_be_validated_are_refused_before_training() -> None:
    assert parts_refusal("mri_step", data={"shape": [6, 48]}).startswith("data.shape=[6, 48] must be at least 7 pixels")
    parts_of(changed(small("tissue_linear"), "data", shape=[6, 48]))


def test_parts_whose_shapes_do_not_fit_are_refused_before_training() -> None:
    config = changed(small("mri_cosine"), "data", shape=[20, 20])
    assert refusal(config).startswith("model=unet with pools=3 expects rows and columns of tokens divisible by 8")
    config = changed(small("temporal"), "data", shape=[20, 20])
    assert refusal(config).startswith("tokenizer.patch=8 must divide the image's rows and columns, got 20×20")


def test_a_task_on_classes_needs_labels_within_them() -> None:
    config = small("tissue_linear")
    assert "needs a source with labels" in refusal(config, split_of(config)._replace(labels=None))
    assert "labels go from 0 to 2" in refusal(changed(config, "task", classes=2))


def test_a_split_smaller_than_a_batch_is_refused() -> None:
    assert refusal(small(), split_of(small(), 3)).startswith("engine.batch_size=4 must be at most the number of")


def test_more_devices_than_there_are_are_refused() -> None:
    count = len(jax.devices())
    config = changed(changed(small(), "runtime", devices=2 * count), "engine", batch_size=4 * count)
    assert refusal(config, split_of(config, 16)) == f"runtime.devices={2 * count}, but there are {count} (cpu)"


TWO_DEVICES = """
import os
from crh_train import environment

environment.configure(os.environ, threads=2, devices=2)
import jax
from test_assemble import changed, program_for, small, trained

config = changed(small("mri_step", "augmentation=none", "model.channels=2", "model.layers=2"), "runtime", devices=2)
program = program_for(config)
start = jax.tree.leaves(program.init(program.root))
print([shard.data.shape for shard in program.load(0).image.addressable_shards], trained(program, 2))
print({len(leaf.devices()) for leaf in start}, {leaf.is_fully_replicated for leaf in start})
"""


def test_each_of_two_devices_takes_half_a_batch_to_the_same_bits_each_time() -> None:
    one, other = outputs(start_python(TWO_DEVICES), start_python(TWO_DEVICES))
    assert one.startswith("[(2, 1, 16, 16), (2, 1, 16, 16)] ")
    assert one.splitlines()[1] == "{2} {True}", "the state lies whole on both"
    assert one == other


# --- coherence -----------------------------------------------------------------------------------------------------

NORMAL = np.random.default_rng(0).standard_normal


def test_coherence_of_images_is_the_cosine_similarity_of_prediction_and_target() -> None:
    prediction, target = (jnp.asarray(NORMAL((2, 1, 4, 4, 1)), jnp.float32) for _ in range(2))
    found = parts_of(small("mri_step")).coherence(prediction, target)
    assert found.tobytes() == metrics.coherence_cosine(prediction, target).tobytes()
    product = np.sum(np.asarray(prediction, np.float64) * np.asarray(target, np.float64))
    assert float(found) == pytest.approx(product / np.linalg.norm(prediction) / np.linalg.norm(target), rel=1e-5)


def test_coherence_of_classes_compares_probabilities_with_the_true_class() -> None:
    coherence = parts_of(small("tissue_linear")).coherence
    target = jnp.asarray(np.arange(16).reshape(1, 1, 4, 4) % 3, jnp.int32)
    sure = 40 * jax.nn.one_hot(target, 3)
    assert float(coherence(sure, target)) == pytest.approx(1.0, abs=1e-6)
    assert float(coherence(jnp.zeros_like(sure), target)) == pytest.approx(3**-0.5, abs=1e-6)


def test_coherence_of_colour_fields_is_theirs_alone() -> None:
    coherence = jax.jit(parts_of(small("chromatic")).coherence)
    prediction = jnp.asarray(np.random.default_rng(1).random((2, 1, 4, 4, 4)), jnp.float32)
    found = coherence(prediction, jnp.zeros_like(prediction))
    assert found.tobytes() == coherence(prediction, prediction).tobytes()
    one_by_one = [coherence(prediction[index : index + 1], None) for index in range(2)]
    assert float(found) == pytest.approx(float(np.mean(one_by_one)), rel=1e-6)
    each = jax.jit(lambda tokens: chromatic.coherence(chromatic.to_chromatic_tensor(tokens).colours))(prediction)
    assert each.shape == (2,)
    assert float(found) == pytest.approx(float(np.mean(each)), rel=1e-6)


# --- identity ------------------------------------------------------------------------------------------------------


def test_a_run_hash_is_of_configuration_data_seed_and_semantics() -> None:
    identity = identify(small(), source_of())
    assert identity.run == {
        "config_hash": digest_json(identity.config),
        "dataset_state": digest_json(identity.manifest),
        "seed": 0,
        "semantics_version": SEMANTICS_VERSION,
    }
    assert identity.run_hash == digest_json(identity.run)


def test_each_of_them_makes_another_run_and_nothing_else_does() -> None:
    config = small()
    identity = identify(config, source_of())
    seed = identify(changed(config, "engine", seed=1), source_of())
    data = identify(config, source_of("cd" * 32))
    epochs = identify(changed(config, "engine", epochs=4), source_of())
    digits = [identify(small("mri_step", f"determinism={level}"), source_of()) for level in ("portable",)]
    digits += [
        identify(small("mri_step", "determinism=portable", f"determinism.digits={number}"), source_of())
        for number in (2, 4)
    ]
    assert len({each.run_hash for each in (identity, seed, data, epochs, *digits)}) == 7
    assert seed.run["config_hash"] == identity.run["config_hash"] == data.run["config_hash"]
    assert seed.run["dataset_state"] == identity.run["dataset_state"] != data.run["dataset_state"]
    elsewhere = changed(config, "runtime", devices=2, threads=7, checkpoint_every=5, data_root="/x", cache="/y")
    assert identify(elsewhere, source_of()) == identity


def test_what_optimizer_and_scheduler_serialize_is_in_the_config_hash() -> None:
    """So that a change of a formula, which no field shows, is another configuration."""
    document = identify(small(), source_of()).config
    assert document["optimizer"]["name"] == "rmsprop"
    assert document["scheduler"]["name"] == "step_decay"
    assert document["optimizer"]["formula"] >= 1
    assert document["scheduler"]["formula"] >= 1


def test_a_path_of_this_machine_is_in_no_identity(tmp_path: Path) -> None:
    config = changed(small(), "runtime", data_root=str(tmp_path), cache=str(tmp_path))
    identity = identify(config, source_of())
    assert str(tmp_path) not in repr(identity)
