"""The programs of the bit matrix: a small version of every configuration of `conf/`, and of a transformer, from data
preparation to evaluation, archived as a run archives its own (`crh_train/archive.py`) with the inputs they start from.

    CASES/NAME/plan.json      what to call with what (`worker.py` reads it)
    CASES/NAME/inputs.npz     what `prepare` is given, made from integers
    CASES/NAME/F.exported     prepare, init, order, step, evaluate
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matrix import attention

from crh_train import archive, assemble, metrics
from crh_train.archive import Flat, Function
from crh_train.compose import choices, compose, packaged_conf
from crh_train.config import RunConfig
from crh_train.data import index_stream, manifest
from crh_train.data.volume import Segment, Source, Volume, Voxels
from crh_train.engine import StepParts, make_init
from crh_train.randomness import root_key, wrapped
from crh_train.state import flatten, unflatten
from crh_train.validator import Evaluation, make_evaluate, score_images

ATTENTION = "attention"
STEPS, BATCH, TRAINED, HELD_OUT = 3, 8, 16, 2
DOWNSAMPLE, CLASSES, SEED = 2, 3, 7
PICTURE = (36, 28)  # voxels across and along, before downsampling; cropped and padded to the shape below
SMALL = (
    f"data.downsample={DOWNSAMPLE}",
    "data.shape=[16,16]",
    f"engine.batch_size={BATCH}",
    f"engine.seed={SEED}",
    "engine.epochs=2",
)
SMALLER = {
    "model": {"channels": 4, "hidden": 8},
    "augmentation": {"patch": [4, 8, 8]},
}
"""Sizes of whichever part has such a field. The number of layers and of pools stays."""


class Case(NamedTuple):
    files: Mapping[str, bytes]
    plan: Mapping[str, Any]
    inputs: Mapping[str, np.ndarray]


def names() -> list[str]:
    """What can be trained on data that come with a package, and a transformer."""
    folders = [packaged_conf()]
    return [*(name for name in choices(folders) if compose(name, [], folders).data.name == "mni152"), ATTENTION]


def write(folder: Path, chosen: list[str], determinism: str) -> None:
    """Trace and store the cases `chosen`, under a choice of `conf/determinism`."""
    for name in chosen:
        case = _attention(determinism) if name == ATTENTION else _configured(name, determinism)
        (folder / name).mkdir(parents=True)
        (folder / name / "plan.json").write_text(json.dumps(case.plan))
        np.savez(folder / name / "inputs.npz", **case.inputs)
        for function, data in case.files.items():
            (folder / name / f"{function}.exported").write_bytes(data)


def _configured(name: str, determinism: str) -> Case:
    folders, overrides = [packaged_conf()], [*SMALL, f"determinism={determinism}"]
    plain = compose(name, overrides, folders)
    smaller = [
        f"{part}.{field}={size}"
        for part, sizes in SMALLER.items()
        for field, size in sizes.items()
        if any(each.name == field for each in dataclasses.fields(getattr(plain, part)))
    ]
    config = compose(name, [*overrides, *smaller], folders)

    slices = config.data.slices
    trained, held_out = TRAINED + slices - 1, HELD_OUT + slices - 1
    source = _source(trained, held_out)
    listed = manifest.build(source, dataclasses.replace(config.data, stride=1))
    stored = assemble.archive_program(config, source, listed)
    firsts = {
        split: [each["first_slice"] for each in listed["samples"] if each["split"] == split]
        for split in manifest.SPLITS
    }
    plan = {
        **firsts,
        "seed": SEED,
        "steps": STEPS,
        "steps_per_epoch": stored.document["steps_per_epoch"],
        "batch_size": BATCH,
        "batch": list(stored.document["functions"]["step"]["arguments"][1]),
        "slices": slices,
        "fields": {"image": "image", "label": "labels"},
    }
    files = dict(stored.files)
    files["prepare"] = files.pop(archive.preparation_name(source.volumes[0].shape))
    parts = assemble.make_parts(config, plan["steps_per_epoch"], assemble.layout(config, source))
    files |= _archived(config, {"evaluate": _evaluation(config, parts)})
    volume = source.volumes[0].read()
    return Case(files, plan, {"image": volume.image, "labels": volume.labels})


def _source(trained: int, held_out: int) -> Source:
    """One volume of noise in which every sample is another one, axial slices first to train, then to validate."""
    slices = trained + held_out
    shape = (*PICTURE, slices * DOWNSAMPLE)
    noise = _words(int(np.prod(shape))).reshape(shape)
    voxels = Voxels((noise >> 16).astype(np.float32), (noise % CLASSES).astype(np.int32))
    volume = Volume("noise", {}, shape, (1.0, 1.0, 1.0), "RAS", lambda: voxels)
    segments = (Segment("noise", "train", 0, trained), Segment("noise", "validation", trained, slices))
    return Source("noise", (volume,), segments, CLASSES)


def _evaluation(config: RunConfig, parts: StepParts) -> Function:
    """state, {image, label} of the held-out samples -> their scores, and what they were computed from."""
    start = jax.eval_shape(make_init(parts), root_key(0))
    evaluate = make_evaluate(parts)

    def flat(state: Flat, given: Flat) -> Flat:
        params = unflatten(state, like=start).params
        found = [
            evaluate(params, given["image"][index], given["label"][index], jnp.int32(index))
            for index in range(HELD_OUT)
        ]
        stacked: Evaluation = jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
        scores = _scores(stacked, parts.task.classes)
        return {**scores, **{f"sample {name}": array for name, array in stacked._asdict().items()}}

    shape = (HELD_OUT, config.data.slices, *config.data.shape)
    given = {"image": _like(jnp.float32, *shape), "label": _like(jnp.int32, *shape)}
    return Function(flat, (jax.eval_shape(flatten, start), given))


def _scores(found: Evaluation, classes: int) -> Flat:
    """Of all samples as one volume. Counts of classes become float32 here: what was recorded stays comparable."""
    loss = {"loss": jnp.mean(found.loss)}
    if not classes:
        source, output, target = (jnp.reshape(x, (-1, *x.shape[2:])) for x in found[1:])
        return {**loss, **score_images(source, output, target, jnp.ones(len(target), bool))[0]}
    predicted, truth = jnp.argmax(found.output, axis=-1), jax.nn.one_hot(found.target, classes, dtype=jnp.float32)
    ours, theirs = (each.reshape(-1, 1) == jnp.arange(classes) for each in (predicted, found.target))
    both, either = (jnp.sum(each, axis=0, dtype=jnp.int32) for each in (ours & theirs, ours))
    either += jnp.sum(theirs, axis=0, dtype=jnp.int32)
    return {
        **loss,
        "mse": metrics.mse(found.output, truth),
        "accuracy": jnp.sum(predicted == found.target, dtype=jnp.int32) / found.target.size,
        "f1": jnp.sum(2 * both / jnp.maximum(either, 1)) / jnp.sum(either > 0),
    }


def _attention(determinism: str) -> Case:
    config = compose(choices([packaged_conf()])[0], [f"determinism={determinism}"], [packaged_conf()])
    length = attention.LENGTH + 1
    start = jax.eval_shape(attention.init, root_key(0))
    structure = jax.tree.structure(start)

    def named(state: Any) -> Flat:
        return {f"{index:03d}": leaf for index, leaf in enumerate(jax.tree.leaves(state))}

    def restored(flat: Flat) -> attention.State:
        state: attention.State = jax.tree.unflatten(structure, [flat[name] for name in sorted(flat)])
        return state

    def prepare(given: Flat) -> Flat:
        return {"tokens": (given["words"] % attention.VOCABULARY).astype(jnp.int32)}

    def order(given: Flat) -> Flat:
        return {"order": index_stream.epoch_order(wrapped(given["key"]), given["epoch"], TRAINED)}

    def step(state: Flat, batch: Flat) -> tuple[Flat, Flat]:
        after, metrics = attention.train_step(restored(state), batch["tokens"][:, 0])
        return named(after), metrics

    def evaluate(state: Flat, given: Flat) -> Flat:
        return attention.evaluate(restored(state).params, given["tokens"][:, 0])

    words = _words((TRAINED + HELD_OUT) * length).reshape(-1, length)
    key, state = {"key": _like(jnp.uint32, 2)}, named(start)
    functions = {
        "prepare": Function(prepare, ({"words": _like(jnp.uint32, *words.shape)},)),
        "init": Function(lambda given: named(attention.init(wrapped(given["key"]))), (key,)),
        "order": Function(order, ({**key, "epoch": _like(jnp.int32)},)),
        "step": Function(step, (state, {"tokens": _like(jnp.int32, BATCH, 1, length)})),
        "evaluate": Function(evaluate, (state, {"tokens": _like(jnp.int32, HELD_OUT, 1, length)})),
    }
    plan = {
        "train": list(range(TRAINED)),
        "validation": list(range(TRAINED, TRAINED + HELD_OUT)),
        "seed": SEED,
        "steps": STEPS,
        "steps_per_epoch": TRAINED // BATCH,
        "batch_size": BATCH,
        "batch": ["tokens"],
        "slices": 1,
        "fields": {"tokens": "tokens"},
    }
    return Case(_archived(config, functions), plan, {"words": words})


def _archived(config: RunConfig, functions: Mapping[str, Function]) -> Mapping[str, bytes]:
    level = assemble.determinism(config)
    transformed = {name: Function(level.transform(each.function), each.arguments) for name, each in functions.items()}
    return archive.archive(transformed, level.platforms, (), 1).files


def _words(count: int) -> np.ndarray:
    """uint32 [count] that look random, the same on every machine and under every NumPy."""
    words = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(12345)
    words ^= words >> 15
    words *= np.uint32(2246822519)
    return words ^ words >> 13


def _like(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)
