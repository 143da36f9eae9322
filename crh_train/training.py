"""Training on from any state, in a run's folder, by the run's program. What it needs of the code that made the program
is nothing: a replay comes here without models, losses and optimizers.
"""

import dataclasses
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from crh_train import __version__, archive, distribution, environment, hooks, learning_rate_factor, promises
from crh_train.archive import Functions
from crh_train.batches import check_batch, make_loader
from crh_train.checkpoint import Checkpoint, checkpoint_hash
from crh_train.chronicle import genesis
from crh_train.chronicle_writer import ChronicleWriter
from crh_train.config import DiagnosticsConfig, RunConfig
from crh_train.continuity_log import ContinuityFile, ContinuityHook
from crh_train.data import dataset
from crh_train.data.manifest import build as build_manifest
from crh_train.data.manifest import changed_files
from crh_train.data.sources import open_source
from crh_train.data.volume import Source
from crh_train.diagnostics.continuity import Continuity, follow
from crh_train.digest import digest_json
from crh_train.engine import Span, TrainStep
from crh_train.engine import train as train_steps
from crh_train.errors import DataError, Interrupted
from crh_train.process_group import ALONE, Group
from crh_train.randomness import root_key
from crh_train.run_folder import Identity, StoredProgram
from crh_train.run_store import RunFolder
from crh_train.saving import BackgroundSaver
from crh_train.state import HostState, from_host
from crh_train.stop_signals import asked_to_stop
from crh_train.types import Batch, Hook, TrainState


class Opened(NamedTuple):
    """A configuration with its data found and hashed, on this machine."""

    config: RunConfig
    source: Source
    identity: Identity
    fingerprint: dict[str, Any]


class Program(NamedTuple):
    """A run's compiled functions and what drives them."""

    digest: str  # of the program that they were opened from
    init: Callable[[Array], TrainState]
    place: Callable[[TrainState], TrainState]  # a state from the host to where the step's results are
    train_step: TrainStep
    load: Callable[[int], Batch]  # steps done -> the next step's batch
    root: Array  # the root key
    leaf_names: tuple[str, ...]  # in the order of `StepMetrics.leaf_grad_norms`
    steps_per_epoch: int


class Watch(NamedTuple):
    """What a replay has of the steps that a run has not."""

    hook: Hook
    boundaries: Collection[int]  # steps after which it sees the state, besides the last of each epoch
    due: Callable[[int], bool]  # whether the state after a boundary's step is saved
    stopping: Callable[[], bool]  # asked after each step


def open_recorded(folder: RunFolder, config: RunConfig) -> Opened:
    """A run on disk with its data found again, and its identity as recorded.

    Raises `DataError` naming each file that is not what the run was made on.
    """
    source, identity = open_source(config), folder.identity()
    if changes := changed_files(identity.manifest, build_manifest(source, config.data)):
        raise DataError(f"the data of run {folder.name} changed: {'; '.join(changes)}; put the recorded files back")
    return opened(config, source, identity)


def opened(config: RunConfig, source: Source, identity: Identity) -> Opened:
    """Starts JAX, to say what machine this is."""
    return Opened(config, source, identity, environment.fingerprint(os.environ, config.runtime.devices))


def build(opened: Opened, stored: StoredProgram, group: Group = ALONE) -> tuple[dataset.Dataset, Program]:
    """Open the program, and prepare the data by it or take them from the cache; then wait until all of `group` have."""
    config, runtime = opened.config, opened.config.runtime
    check_batch(config)
    replicated, _ = distribution.placements(runtime)
    functions = archive.open_program(stored, replicated)
    prepared = dataset.load(
        opened.source,
        config.data,
        opened.identity.manifest,
        prepare=functions.prepare,
        cache_folder=environment.cache_folder(os.environ) if runtime.cache is None else Path(runtime.cache),
        identity=_arithmetic(opened),
    )
    program = make_program(config, functions, prepared.train)
    group.ready(opened.identity.run_hash)
    return prepared, program


def make_program(config: RunConfig, functions: Functions, train: dataset.PreparedSplit) -> Program:
    """`functions` on the samples of `train`."""
    _, sharded = distribution.placements(config.runtime)
    root, steps = root_key(config.engine.seed), functions.steps_per_epoch

    def order(epoch: np.int32) -> Array:
        return functions.order(root, epoch)

    return Program(
        digest=functions.digest,
        init=functions.init,
        place=functions.place,
        train_step=functions.train_step,
        load=make_loader(train, order, config.engine.batch_size, steps, sharded),
        root=root,
        leaf_names=functions.leaf_names,
        steps_per_epoch=steps,
    )


