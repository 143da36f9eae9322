"""A run's program: the functions that training is made of, as serialised StableHLO, which needs none of the code that
it was made from, runs under later versions of JAX, and is what the run itself executes. Reads and writes no files.

    init               {key} -> state
    step               state, {image, label, sample} -> state, {loss, coherence, lr, grad_norm, leaf_grad_norms}
    order              {key, epoch} -> {order}
    predict            parameters, {image} -> {image} or {probabilities}, of one sample (`engine.make_predict`)
    prepare_<X>_<Y>_<Z>  {image, labels} -> {image, labels}, of a volume of that shape

Each takes and gives flat mappings of plain arrays, so that no Python class is needed to call it. `key` is the two words
of the root key; `state` is as `state.flatten` names it, parameters as the model does; `label` and `labels` are absent
where there are none.

    program.json = {"format": 1, "functions": {name: {"arguments", "results", "sha256"}}, "jax": version,
                    "leaves": […], "platforms": […], "steps_per_epoch": n}

`arguments` and `results` list mappings of name to [dtype, shape]; `leaves` names `leaf_grad_norms` in order. A file
holds jax.export's serialisation without source locations, so that the same configuration gives the same bytes in every
folder and on every machine with the same version of JAX.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, export
from jax.extend.mlir import deserialize_portable_artifact, passmanager, serialize_portable_artifact
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters.mlir import make_ir_context
from jax.sharding import NamedSharding

from crh_train.data.dataset import Preparation
from crh_train.digest import digest_bytes
from crh_train.engine import TrainStep
from crh_train.errors import CorruptRun, EnvironmentRefused
from crh_train.run_folder import StoredProgram
from crh_train.shape import misfit
from crh_train.state import flatten, unflatten
from crh_train.types import Batch, StepMetrics, TrainState

FORMAT = 1
PREDICT = "predict"
IMAGE, PROBABILITIES = "image", "probabilities"
"""What `predict` gives, by its name: an image, or for each class its probability, on the last axis."""
_DOCUMENT = {
    "format": int,
    "functions": {...: {"arguments": list, "results": list, "sha256": str}},
    "jax": str,
    "leaves": [str],
    "platforms": [str],
    "steps_per_epoch": int,
}

Flat = Mapping[str, Any]
"""Name -> array, or its shape and dtype."""


class Function(NamedTuple):
    """A pure function and what it is called with."""

    function: Callable[..., Any]  # flat mappings -> one, or a tuple of several
    arguments: tuple[Flat, ...]


class Functions(NamedTuple):
    """A program that was opened. Calling one of its functions compiles it."""

    init: Callable[[Array], TrainState]  # root key -> the state before the first step
    place: Callable[[TrainState], TrainState]  # a state to where a step's results are
    train_step: TrainStep  # takes over the state's memory
    order: Callable[[Array, np.int32], Array]  # root key, epoch -> int32 [samples]
    prepare: Preparation
    leaf_names: tuple[str, ...]  # in the order of `StepMetrics.leaf_grad_norms`
    steps_per_epoch: int
    digest: str  # of the program


def preparation_name(shape: Sequence[int]) -> str:
    return "_".join(["prepare", *map(str, shape)])


def archive(
    functions: Mapping[str, Function], platforms: Sequence[str], leaf_names: Sequence[str], steps_per_epoch: int
) -> StoredProgram:
    """Trace `functions` and serialise them for `platforms`; nothing is compiled."""
    exported = {name: _export(each, platforms) for name, each in functions.items()}
    files = {name: bytes(each.serialize()) for name, each in exported.items()}
    document = {
        "format": FORMAT,
        "functions": {
            name: {
                "arguments": [_interface(flat) for flat in functions[name].arguments],
                "results": _results(exported[name]),
                "sha256": digest_bytes(files[name]),
            }
            for name in functions
        },
        "jax": jax.__version__,
        "leaves": list(leaf_names),
        "platforms": list(platforms),
        "steps_per_epoch": steps_per_epoch,
    }
    return StoredProgram(document, files)


def open_program(stored: StoredProgram, placement: NamedSharding) -> Functions:
    """The functions of `stored`, to be called; the state is put where `placement` says.

    Raises:
      CorruptRun: a file is no exported function, or the format is another one.
      EnvironmentRefused: the program was not made for what this machine computes on.
    """
    _check_usable(stored.document)
    calls = {name: _call(name, data) for name, data in stored.files.items()}

    def init(root: Array) -> TrainState:
        return unflatten(calls["init"]({"key": jax.random.key_data(root)}))

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        given = {name: array for name, array in batch._asdict().items() if array is not None}
        after, found = calls["step"](flatten(state), given)
        return unflatten(after), StepMetrics(**found)

    def order(root: Array, epoch: Array) -> Array:
        drawn: Array = calls["order"]({"key": jax.random.key_data(root), "epoch": epoch})["order"]
        return drawn

    return Functions(
        init=jax.jit(init, out_shardings=placement),
        place=jax.jit(lambda state: state, out_shardings=placement),
        train_step=jax.jit(train_step, donate_argnums=0, out_shardings=placement),
        order=jax.jit(order),
        prepare=_preparation(calls),
        leaf_names=tuple(stored.document["leaves"]),
        steps_per_epoch=stored.document["steps_per_epoch"],
        digest=stored.digest,
    )


def open_predict(document: Mapping[str, Any], data: bytes) -> Callable[[Mapping[str, np.ndarray], np.ndarray], Array]:
    """The function `predict` of the program that `document` describes, of which `data` is the file: parameters, image
    of one sample -> image or probabilities. The program's other functions are not needed. Raises as `open_program`."""
    _check_usable(document)
    call = jax.jit(_call(PREDICT, data))

    def predict(params: Mapping[str, np.ndarray], image: np.ndarray) -> Array:
        (output,) = call(params, {"image": image}).values()
        made: Array = output
        return made

    return predict


