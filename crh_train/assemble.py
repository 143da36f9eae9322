"""From a configuration to the parts of a run, and from the parts to its program. The only table from a name to a
factory; `registry.py` says how a third party adds one.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from crh_train import (
    SEMANTICS_VERSION,
    archive,
    chromatic,
    learning_rate_factor,
    loss_functions,
    metrics,
    optimizer,
    scheduler,
    tokenizer,
)
from crh_train.archive import Flat, Function
from crh_train.batches import check_batch
from crh_train.config import RunConfig, semantic
from crh_train.data import augmentation, index_stream, medical_augmentation, preparation
from crh_train.data import manifest as manifests
from crh_train.data.sources import SOURCES
from crh_train.data.volume import Source, image_shape
from crh_train.determinism import Determinism, make_native, make_portable
from crh_train.digest import digest_json
from crh_train.engine import StepParts, make_init, make_predict, make_train_step
from crh_train.errors import ConfigError
from crh_train.models import cnn, gru, mlp, unet, unet3d
from crh_train.models.read_out import averaged
from crh_train.randomness import root_key, wrapped
from crh_train.registry import registered
from crh_train.run_folder import Identity, StoredProgram
from crh_train.state import flatten, unflatten
from crh_train.tasks import denoising, labels, paired, reconstruction, super_resolution
from crh_train.types import Batch, Layout, Model, Params, Task, Tokenizer

FACTORIES: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "data": SOURCES,
    "task": {
        "reconstruction": reconstruction.make,
        "denoising": denoising.make,
        "super_resolution": super_resolution.make,
        "tissue": labels.make_tissue,
        "segmentation": labels.make_segmentation,
        "classification": labels.make_classification,
        "paired": paired.make,
    },
    "tokenizer": {"intensity": tokenizer.make_intensity, "chromatic": tokenizer.make_chromatic},
    "augmentation": {"standard": augmentation.make, "medical": medical_augmentation.make},
    "model": {"mlp": mlp.make, "cnn": cnn.make, "unet": unet.make, "unet3d": unet3d.make, "gru": gru.make},
    "loss": {
        "mse": loss_functions.make_mse,
        "l1": loss_functions.make_l1,
        "cross_entropy": loss_functions.make_cross_entropy,
        "dice_cross_entropy": loss_functions.make_dice_cross_entropy,
        "structural": loss_functions.make_structural,
        "chromatic_coherence": loss_functions.make_chromatic_coherence,
        "temporal_smoothness": loss_functions.make_temporal_smoothness,
    },
    "optimizer": {
        "sgd": optimizer.make_sgd,
        "adam": optimizer.make_adam,
        "rmsprop": optimizer.make_rmsprop,
        "chromatic_sgd": optimizer.make_chromatic_sgd,
    },
    "scheduler": {
        "linear_decay": scheduler.make_linear_decay,
        "cosine_annealing": scheduler.make_cosine_annealing,
        "step_decay": scheduler.make_step_decay,
    },
    "determinism": {"portable": make_portable, "native": make_native},
}


_OF_CLASSES = ("cross_entropy", "dice_cross_entropy")  # the losses whose targets are classes


def factory(group: str, name: str) -> Callable[..., Any]:
    """The factory of the part `name` of `group`. Raises `ConfigError` naming the nearest one."""
    return registered(group, name, FACTORIES[group])


def determinism(config: RunConfig) -> Determinism:
    made: Determinism = factory("determinism", config.determinism.name)(config.determinism)
    return made


def identify(config: RunConfig, source: Source) -> Identity:
    """The identity of the run that `config` describes on the data of `source`."""
    policy = _scheduler(config)
    rule = factory("optimizer", config.optimizer.name)(config.optimizer)
    document = {
        "config": semantic(config),
        "optimizer": json.loads(rule.serialize()),
        "scheduler": json.loads(policy.serialize()),
    }
    manifest = manifests.build(source, config.data)
    run = {
        "config_hash": digest_json(document),
        "dataset_state": manifests.dataset_state(manifest),
        "seed": config.engine.seed,
        "semantics_version": SEMANTICS_VERSION,
    }
    return Identity(document, manifest, run)


def layout(config: RunConfig, source: Source) -> Layout:
    """What every sample of `source` is under `config`. Raises `ConfigError` where `data.shape` is no picture's."""
    if len(config.data.shape) != 2:
        raise ConfigError(f"data.shape must be [rows, columns], got {config.data.shape}")
    rows, columns = config.data.shape
    return Layout(config.data.slices, rows, columns, source.channels, source.classes, source.labelled)


