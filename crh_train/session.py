"""One session of training: from a configuration to a finished run, or from an unfinished run on to its end.

Everything that a run needs is opened and checked before its folder is made, so that a mistake leaves nothing behind.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from crh_train import __version__, divergence, environment, hooks, validator
from crh_train.assemble import Identity, Program, identify, make_program, open_source
from crh_train.checkpoint import Checkpoint, checkpoint_hash
from crh_train.chronicle import audit, genesis, read_tail
from crh_train.chronicle_writer import ChronicleWriter
from crh_train.config import RunConfig
from crh_train.data import cache, dataset
from crh_train.data.manifest import changed_files
from crh_train.data.volume import Source
from crh_train.engine import Span, train
from crh_train.errors import BitsDiffer, DataError, Interrupted, UsageError
from crh_train.reports import ManifestSummary, ReportInputs
from crh_train.reports import build as build_reports
from crh_train.run_store import RunFolder, RunStore
from crh_train.state import HostState, from_host
from crh_train.types import Hook, TrainState


class Opened(NamedTuple):
    """A configuration with its data found and hashed, on this machine."""

    config: RunConfig
    source: Source
    identity: Identity
    fingerprint: dict[str, Any]


class Outcome(NamedTuple):
    folder: RunFolder
    already_finished: bool
    notes: tuple[str, ...]  # what the user should know, such as a resume under another fingerprint


def open_config(config: RunConfig) -> Opened:
    """Find and hash the data, start JAX. Raises `DataError`, `ConfigError`."""
    source = open_source(config)
    return Opened(config, source, identify(config, source), environment.fingerprint(os.environ, config.runtime.devices))


def open_stored(folder: RunFolder, config: RunConfig) -> Opened:
    """Like `open_config`, for a run on disk. Raises `DataError` naming each file that is not what it was made on."""
    opened = open_config(config)
    recorded = folder.manifest()
    if changes := changed_files(recorded, opened.identity.manifest):
        raise DataError(f"the data of run {folder.name} changed: {'; '.join(changes)}; put the recorded files back")
    if opened.identity.run != folder.run_document():
        raise UsageError(
            f"run {folder.name}: the same files and configuration now give another identity; it was made by crh-train "
            f"{folder.sessions()[0]['version']}, this is {__version__}"
        )
    return opened


def build(opened: Opened) -> tuple[dataset.Dataset, Program]:
    """Prepare the data, or take them from the cache, and make the program."""
    config = opened.config
    folder = cache.default_folder() if config.runtime.cache is None else Path(config.runtime.cache)
    prepared = dataset.load(
        opened.source,
        config.data,
        opened.identity.manifest,
        transform=jax.jit,
        cache_folder=folder,
        identity=environment.fingerprint_digest(opened.fingerprint),
    )
    return prepared, make_program(config, prepared.train)


def run(config: RunConfig, name: str, overrides: Sequence[str], store: RunStore) -> Outcome:
    """Train `config` from the start, in a new run of `store`. A finished run is not done twice.

    Raises `UsageError` for a run that exists unfinished, `Diverged`, `Interrupted`, `DataError`, `ConfigError`.
    """
    opened = open_config(config)
    if (folder := store.get(opened.identity.run_hash)) is not None:
        if folder.finished:
            return Outcome(folder, True, ())
        raise UsageError(
            f"run {folder.name} exists already and is {folder.status}; go on: crh-train resume {folder.argument}"
        )
    prepared, program = build(opened)
    session = _session(opened, 0, {"conf": name, "overrides": list(overrides)})
    folder = store.create(opened.identity.run, opened.identity.config, opened.identity.manifest, session)
    with folder.lock():
        _complete(folder, opened, prepared, program, None)
    return Outcome(folder, False, ())


def resume(folder: RunFolder, config: RunConfig) -> Outcome:
    """Go on with an unfinished run from its newest good checkpoint, to the same bits as without the interruption.

    Raises as `run` does, `RunBusy` while another process writes to the run, and `BitsDiffer` where a step that was
    logged but not yet saved came out otherwise than before the interruption, though the fingerprint is the same.
    """
    if folder.finished:
        return Outcome(folder, True, ())
    with folder.lock():
        opened = open_stored(folder, config)
        recorded = folder.sessions()[-1]["fingerprint"]
        kept, sentence = environment.promise(recorded, opened.fingerprint)
        prepared, program = build(opened)
        recovered = folder.recover()
        first = 0 if recovered.checkpoint is None else recovered.checkpoint.step
        folder.add_session(_session(opened, first, folder.sessions()[0]["command"]))
        _complete(folder, opened, prepared, program, recovered.checkpoint)
    notes = recovered.notes if kept else (*recovered.notes, sentence)
    if (difference := _difference_from_tail(folder)) is not None:
        message = f"what was logged before the interruption came out otherwise when it was done again: {difference}"
        if kept:
            raise BitsDiffer(
                f"run {folder.name} is finished, but {message}; either chronicle.tail was damaged, or this machine is "
                f"not deterministic, which shows now: crh-train replay {folder.argument}"
            )
        notes = (*notes, message)
    return Outcome(folder, False, notes)


def _difference_from_tail(folder: RunFolder) -> divergence.Difference | None:
    """Where the lines that recovery set aside differ from the same steps' lines of the finished run."""
    done = {record.step: record._asdict() for record in folder.chronicle()}
    tail = [logged for logged in read_tail(folder.path) if logged.step in done]
    found = (divergence.first_difference(logged.step, logged._asdict(), done[logged.step]) for logged in tail)
    return next((difference for difference in found if difference is not None), None)


