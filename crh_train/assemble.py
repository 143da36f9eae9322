"""From a configuration to the parts of a run. The only table from a name to a factory.

A third party adds a part without touching this package: it registers under the entry point group
`crh_train.<group>` an object whose `Config` is a dataclass and whose `make` has the signature of that group's
factories below, and puts a `conf/<group>/<name>.yaml` beside the user's other configurations.
"""

import functools
import json
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from crh_train import SEMANTICS_VERSION, chromatic, loss_functions, metrics, optimizer, scheduler, task, tokenizer
from crh_train.config import RunConfig, nearest, semantic
from crh_train.data import augmentation, dataset, index_stream, mni152, nifti
from crh_train.data import manifest as manifests
from crh_train.data.volume import Source
from crh_train.digest import digest_json
from crh_train.engine import StepParts, TrainStep, make_init, make_train_step
from crh_train.errors import ConfigError
from crh_train.models import cnn, gru, mlp, unet
from crh_train.randomness import root_key
from crh_train.types import Batch, Task, Tokenizer, TrainState

FACTORIES: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "data": {"mni152": lambda config, root: mni152.open_source(config), "nifti": nifti.open_source},
    "task": {"reconstruction": task.make_reconstruction, "tissue": task.make_tissue},
    "tokenizer": {"intensity": tokenizer.make_intensity, "chromatic": tokenizer.make_chromatic},
    "augmentation": {"standard": augmentation.make},
    "model": {"mlp": mlp.make, "cnn": cnn.make, "unet": unet.make, "gru": gru.make},
    "loss": {
        "mse": loss_functions.make_mse,
        "cross_entropy": loss_functions.make_cross_entropy,
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
}


def factory(group: str, name: str) -> Callable[..., Any]:
    """The factory of the part `name` of `group`. Raises `ConfigError` naming the nearest one."""
    if name in FACTORIES[group]:
        return FACTORIES[group][name]
    plugins = entry_points(group=f"crh_train.{group}")
    if name in plugins.names:
        made: Callable[..., Any] = plugins[name].load().make
        return made
    raise ConfigError(f"{group}.name={name!r} is unknown: {nearest(name, [*FACTORIES[group], *plugins.names])}")


class Identity(NamedTuple):
    """What makes a run the run that it is: three documents, each known by the SHA-256 of its canonical JSON."""

    config: dict[str, Any]
    manifest: dict[str, Any]
    run: dict[str, Any]

    @property
    def run_hash(self) -> str:
        return digest_json(self.run)


class Program(NamedTuple):
    """A run's compiled functions and what drives them."""

    parts: StepParts
    init: Callable[[Array], TrainState]
    train_step: TrainStep
    load: Callable[[int], Batch]  # steps done -> the next step's batch
    root: Array  # the root key
    leaf_names: tuple[str, ...]  # in the order of `StepMetrics.leaf_grad_norms`
    steps_per_epoch: int


def open_source(config: RunConfig) -> Source:
    """Find and hash the files of `config.data`. Raises `DataError` for one that cannot be used."""
    root = None if config.runtime.data_root is None else Path(config.runtime.data_root)
    opened: Source = factory("data", config.data.name)(config.data, root)
    return opened


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


def make_parts(config: RunConfig, steps_per_epoch: int) -> StepParts:
    """The pure functions that `config` names. Raises `ConfigError` where two choices do not fit together."""
    goal: Task = factory("task", config.task.name)(config.task, config.data.shape[1])
    tokens: Tokenizer = factory("tokenizer", config.tokenizer.name)(config.tokenizer)
    _check_fit(config, goal)
    schedule = _scheduler(config).schedule(steps_per_epoch)
    chromatic_output = config.tokenizer.name == "chromatic" and not goal.classes
    return StepParts(
        augment=factory("augmentation", config.augmentation.name)(config.augmentation, config.data.shape),
        task=goal,
        tokenizer=tokens,
        model=factory("model", config.model.name)(
            config.model, tokens.channels, goal.classes if goal.classes else tokens.channels
        ),
        loss=factory("loss", config.loss.name)(config.loss),
        coherence=_chromatic_coherence if chromatic_output else _cosine_coherence(goal.classes),
        optimizer=factory("optimizer", config.optimizer.name)(config.optimizer).transform(schedule),
        learning_rate=schedule,
    )