def make_parts(config: RunConfig, steps_per_epoch: int, samples: Layout) -> StepParts:
    """The pure functions that `config` names. Raises `ConfigError` where two choices do not fit together."""
    goal: Task = factory("task", config.task.name)(config.task, samples)
    tokens: Tokenizer = factory("tokenizer", config.tokenizer.name)(config.tokenizer, goal.channels)
    _check_fit(config, goal)
    schedule = _scheduler(config).schedule(steps_per_epoch)
    rule: optimizer.Optimizer = factory("optimizer", config.optimizer.name)(config.optimizer)
    acts = config.diagnostics.act
    chromatic_output = config.tokenizer.name == "chromatic" and not goal.classes
    model: Model = factory("model", config.model.name)(
        config.model, tokens.channels, goal.classes if goal.classes else tokens.channels
    )
    return StepParts(
        augment=factory("augmentation", config.augmentation.name)(config.augmentation, config.data.shape),
        task=goal,
        tokenizer=tokens,
        model=averaged(model) if goal.whole else model,
        loss=factory("loss", config.loss.name)(config.loss),
        coherence=_chromatic_coherence if chromatic_output else _cosine_coherence(goal.classes),
        optimizer=learning_rate_factor.adjustable(rule.transform, schedule) if acts else rule.transform(schedule),
        learning_rate=schedule,
    )


def archive_program(config: RunConfig, source: Source, manifest: Mapping[str, Any]) -> StoredProgram:
    """The functions of `config` on the samples of `manifest`, traced and serialised (`archive.py`), none of them
    compiled, so that parts that do not fit together raise `ConfigError` here, before anything is written.
    """
    level = determinism(config)
    samples = sum(sample["split"] == "train" for sample in manifest["samples"])
    steps_per_epoch = index_stream.steps_per_epoch(samples, config.engine.batch_size)
    parts = make_parts(config, steps_per_epoch, layout(config, source))
    init = make_init(parts)
    train_step = make_train_step(parts, config.engine.micro_batches)
    if config.diagnostics.act:
        train_step = learning_rate_factor.reporting(train_step)
    predict = make_predict(parts)
    prepare = preparation.make(config.data, source.classes)
    start = jax.eval_shape(init, root_key(0))
    _check_whole_samples(parts, start.params, layout(config, source))

    def flat_init(given: Flat) -> Flat:
        return flatten(init(wrapped(given["key"])))

    def flat_step(state: Flat, batch: Flat) -> tuple[Flat, Flat]:
        after, found = train_step(unflatten(state, like=start), Batch(**{"label": None, **batch}))
        return flatten(after), found._asdict()

    def flat_order(given: Flat) -> Flat:
        return {"order": index_stream.epoch_order(wrapped(given["key"]), given["epoch"], samples)}

    def flat_predict(params: Flat, given: Flat) -> Flat:
        return {archive.PROBABILITIES if parts.task.classes else archive.IMAGE: predict(params, given["image"])}

    per_pixel = source.classes > 0 and source.labelled == "pixel"

    def flat_prepare(volume: Flat) -> Flat:
        image, labels = prepare(volume["image"], volume["labels"] if per_pixel else None)
        return {"image": image} if labels is None else {"image": image, "labels": labels}

    size, key = config.engine.batch_size, {"key": _like(jnp.uint32, 2)}
    pixels = (size, config.data.slices, *config.data.shape)
    batch = {
        "image": _like(jnp.float32, *pixels, *([source.channels] if source.channels > 1 else [])),
        **({"label": _like(jnp.int32, *(pixels if per_pixel else [size]))} if source.classes else {}),
        "sample": _like(jnp.int32, size),
    }
    of_one = {"image": _like(jnp.float32, *batch["image"].shape[1:])}
    functions = {
        "init": Function(flat_init, (key,)),
        "step": Function(flat_step, (jax.eval_shape(flatten, start), batch)),
        "order": Function(flat_order, ({**key, "epoch": _like(jnp.int32)},)),
        archive.PREDICT: Function(flat_predict, (start.params, of_one)),
    }
    for image, classes in sorted({(image_shape(source, volume), volume.shape) for volume in source.volumes}):
        given = {"image": _like(jnp.float32, *image), **({"labels": _like(jnp.int32, *classes)} if per_pixel else {})}
        functions[archive.preparation_name(image)] = Function(flat_prepare, (given,))
    return archive.archive(
        {name: Function(level.transform(each.function), each.arguments) for name, each in functions.items()},
        level.platforms,
        optimizer.update_order(start.params),
        steps_per_epoch,
    )