def _arithmetic(opened: Opened) -> str:
    """What decides, beside the data and their parameters, the bits of prepared arrays."""
    if promises.depends_on_machine(opened.config.determinism.name):
        return environment.fingerprint_digest(opened.fingerprint)
    return digest_json(
        {
            "determinism": opened.identity.config["config"]["determinism"],
            "semantics_version": opened.identity.run["semantics_version"],
        }
    )


def advance(
    folder: RunFolder,
    opened: Opened,
    program: Program,
    checkpoint: Checkpoint | None,
    last_step: int,
    watch: Watch | None = None,
    group: Group = ALONE,
) -> TrainState:
    """Train in `folder` from `checkpoint` (None: from the start) until `last_step` steps are done, writing chronicle,
    checkpoints and diagnoses; the hook of `watch` comes after the guard and before anything is written. The other
    processes of `group` are told to do the same steps. A run that acts on its diagnoses may stop before `last_step`.

    Raises `Interrupted`, after saving, where a signal asked for a stop.
    """
    runtime = opened.config.runtime
    if watch is None:
        due = hooks.every_epochs(runtime.checkpoint_every, program.steps_per_epoch)
        watch = Watch(hooks.Silent(), (), due, lambda: False)
    first = 0 if checkpoint is None else checkpoint.step
    previous = None if checkpoint is None else checkpoint_hash(checkpoint)
    group.tell({"program": program.digest, "checkpoint": previous, "last_step": last_step})
    state = first_state(program, checkpoint)
    agreed = distribution.agreement(runtime)
    offset = genesis(folder.run_hash) if checkpoint is None else checkpoint.chronicle_offset
    before = folder.chronicle() if first else []
    policy = opened.config.diagnostics
    continuity, entries = follow(Continuity(program.steps_per_epoch, policy), before)
    with hooks.progress_display(runtime.progress) as display, asked_to_stop() as signalled:
        bar = hooks.ProgressBar(display, first, last_step, folder.name, runtime.progress)
        with (
            ContinuityFile(folder.path, b"".join(entry.line() for entry in entries)) as diagnoses,
            ChronicleWriter(folder.path, offset) as writer,
            BackgroundSaver(
                folder,
                opened.identity,
                writer,
                steps_per_epoch=program.steps_per_epoch,
                previous=previous,
                keep=runtime.keep,
                saved=bar.saved,
            ) as saver,
        ):
            diagnosis = ContinuityHook(continuity, diagnoses.add)
            listed: list[Hook] = [
                hooks.NanGuard(program.leaf_names),
                watch.hook,
                hooks.Chronicle(writer, before[-1].timestamp if before else 0.0),
                diagnosis,
                bar,
                saver,
                hooks.Checkpoints(saver.save, watch.due),
            ]
            span = Span(first, first if diagnosis.stopped else last_step, program.steps_per_epoch, watch.boundaries)
            state, done = train_steps(
                acting(program, policy, diagnosis),
                state,
                program.load,
                span,
                listed,
                lambda: agreed(signalled() or watch.stopping()) or diagnosis.stopped,
            )
    if done < last_step and not (watch.stopping() or diagnosis.stopped):
        raise Interrupted(
            f"stopped after step {done} of {last_step}, which is saved; go on: crh-train resume {folder.argument}"
        )
    return state


def acting(program: Program, policy: DiagnosticsConfig, diagnosis: ContinuityHook) -> TrainStep:
    """The step of `program`; where the run acts, at the learning rate that `diagnosis` leaves it."""
    if not policy.act:
        return program.train_step
    return learning_rate_factor.following(program.train_step, lambda: diagnosis.learning_rate_factor, program.place)


def first_state(program: Program, checkpoint: Checkpoint | None) -> TrainState:
    """The state of `checkpoint`, or the one before the first step."""
    if checkpoint is None:
        return program.init(program.root)
    like = jax.eval_shape(program.init, program.root)  # which compiles nothing
    return program.place(from_host(host_state(checkpoint), like))


def host_state(checkpoint: Checkpoint) -> HostState:
    return HostState(checkpoint.model_state, checkpoint.optimizer_state, checkpoint.rng_state, checkpoint.step)


def session_record(opened: Opened, stored: StoredProgram, first_step: int, command: dict[str, Any]) -> dict[str, Any]:
    """What `environment.json` keeps of a session: where it ran and how it was asked for, none of it in a hash."""
    return {
        "command": command,
        "fingerprint": opened.fingerprint,
        "first_step": first_step,
        "program": stored.digest,
        "runtime": dataclasses.asdict(opened.config.runtime),
        "version": __version__,
    }
