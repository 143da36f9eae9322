"""A run's devices and processes: where its state and its batches lie, and how its processes agree to stop.

The state has a replica on every device, a batch an equal part on each; with several processes each one feeds the parts
of its own devices. JAX does the rest: the step is the same function for every number of devices and processes.
"""

import atexit
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from crh_train import process_group
from crh_train.config import RunConfig, RuntimeConfig
from crh_train.errors import ConfigError
from crh_train.process_group import ALONE, Group

Tree = TypeVar("Tree")


@contextlib.contextmanager
def joined(config: RunConfig) -> Iterator[Group]:
    """Within it this process is one of `runtime.processes`, and JAX knows the devices of all. Comes before JAX starts.

    Leaves when process 0 is done. An error of one process ends all of them, and the code that it ends with.

    Raises:
      UsageError: a process did not come, or does not fit the others.
      ProcessFailed: another process ended before the run was done.
    """
    runtime = config.runtime
    if runtime.processes == 1:
        yield ALONE
        return
    group = process_group.meet(config)
    try:
        with _stdout_for_us():
            _start_jax(runtime, group)
            yield group
            group.done()
    except BaseException as error:
        raised = group.failed(error)
        atexit.register(_leave, group, raised)
        raise raised from (None if raised is error else error)
    jax.distributed.shutdown()


def placements(runtime: RuntimeConfig) -> tuple[NamedSharding, NamedSharding]:
    """Where state goes (everywhere) and where a batch goes (an equal part on each of `runtime.devices`).

    Raises `ConfigError` where there are not so many devices.
    """
    here = process_group.devices_here(runtime)
    chosen = []
    for process in range(runtime.processes):
        found = [device for device in jax.devices() if device.process_index == process]
        if here > len(found):
            where = f" in process {process}" if runtime.processes > 1 else ""
            raise ConfigError(
                f"runtime.devices={runtime.devices}, but there are {len(found)} ({jax.devices()[0].platform}){where}"
            )
        chosen += found[:here]
    mesh = Mesh(np.asarray(chosen), ("batch",))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("batch"))


def place(tree: Tree, placement: NamedSharding) -> Tree:
    """NumPy arrays, the same in every process, as JAX arrays of `placement`; a process copies only its own parts."""

    def put(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(array.shape, placement, lambda index: array[index])

    placed: Tree = jax.tree.map(put, tree)
    return placed


def replica(tree: Tree) -> Tree:
    """This process's own copy of a replicated state, on one device, to use without the other processes."""
    own: Tree = jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
    return own


def agreement(runtime: RuntimeConfig) -> Callable[[bool], bool]:
    """Whether any process asks for a stop, as a function of whether this one does; every process must call it after
    each step, and all of them get the same answer.

    Among several processes it is the answer to the question of the call before, so that nobody waits for a device.
    """
    if runtime.processes == 1:
        return lambda asked: asked
    replicated, sharded = placements(runtime)
    any_of = jax.jit(jnp.any, out_shardings=replicated)
    waiting = [any_of(place(np.zeros(runtime.devices, bool), sharded))]

    def agreed(asked: bool) -> bool:
        waiting.append(any_of(place(np.full(runtime.devices, asked), sharded)))
        return bool(waiting.pop(0))

    return agreed


def _start_jax(runtime: RuntimeConfig, group: Group) -> None:
    host = process_group.coordinator(runtime).host
    address = f"[{host}]:{group.service_port}" if ":" in host else f"{host}:{group.service_port}"
    # It takes SIGTERM away from `hooks.stop_signals`.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        address,
        runtime.processes,
        runtime.process,
        cluster_detection_method="deactivate",
        coordinator_bind_address=address,
    )
    jax.devices()  # the processes tell one another of their devices while all of them are here


@contextlib.contextmanager
def _stdout_for_us() -> Iterator[None]:
    """Standard output goes to standard error meanwhile: the library of CPU collectives prints to it."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _leave(group: Group, error: BaseException) -> None:
    """End here and not in JAX's own farewell, which waits for processes that are gone and then aborts."""
    group.wait_for_the_others()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(process_group.exit_code(error))