def _like(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _scheduler(config: RunConfig) -> scheduler.Scheduler:
    make = factory("scheduler", config.scheduler.name)
    made: scheduler.Scheduler = make(config.scheduler, config.engine.learning_rate, config.engine.epochs)
    return made


def _cosine_coherence(classes: int) -> Callable[[Array, Array], Array]:
    def coherence(prediction: Array, target: Array) -> Array:
        if classes:
            prediction, target = jax.nn.softmax(prediction, axis=-1), jax.nn.one_hot(target, classes)
        return metrics.coherence_cosine(prediction, target)

    return coherence


def _chromatic_coherence(prediction: Array, target: Array) -> Array:
    """Mean over the batch of the coherence of the predicted fields; the target has no part in it."""
    del target
    colours = chromatic.to_chromatic_tensor(prediction).colours
    return jax.numpy.mean(chromatic.coherence(colours))


def _check_whole_samples(parts: StepParts, params: Params, samples: Layout) -> None:
    """Raise `ConfigError` where the model takes the patches that it trains on, but not the samples it is judged by."""
    shape = (1, samples.slices, samples.rows, samples.columns)
    image = _like(jnp.float32, *shape, *([parts.task.channels] if parts.task.channels > 1 else []))
    jax.eval_shape(parts.model.apply, params, jax.eval_shape(parts.tokenizer.encode, image))


def _check_fit(config: RunConfig, goal: Task) -> None:
    loss = config.loss.name
    check_batch(config)
    if (loss in _OF_CLASSES) != bool(goal.classes) or (loss == "dice_cross_entropy" and goal.whole):
        of_pixels = "loss=dice_cross_entropy or loss=cross_entropy"
        fitting = (
            ("loss=cross_entropy" if goal.whole else of_pixels)
            if goal.classes
            else "task=segmentation, or another loss"
        )
        raise ConfigError(f"loss={loss} does not fit task={config.task.name}; choose {fitting}")
    if not goal.classes and min(config.data.shape) < metrics.SSIM_WINDOW:
        raise ConfigError(
            f"data.shape={config.data.shape} must be at least {metrics.SSIM_WINDOW} pixels along each side: "
            "the validation's SSIM has a window of so many"
        )
    if (loss == "chromatic_coherence") and config.tokenizer.name != "chromatic":
        raise ConfigError("loss=chromatic_coherence needs colour fields; choose tokenizer=chromatic")
    patch = config.tokenizer.patch if config.tokenizer.name == "intensity" else 1
    if patch > 1 and ((goal.classes and not goal.whole) or loss == "structural"):
        raise ConfigError(
            f"tokenizer.patch={patch} puts {patch * patch} pixels into a token, but "
            f"{'task=' + config.task.name if goal.classes else 'loss=structural'} needs one pixel each: patch=1"
        )