def _check_usable(document: Mapping[str, Any]) -> None:
    if (message := misfit(document, _DOCUMENT)) is not None:
        raise CorruptRun(f"program.json: {message}")
    if document["format"] != FORMAT:
        raise CorruptRun(f"program.json: expected format {FORMAT}, found {document['format']}")
    here = export.default_export_platform()
    if here not in document["platforms"]:
        raise EnvironmentRefused(
            f"the program was made for {' and '.join(document['platforms'])}, this machine computes on {here}; "
            "set JAX_PLATFORMS to one of those"
        )


def differing(recorded: StoredProgram, found: StoredProgram) -> list[str]:
    """The functions of `recorded` that `found` does not have, or has otherwise. What `found` has besides is no part of
    the run: a run that is older than the function `predict` is trained by the same functions all the same."""
    there = {(name, digest_bytes(data)) for name, data in found.files.items()}
    return sorted(name for name, data in recorded.files.items() if (name, digest_bytes(data)) not in there)


def _export(each: Function, platforms: Sequence[str]) -> export.Exported:
    exported = export.export(jax.jit(each.function), platforms=platforms)(*each.arguments)
    return dataclasses.replace(exported, mlir_module_serialized=_stripped(exported.mlir_module_serialized))


def _stripped(serialised: bytes) -> bytes:
    """StableHLO without the places in the source that it was traced from."""
    oldest = stablehlo.StablehloCompatibilityRequirement.WEEK_4  # as jax.export itself: what a month-old JAX can read
    with make_ir_context() as context:
        module = deserialize_portable_artifact(serialised, context)
        passmanager.PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)
        version = stablehlo.get_version_from_compatibility_requirement(oldest)
        stripped: bytes = serialize_portable_artifact(module, version, use_mixed_serialization=True)
        return stripped


def _interface(flat: Flat) -> dict[str, list[Any]]:
    return {name: [str(flat[name].dtype), list(flat[name].shape)] for name in sorted(flat)}


def _results(exported: export.Exported) -> list[dict[str, list[Any]]]:
    found = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    return [_interface(flat) for flat in (found if isinstance(found, tuple) else (found,))]


def _call(name: str, data: bytes) -> Callable[..., Any]:
    if b"custom_call" in data and b"callback" in data:  # an address of this process; jax.export never writes one
        raise CorruptRun(f"program/{name}: it calls back into Python, which no archived program does; do not use it")
    try:
        return export.deserialize(bytearray(data)).call
    except Exception as error:  # the reader of flatbuffers raises whatever it stumbles over
        raise CorruptRun(
            f"program/{name}: jax {jax.__version__} cannot read it ({error!r}); replay with the version that wrote it"
        ) from error


def _preparation(calls: Mapping[str, Callable[..., Any]]) -> Preparation:
    compiled = {name: jax.jit(call) for name, call in calls.items()}

    def prepare(image: Array, labels: Array | None) -> tuple[Array, Array | None]:
        volume = {"image": image} if labels is None else {"image": image, "labels": labels}
        found = compiled[preparation_name(image.shape)](volume)
        return found["image"], None if labels is None else found["labels"]

    return prepare
