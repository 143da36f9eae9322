"""One session of training: from a configuration to a finished run, or from an unfinished run on to its end.

Everything that a run needs is opened and checked before its folder is made, so that a mistake leaves nothing behind.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from crh_train import __version__, distribution, divergence, environment, filesystem, promises, training, validator
from crh_train.assemble import archive_program, determinism, identify, layout, make_parts
from crh_train.checkpoint import Checkpoint
from crh_train.chronicle import ChronicleRecord
from crh_train.chronicle_audit import audit, read_tail
from crh_train.config import RunConfig
from crh_train.data import dataset
from crh_train.data.sources import open_source
from crh_train.errors import BitsDiffer, Interrupted, UsageError
from crh_train.process_group import ALONE, Group
from crh_train.recovery import recover
from crh_train.reports import ManifestSummary, ReportInputs
from crh_train.reports import build as build_reports
from crh_train.run_folder import StoredProgram
from crh_train.run_store import RunFolder, RunStore
from crh_train.stored import check_semantics
from crh_train.tasks.labels import check_labels
from crh_train.training import Opened, Program, advance, build, open_recorded, session_record


class Outcome(NamedTuple):
    folder: RunFolder
    already_finished: bool
    notes: tuple[str, ...]  # what the user should know, such as a resume under another fingerprint


def open_config(config: RunConfig) -> Opened:
    """A configuration with its data found and hashed. Starts JAX. Raises `DataError`, `ConfigError`."""
    source = open_source(config)
    return training.opened(config, source, identify(config, source))


def open_stored(folder: RunFolder, config: RunConfig) -> Opened:
    """Like `open_config`, for a run on disk, to which today's code must give the same identity.

    Raises `DataError` naming each file that is not what the run was made on, and `UsageError` where the code moved on.
    """
    check_semantics(folder)
    recorded = open_recorded(folder, config)
    identity = identify(config, recorded.source)
    if identity.run != recorded.identity.run:
        raise UsageError(
            f"run {folder.name}: the same files and configuration now give another identity; it was made by crh-train "
            f"{folder.sessions()[0]['version']}, this is {__version__}"
        )
    return recorded._replace(identity=identity)  # equal, and in the order in which the configuration was written


def program_of(opened: Opened) -> StoredProgram:
    """The program that today's code makes. Raises `ConfigError` where parts do not fit together."""
    return archive_program(opened.config, opened.source, opened.identity.manifest)


def run(config: RunConfig, name: str, overrides: Sequence[str], store: RunStore, group: Group = ALONE) -> Outcome:
    """Train `config` from the start, in a new run of `store`, with the other processes of `group` in `follower.follow`.
    A finished run is not done twice.

    Raises `UsageError` for a run that exists unfinished, `Diverged`, `Interrupted`, `DataError`, `ConfigError`.
    """
    opened = open_config(config)
    if (folder := store.get(opened.identity.run_hash)) is not None:
        return _existing(folder)
    stored = program_of(opened)
    prepared, program = build(opened, stored, group)
    parts = make_parts(config, program.steps_per_epoch, layout(config, opened.source))
    for split in (prepared.train, prepared.validation):
        check_labels(parts.task, split.labels)
    session = session_record(opened, stored, 0, {"conf": name, "overrides": list(overrides)})
    with filesystem.advising("see to the disk, or choose another --runs, then give the command again"):
        folder = store.create(opened.identity.run, opened.identity.config, opened.identity.manifest, session, stored)
    with _locked(folder):
        # Another process can have made the run since it was looked for.
        if folder.untouched and folder.sessions() == [session]:
            with _to_be_resumed(folder):
                _complete(folder, opened, prepared, program, None, group)
            return Outcome(folder, False, ())
    return _existing(folder)


def _existing(folder: RunFolder) -> Outcome:
    if folder.finished:
        folder.confirm_finished()
        return Outcome(folder, True, ())
    raise UsageError(
        f"run {folder.name} exists already and is {folder.status}; go on: crh-train resume {folder.argument}"
    )


