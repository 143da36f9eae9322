"""A trained model to predict with: a checkpoint's weights in the function `predict` of its run's archived program,
which needs none of the code of models and tasks and gives the bits that it gave when the run was made.
"""

import shlex
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from crh_train import archive, checkpoint
from crh_train.checkpoint_reference import Named
from crh_train.chronicle_audit import audit
from crh_train.config import RunConfig
from crh_train.determinism import make_native, make_portable
from crh_train.errors import CorruptCheckpoint, UsageError
from crh_train.inference.preparation import Transform
from crh_train.registry import registered
from crh_train.run_folder import RunFolder


class Model(NamedTuple):
    config: RunConfig
    checkpoint: str  # the hash
    names: tuple[str, ...]  # of the classes; none where an image is made
    whole: bool  # a class is one for the whole case
    channels: int  # of the image that it is given
    slices: int  # of a sample
    predict: Callable[[np.ndarray], np.ndarray]  # float32 [T, H, W] or [T, H, W, M] -> image or probabilities
    transform: Transform  # of the run's level of determinism


def load(named: Named, config: RunConfig) -> Model:
    """The model, after every byte of the checkpoint and its place in its run were checked. Starts JAX.

    Raises:
      CorruptCheckpoint: it is damaged, or is not of this run.
      UsageError: the run was made before programs had the function `predict`.
    """
    folder, stored = named
    document = folder.program_document()
    if archive.PREDICT not in document["functions"]:
        command = folder.sessions()[0]["command"]
        again = shlex.join([f"conf={command['conf']}", *command["overrides"]])
        raise UsageError(
            f"run {folder.name} was made by crh-train {folder.sessions()[0]['version']} without predict; "
            f"train it again, to the same bits: crh-train run {again} --runs OTHER"
        )
    found = checkpoint.read(stored.path)
    if problems := folder.disagreements(found, audit(folder.path, folder.run_hash)):
        raise CorruptCheckpoint(
            f"{stored.path}: {problems[0]}; nothing was predicted. `crh-train verify {folder.argument}` says more"
        )
    call = archive.open_predict(document, folder.program_file(archive.PREDICT))
    interface = document["functions"][archive.PREDICT]
    shape = interface["arguments"][1]["image"][1]
    ((kind, (_, made)),) = interface["results"][0].items()
    weights = jax.device_put(dict(found.model_state))
    both = config.task.name == "paired"  # the source's channels are input and target
    sourced = shape[3] if len(shape) == 4 else 1
    channels = sourced // 2 if both else sourced

    def predict(image: np.ndarray) -> np.ndarray:
        if both:  # the target's channels, which nobody has and the task does not read
            given = image.reshape(*image.shape[:3], channels)
            image = np.concatenate([given, np.zeros_like(given)], axis=-1)
        output: np.ndarray = jax.device_get(call(weights, image))
        return output

    return Model(
        config=config,
        checkpoint=stored.name.hash,
        names=_class_names(folder, made[-1]) if kind == archive.PROBABILITIES else (),
        whole=kind == archive.PROBABILITIES and len(made) == 1,
        channels=channels,
        slices=shape[0],
        predict=predict,
        transform=_transform(config),
    )


def _class_names(folder: RunFolder, classes: int) -> tuple[str, ...]:
    known = folder.manifest()["preprocessing"]
    return tuple(known["class_names"]) if "class_names" in known else tuple(map(str, range(classes)))


def _transform(config: RunConfig) -> Transform:
    levels: Mapping[str, Callable[..., Any]] = {"portable": make_portable, "native": make_native}
    transform: Transform = registered("determinism", config.determinism.name, levels)(config.determinism).transform
    return transform
