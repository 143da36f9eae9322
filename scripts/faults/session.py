"""Training without JAX: drives the run store as `crh_train/session.py` does, over a state that is a pure function of
the one before and the step, so that a bit lost anywhere shows in all that comes after it.

Timestamps are a function of the step, so that what two sessions write can be compared byte by byte.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from crh_train import disk, saving
from crh_train.checkpoint import Checkpoint, checkpoint_hash
from crh_train.checkpoint_header import CheckpointName
from crh_train.chronicle import genesis
from crh_train.chronicle_writer import ChronicleWriter
from crh_train.continuity_log import ContinuityFile, ContinuityHook
from crh_train.diagnostics.continuity import Continuity, follow
from crh_train.diagnostics.policy import ADVICE_ONLY
from crh_train.digest import canonical_json, digest_bytes, digest_json
from crh_train.recovery import recover
from crh_train.run_folder import Identity, RunFolder, StoredProgram
from crh_train.run_store import RunStore
from crh_train.saving import BackgroundSaver
from crh_train.state import HostState
from crh_train.types import StepRecord

EPOCHS = 4
STEPS_PER_EPOCH = 9  # so many that there are diagnoses
LAST_STEP = EPOCHS * STEPS_PER_EPOCH
LOSSES = (3.0, 1.0, 4.0, 2.0)
"""Of each epoch. The best one is neither the newest nor the first, so that `keep` has to tell them apart."""

_CONFIG = {"config": {"engine": {"epochs": EPOCHS}}, "optimizer": {}, "scheduler": {}}
_MANIFEST: dict[str, Any] = {"files": [], "preprocessing": {}, "samples": [], "source": "faults", "volumes": []}
_FUNCTIONS = {"init": b"the first state", "step": b"the next state"}
_PROGRAM = StoredProgram(
    {
        "format": 1,
        "functions": {name: {"sha256": digest_bytes(data)} for name, data in _FUNCTIONS.items()},
        "steps_per_epoch": STEPS_PER_EPOCH,
    },
    _FUNCTIONS,
)
_IDENTITY = Identity(
    _CONFIG,
    _MANIFEST,
    {
        "config_hash": digest_json(_CONFIG),
        "dataset_state": digest_json(_MANIFEST),
        "seed": 7,
        "semantics_version": 1,
    },
)
NAME = _IDENTITY.run_hash[:16]


class Way(NamedTuple):
    """How a session trains."""

    keep: int | None = None
    threaded: bool = False  # else the saver's thread runs in step with training: the order of operations is one

    @property
    def words(self) -> str:
        return f"keep={self.keep}{', saving in a thread' if self.threaded else ''}"


class Told(NamedTuple):
    """Something that was acknowledged."""

    operations: int  # that were done before it
    name: CheckpointName | None  # a checkpoint that is saved; None: the run is finished


Tell = Callable[[CheckpointName | None], None]


def go_on(runs: Path, way: Way, tell: Tell) -> None:
    """Do what a user would: `run`, or `resume` where there is a run. `tell` is called with what is acknowledged."""
    with contextlib.nullcontext() if way.threaded else mock.patch.object(saving, "ThreadPoolExecutor", _InStep):
        store = RunStore(runs)
        folder = store.get(_IDENTITY.run_hash)
        if folder is None:
            _run(store, way, tell)
        elif folder.finished:
            folder.confirm_finished()
        else:
            _resume(folder, way, tell)
        tell(None)


def _run(store: RunStore, way: Way, tell: Tell) -> None:
    folder = store.create(_IDENTITY.run, _IDENTITY.config, _IDENTITY.manifest, _session(0), _PROGRAM)
    with folder.lock():
        assert folder.untouched
        _complete(folder, None, way, tell)


def _resume(folder: RunFolder, way: Way, tell: Tell) -> None:
    with folder.lock():
        assert folder.identity() == _IDENTITY
        assert folder.program() == _PROGRAM
        found = recover(folder).checkpoint
        folder.add_session(_session(0 if found is None else found.step))
        _complete(folder, found, way, tell)


def _session(first_step: int) -> dict[str, Any]:
    command = {"conf": "faults", "overrides": []}
    return {
        "command": command,
        "fingerprint": {"threads": 1},
        "first_step": first_step,
        "program": _PROGRAM.digest,
        "runtime": {},
        "version": "0",
    }


def _complete(folder: RunFolder, found: Checkpoint | None, way: Way, tell: Tell) -> None:
    before = [] if found is None else folder.chronicle()
    continuity, entries = follow(Continuity(STEPS_PER_EPOCH, ADVICE_ONLY), before)
    with (
        ContinuityFile(folder.path, b"".join(entry.line() for entry in entries)) as diagnoses,
        ChronicleWriter(folder.path, genesis(folder.run_hash) if found is None else found.chronicle_offset) as writer,
        BackgroundSaver(
            folder,
            _IDENTITY,
            writer,
            steps_per_epoch=STEPS_PER_EPOCH,
            previous=None if found is None else checkpoint_hash(found),
            keep=way.keep,
            saved=tell,
        ) as saver,
    ):
        diagnosis = ContinuityHook(continuity, diagnoses.add)
        state = _first_state() if found is None else _state_of(found)
        for step in range(state.step + 1, LAST_STEP + 1):
            state = _next_state(state)
            line = record(state)
            writer.append(line, timestamp(step))
            diagnosis.after_step(line)
            saver.after_step(line)
            if step % STEPS_PER_EPOCH == 0:
                saver.save(state)
    summary = {
        "final_checkpoint": folder.checkpoints()[-1].name.hash,
        "losses": [float(line.loss) for line in folder.chronicle()],
    }
    reports = {"metrics.json": canonical_json(summary), "summary.md": b"# Summary\n"}
    reports["SHA256SUMS"] = "".join(f"{digest_bytes(data)}  {name}\n" for name, data in reports.items()).encode()
    for name, data in reports.items():
        folder.publish(f"reports/{name}", data)


# --- what is trained -----------------------------------------------------------------------------------------------


def _first_state() -> HostState:
    model = {"kernel": np.arange(360, dtype=np.uint32).reshape(20, 18), "bias": np.arange(5, dtype=np.uint32)}
    optimizer = {"count": np.array(0, np.int32), "mu/kernel": np.arange(360, dtype=np.uint32)}
    return HostState(model, optimizer, np.array([0, 7], np.uint32), 0)


def _state_of(found: Checkpoint) -> HostState:
    return HostState(found.model_state, found.optimizer_state, found.rng_state, found.step)


def _next_state(state: HostState) -> HostState:
    # A congruential generator: each step is a bijection, so no bit that differs is ever lost.
    model, optimizer = (
        {name: (array * array.dtype.type(1664525) + array.dtype.type(state.step)) for name, array in section.items()}
        for section in (state.model_state, {"mu/kernel": state.optimizer_state["mu/kernel"]})
    )
    return HostState(model, {"count": np.array(state.step + 1, np.int32), **optimizer}, state.rng_state, state.step + 1)


def record(state: HostState) -> StepRecord:
    """The chronicle's fields of the step that gave `state`."""
    epoch, batch = divmod(state.step - 1, STEPS_PER_EPOCH)
    mixed = sum(int(array.sum(dtype=np.uint64)) for array in state.model_state.values()) % 1000
    return StepRecord(
        step=state.step,
        epoch=epoch,
        batch=batch,
        loss=np.float32(LOSSES[epoch]) + np.float32(mixed) / np.float32(4096),
        coherence=np.float32(0.5),
        lr=np.float32(3e-4),
        grad_norm=np.float32(2),
        leaf_grad_norms=np.zeros(1, np.float32),
    )


def timestamp(step: int) -> float:
    """Seconds. Four a second: lines wait for others, and are then handed to the system before the epoch ends."""
    return step / 4


# --- surroundings --------------------------------------------------------------------------------------------------


class _InStep:
    """A pool whose work is done by who submits it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def submit(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments))
        except BaseException as error:  # as the real pool, which raises it where the result is asked for
            future.set_exception(error)
        return future

    def shutdown(self) -> None:
        pass


Operate = Callable[..., Any]
"""name of the operation, the function that does it, its arguments -> its result"""


@contextlib.contextmanager
def operated_by(operate: Operate) -> Iterator[None]:
    """Every operation of `crh_train/disk.py` goes through `operate`."""
    with contextlib.ExitStack() as stack:
        for name in disk.OPERATIONS:
            real = getattr(disk, name)

            def operation(*arguments: Any, name: str = name, real: Callable[..., Any] = real) -> Any:
                return operate(name, real, *arguments)

            stack.enter_context(mock.patch.object(disk, name, operation))
        yield


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder in memory where there is such a file system, for speed: losses of power are simulated."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="crh-faults-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)