def resume(folder: RunFolder, config: RunConfig, group: Group = ALONE) -> Outcome:
    """Go on with an unfinished run from its newest good checkpoint, by its own program, to the same bits as without the
    interruption.

    Raises as `run` does, `RunBusy` while another process writes to the run, and `BitsDiffer` where a step that was
    logged but not yet saved came out otherwise than before the interruption, though the same bits are promised.
    """
    if folder.finished:
        folder.confirm_finished()
        return Outcome(folder, True, ())
    with _locked(folder):
        opened, stored = open_stored(folder, config), folder.program()
        changes = environment.differences(folder.sessions()[-1]["fingerprint"], opened.fingerprint)
        kept, sentence = promises.promise(config.determinism.name, changes)
        prepared, program = build(opened, stored, group)
        difference = _difference_from_tail(folder)  # recovery may replace the tail
        with _to_be_resumed(folder):
            recovered = recover(folder)
            first = 0 if recovered.checkpoint is None else recovered.checkpoint.step
            folder.add_session(session_record(opened, stored, first, folder.sessions()[0]["command"]))
            _complete(folder, opened, prepared, program, recovered.checkpoint, group)
    notes = recovered.notes if kept else (*recovered.notes, sentence)
    difference = difference or _difference_from_tail(folder)
    if difference is not None:
        message = f"what was logged before the interruption came out otherwise when it was done again: {difference}"
        if kept:
            raise BitsDiffer(
                f"run {folder.name} is finished, but {message}; either chronicle.tail was damaged, or this machine is "
                f"not deterministic, which shows now: crh-train replay {folder.argument}"
            )
        notes = (*notes, message)
    return Outcome(folder, False, notes)


def _difference_from_tail(folder: RunFolder) -> divergence.Difference | None:
    """Where the lines that recovery set aside differ from the same steps' lines when they were done again."""
    records: list[ChronicleRecord] = []
    audit(folder.path, folder.run_hash, records.append)
    done = {record.step: record._asdict() for record in records}
    tail = [logged for logged in read_tail(folder.path) if logged.step in done]
    found = (divergence.first_difference(logged.step, logged._asdict(), done[logged.step]) for logged in tail)
    return next((difference for difference in found if difference is not None), None)


@contextlib.contextmanager
def _locked(folder: RunFolder) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with _to_be_resumed(folder):
            stack.enter_context(folder.lock())
        yield


@contextlib.contextmanager
def _to_be_resumed(folder: RunFolder) -> Iterator[None]:
    """What a signal, which outside the steps stops at once, and the disk end here, names the command that goes on."""
    try:
        with filesystem.advising(f"see to the disk, then go on: crh-train resume {folder.argument}"):
            yield
    except KeyboardInterrupt as stop:
        raise Interrupted(
            f"stopped by a signal; what was saved is kept, go on: crh-train resume {folder.argument}"
        ) from stop


def _complete(
    folder: RunFolder,
    opened: Opened,
    prepared: dataset.Dataset,
    program: Program,
    checkpoint: Checkpoint | None,
    group: Group,
) -> None:
    """Train to the end, validate, and publish the reports, which make the run a finished one."""
    config, run = opened.config, opened.identity.run
    state = advance(folder, opened, program, checkpoint, config.engine.epochs * program.steps_per_epoch, group=group)
    params = distribution.replica(state.params)
    parts = make_parts(config, program.steps_per_epoch, layout(config, opened.source))
    transform = determinism(config).transform
    volumes = validator.held_out_volumes(opened.identity.manifest)
    names = opened.source.class_names
    found = validator.validate(parts, params, prepared.validation, volumes, transform, names)
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
        validation=found.report,
        cases=found.pictures,
        held_out=found.held_out,
        classes=parts.task.classes,
        final_checkpoint=folder.checkpoints()[-1].name.hash,
        chronicle_head=audit(folder.path, folder.run_hash).good.head,
        fingerprint=opened.fingerprint,
        determinism=config.determinism.name,
    )
    for name, data in build_reports(inputs).items():
        folder.publish(f"reports/{name}", data)