def advance(
    folder: RunFolder,
    opened: Opened,
    program: Program,
    checkpoint: Checkpoint | None,
    last_step: int,
    more_hooks: Sequence[Hook] = (),
    stopping: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Train in `folder` from `checkpoint` (None: from the start) until `last_step` steps are done, writing chronicle
    and checkpoints; `more_hooks` come after the guard and before anything is written.

    Raises `Interrupted`, after saving, where a signal asked for a stop.
    """
    runtime = opened.config.runtime
    start = program.init(program.root)
    state = start if checkpoint is None else from_host(host_state(checkpoint), like=start)
    first = 0 if checkpoint is None else checkpoint.step
    offset = genesis(folder.run_hash) if checkpoint is None else checkpoint.chronicle_offset
    with (
        ChronicleWriter(folder.path, offset) as writer,
        hooks.progress_display(runtime.progress) as display,
        hooks.stop_signals() as signalled,
    ):
        previous = None if checkpoint is None else checkpoint_hash(checkpoint)
        saver = Saver(folder, opened.identity, writer, program.steps_per_epoch, previous)
        listed: list[Hook] = [
            hooks.NanGuard(program.leaf_names),
            *more_hooks,
            hooks.Chronicle(writer, folder.chronicle()[-1].timestamp if first else 0.0),
            hooks.ProgressBar(display, first, last_step, folder.name),
            hooks.Checkpoints(saver.save, runtime.checkpoint_every, program.steps_per_epoch),
        ]
        span = Span(first, last_step, program.steps_per_epoch)
        state, done = train(program.train_step, state, program.load, span, listed, lambda: signalled() or stopping())
        interrupted = signalled()
    if interrupted and done < last_step:
        raise Interrupted(
            f"stopped after step {done} of {last_step}, which is saved; go on: crh-train resume {folder.argument}"
        )
    return state


class Saver:
    """Makes a checkpoint of a state on the host and publishes it after the chronicle lines that it points to."""

    def __init__(
        self,
        folder: RunFolder,
        identity: Identity,
        writer: ChronicleWriter,
        steps_per_epoch: int,
        previous: str | None,
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._writer = writer
        self._steps_per_epoch = steps_per_epoch
        self._previous = previous

    def save(self, host: HostState) -> None:
        self._writer.sync()
        checkpoint = Checkpoint(
            model_state=host.model_state,
            optimizer_state=host.optimizer_state,
            rng_state=host.rng_state,
            step=host.step,
            epoch_index=host.step // self._steps_per_epoch,
            config_hash=self._identity.run["config_hash"],
            dataset_state=self._identity.run["dataset_state"],
            run_hash=self._identity.run_hash,
            seed=self._identity.run["seed"],
            chronicle_offset=self._writer.offset(),
            previous=self._previous,
        )
        self._folder.save_checkpoint(checkpoint)
        self._previous = checkpoint_hash(checkpoint)


def _complete(
    folder: RunFolder, opened: Opened, prepared: dataset.Dataset, program: Program, checkpoint: Checkpoint | None
) -> None:
    """Train to the end, validate, and publish the reports, which make the run a finished one."""
    config, run = opened.config, opened.identity.run
    state = advance(folder, opened, program, checkpoint, config.engine.epochs * program.steps_per_epoch)
    volumes = validator.volumes_of(opened.identity.manifest)
    scores, evaluation = validator.validate(program.parts, state.params, prepared.validation, volumes)
    records = folder.chronicle()
    inputs = ReportInputs(
        name=folder.sessions()[0]["command"]["conf"],
        run_hash=folder.run_hash,
        config_hash=run["config_hash"],
        dataset_state=run["dataset_state"],
        seed=run["seed"],
        config=opened.identity.config["config"],
        manifest=ManifestSummary(len(prepared.train.ids), len(prepared.validation.ids), opened.source.name),
        records=records,
        validation=validator.report(scores),
        cases=validator.cases(prepared.validation.ids, evaluation, program.parts.task.classes),
        classes=program.parts.task.classes,
        final_checkpoint=folder.checkpoints()[-1].name.hash,
        chronicle_head=audit(folder.path, folder.run_hash).good.head,
        fingerprint=opened.fingerprint,
        determinism=config.determinism.name,
    )
    for name, data in build_reports(inputs).items():
        folder.publish(f"reports/{name}", data)


def host_state(checkpoint: Checkpoint) -> HostState:
    return HostState(checkpoint.model_state, checkpoint.optimizer_state, checkpoint.rng_state, checkpoint.step)


def _session(opened: Opened, first_step: int, command: dict[str, Any]) -> dict[str, Any]:
    """What `environment.json` keeps of a session: where it ran and how it was asked for, none of it in a hash."""
    return {
        "command": command,
        "fingerprint": opened.fingerprint,
        "first_step": first_step,
        "runtime": dataclasses.asdict(opened.config.runtime),
        "version": __version__,
    }