def make_program(config: RunConfig, train: dataset.PreparedSplit) -> Program:
    """Jitted functions for `config` on the samples of `train`. The step is traced but not compiled, so that parts that
    do not fit together raise `ConfigError` here, before anything is written.
    """
    samples, batch_size = len(train.ids), config.engine.batch_size
    steps_per_epoch = index_stream.steps_per_epoch(samples, batch_size)
    parts = make_parts(config, steps_per_epoch)
    task.check_labels(parts.task, train.labels)
    root = root_key(config.engine.seed)
    replicated, sharded = _placements(config)
    init = jax.jit(make_init(parts), out_shardings=replicated)
    train_step = jax.jit(make_train_step(parts, config.engine.micro_batches), donate_argnums=0)
    load = _loader(train, root, batch_size, steps_per_epoch, sharded)
    start = jax.eval_shape(init, root)
    jax.eval_shape(train_step, start, load(0))
    return Program(
        parts=parts,
        init=init,
        train_step=train_step,
        load=load,
        root=root,
        leaf_names=optimizer.update_order(start.params),
        steps_per_epoch=steps_per_epoch,
    )


def _loader(
    train: dataset.PreparedSplit, root: Array, batch_size: int, steps_per_epoch: int, placement: NamedSharding
) -> Callable[[int], Batch]:
    draw = jax.jit(functools.partial(index_stream.epoch_order, samples=len(train.ids)))

    @functools.lru_cache(maxsize=1)
    def order(epoch: int) -> np.ndarray:
        return np.asarray(draw(root, epoch))

    def load(done: int) -> Batch:
        epoch, batch = divmod(done, steps_per_epoch)
        chosen = index_stream.batch_indices(order(epoch), batch, batch_size)
        labels = None if train.labels is None else train.labels[chosen]
        placed: Batch = jax.device_put(Batch(train.images[chosen], labels, chosen), placement)  # type: ignore[arg-type]
        return placed

    return load


def _placements(config: RunConfig) -> tuple[NamedSharding, NamedSharding]:
    """Where state goes (everywhere) and where a batch goes (an equal part on each of `runtime.devices`)."""
    count, found = config.runtime.devices, jax.devices()
    if count > len(found):
        raise ConfigError(f"runtime.devices={count}, but there are {len(found)} ({found[0].platform})")
    mesh = Mesh(np.asarray(found[:count]), ("batch",))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("batch"))  # type: ignore[no-untyped-call]


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


def _check_fit(config: RunConfig, goal: Task) -> None:
    engine, loss = config.engine, config.loss.name
    if engine.batch_size % (engine.micro_batches * config.runtime.devices):
        raise ConfigError(
            f"engine.batch_size={engine.batch_size} must be a multiple of engine.micro_batches x runtime.devices = "
            f"{engine.micro_batches} x {config.runtime.devices}"
        )
    if (loss == "cross_entropy") != bool(goal.classes):
        fitting = "loss=cross_entropy" if goal.classes else "task=tissue, or another loss"
        raise ConfigError(f"loss={loss} does not fit task={config.task.name}; choose {fitting}")
    if not goal.classes and min(config.data.shape) < metrics.SSIM_WINDOW:
        raise ConfigError(
            f"data.shape={config.data.shape} must be at least {metrics.SSIM_WINDOW} pixels along each side: "
            "the validation's SSIM has a window of so many"
        )
    if (loss == "chromatic_coherence") and config.tokenizer.name != "chromatic":
        raise ConfigError("loss=chromatic_coherence needs colour fields; choose tokenizer=chromatic")
    patch = config.tokenizer.patch if config.tokenizer.name == "intensity" else 1
    if patch > 1 and (goal.classes or loss == "structural"):
        raise ConfigError(
            f"tokenizer.patch={patch} puts {patch * patch} pixels into a token, but "
            f"{'task=' + config.task.name if goal.classes else 'loss=structural'} needs one pixel each: patch=1"
        )
