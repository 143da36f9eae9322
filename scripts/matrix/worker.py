"""One environment of the bit matrix: runs archived programs in this process and writes what bits came out, as JSON.

    python worker.py CASES RESULT [--cases NAME ...] [--process I --processes N --coordinator HOST:PORT]

CASES is a folder that `cases.py` wrote. Needs JAX, NumPy and flatbuffers, and none of crh_train, so that any
interpreter with any JAX can run it. What else the environment is, environment variables say.
"""

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Arrays = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--cases", nargs="*", default=[])
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--coordinator")
    given = parser.parse_args()
    if given.processes > 1:
        jax.distributed.initialize(
            given.coordinator, given.processes, given.process, cluster_detection_method="deactivate"
        )
    cases = {name: stages(given.folder / name) for name in given.cases}
    given.result.write_text(json.dumps({"facts": facts(), "cases": cases}))


def facts() -> dict[str, Any]:
    """What the environment turned out to be. `fusions`: those of several operations in a function that invites them."""

    def inviting(x: jax.Array) -> jax.Array:
        y = jnp.tanh(x @ x * 2 + 1)
        return jnp.exp(y) / (jnp.sum(y, axis=0) + 1)

    device = jax.devices()[0]
    compiled = (jax.jit(inviting).lower(jnp.ones((64, 64))).compile().as_text() or "").splitlines()
    return {
        "jax": jax.__version__,
        "device": f"{platform.machine()} cpu" if device.platform == "cpu" else device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "fusions": sum(" fusion(" in line and "calls=%wrapped_" not in line for line in compiled),
    }


def stages(folder: Path) -> dict[str, Any]:
    """The hash of what each stage of the case in `folder` gave, in order, and the seconds that all took."""
    began = time.monotonic()
    found = {name: digest(arrays) for name, arrays in run(folder).items()}
    jax.clear_caches()  # one mapping of memory a kernel: without fusions they are too many for one process
    return {"stages": found, "seconds": round(time.monotonic() - began, 1)}


def run(folder: Path) -> dict[str, Arrays]:
    """Prepare, initialise, train and evaluate; the batches are sharded over all devices there are."""
    plan = json.loads((folder / "plan.json").read_text())
    with np.load(folder / "inputs.npz") as stored:
        inputs = dict(stored)
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    everywhere, parts = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("batch"))

    def opened(name: str) -> Callable[..., Any]:
        return export.deserialize(bytearray((folder / f"{name}.exported").read_bytes())).call

    key = {"key": np.array([0, plan["seed"]], np.uint32)}
    prepared = {name: np.asarray(array) for name, array in jax.jit(opened("prepare"))(inputs).items()}
    order, drawn = jax.jit(opened("order")), {}
    step = jax.jit(opened("step"), donate_argnums=0, out_shardings=everywhere)
    state = jax.jit(opened("init"), out_shardings=everywhere)(key)
    found: dict[str, Arrays] = {"prepare": prepared, "init": fetched(state)}
    for done in range(plan["steps"]):
        epoch, batch = divmod(done, plan["steps_per_epoch"])
        drawn[f"epoch {epoch}"] = np.asarray(order({**key, "epoch": np.int32(epoch)})["order"])
        size = plan["batch_size"]
        chosen = drawn[f"epoch {epoch}"][batch * size : (batch + 1) * size]
        batches = {**taken(plan, prepared, "train", chosen), "sample": chosen}
        placed = {name: jax.make_array_from_callback(a.shape, parts, a.__getitem__) for name, a in batches.items()}
        state, metrics = step(state, {name: placed[name] for name in plan["batch"]})
        found[f"step {done + 1}"] = fetched(metrics)
    held_out = taken(plan, prepared, "validation", np.arange(len(plan["validation"])))
    found["order"], found["state"] = drawn, fetched(state)
    found["evaluate"] = fetched(jax.jit(opened("evaluate"))(found["state"], held_out))
    return found


def taken(plan: Mapping[str, Any], prepared: Arrays, split: str, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Samples of a split, each of so many consecutive slices of what was prepared."""
    slices = np.array(plan[split])[chosen][:, None] + np.arange(plan["slices"])
    return {field: prepared[name][slices] for field, name in plan["fields"].items()}


def fetched(arrays: Arrays) -> dict[str, np.ndarray]:
    return {name: np.array(array.addressable_data(0)) for name, array in arrays.items()}  # a copy: state is donated


def digest(arrays: Arrays) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    hasher = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        hasher.update(json.dumps([name, array.dtype.name, list(arrays[name].shape)]).encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()


if __name__ == "__main__":
    main()
