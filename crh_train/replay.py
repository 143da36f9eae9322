"""Runs a run again from its stored configuration, data and seed, and compares every bit with what was recorded.

What it runs is the run's archived program, so that it needs none of the code of models, losses and optimizers, which
may have moved on; or, if asked, the program that today's code makes. The replay happens in memory and in a scratch
folder; nothing in the run's own folder is touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crh_train import archive, checkpoint, chronicle_writer, divergence, environment, hooks, promises
from crh_train.checkpoint import Checkpoint, checkpoint_hash
from crh_train.chronicle import ChronicleRecord
from crh_train.config import RunConfig
from crh_train.divergence import Difference
from crh_train.errors import Interrupted, UsageError
from crh_train.process_group import ALONE, Group
from crh_train.run_folder import StoredCheckpoint, StoredProgram
from crh_train.run_store import RunFolder, RunStore
from crh_train.state import to_host
from crh_train.training import advance, build, open_recorded, session_record
from crh_train.types import StepRecord, TrainState


@dataclass(frozen=True)
class ReplayReport:
    """What a replay found. Identical means: every chronicle value and every checkpoint's state has the same bits."""

    run_hash: str
    first_step: int  # steps done where the replay began
    last_step: int
    steps_compared: int
    checkpoints_compared: int
    identical: bool
    program: str  # "archived", or "source": what today's code makes
    program_differs: tuple[str, ...]  # the functions in which that is not the archived one; empty for "archived"
    promised: bool  # whether these bits are promised here
    promise: str  # a sentence
    difference: Difference | None  # the first one
    arrays: tuple[str, ...]  # in words, the arrays that differ at the first checkpoint that does
    final_state: str | None  # the last compared checkpoint's hash, as replayed


class _Comparison(hooks.Silent):
    """Compares each step's numbers and each saved state with what was recorded, until the first difference."""

    def __init__(self, records: Sequence[ChronicleRecord], stored: Sequence[StoredCheckpoint]) -> None:
        self._records = records
        self._stored = {each.name.step: each.path for each in stored}
        self.steps = 0
        self.checkpoints = 0
        self.difference: Difference | None = None
        self.arrays: tuple[str, ...] = ()
        self.final_state: str | None = None

    @property
    def differs(self) -> bool:
        return self.difference is not None or bool(self.arrays)

    def after_step(self, record: StepRecord) -> None:
        if self.difference is None:
            self.steps += 1
            recorded = self._records[record.step - 1]
            self.difference = divergence.first_difference(record.step, recorded._asdict(), record._asdict())

    def at_boundary(self, step: int, state: TrainState, last: bool) -> None:
        if step not in self._stored or self.arrays:
            return
        self.checkpoints += 1
        recorded = checkpoint.read(self._stored[step])
        host = to_host(state)
        replayed = replace(
            recorded, model_state=host.model_state, optimizer_state=host.optimizer_state, rng_state=host.rng_state
        )
        self.final_state = checkpoint_hash(replayed)
        if self.final_state != checkpoint_hash(recorded):
            lines = divergence.differing_arrays(_arrays(recorded), _arrays(replayed))
            self.arrays = tuple(f"state after step {step}: {line}" for line in lines)


def replay(
    folder: RunFolder,
    config: RunConfig,
    from_epoch: int | None,
    to_epoch: int | None,
    scratch: Path,
    group: Group = ALONE,
    source: bool = False,
) -> ReplayReport:
    """Run epochs `from_epoch` (None: the start) to `to_epoch` (None: as far as the run got) of `folder` again.

    `source`: by today's code and not by the archived program. A segment begins with the checkpoint saved after
    `from_epoch` epochs. Stops at the first difference. `scratch` is an empty folder that takes the replay's own run,
    chronicle and checkpoints included.

    Raises:
      UsageError: there is no checkpoint at `from_epoch`, or the run did not get to `to_epoch`.
      DataError: the data are not those of the run; the message names the files.
      Interrupted: a signal asked for a stop.
    """
    opened, archived = open_recorded(folder, config), folder.program()
    stored = _today(folder, config) if source else archived
    differs = tuple(archive.differing(archived, stored))
    sessions = folder.sessions()
    changes = [environment.differences(session["fingerprint"], opened.fingerprint) for session in sessions]
    found = [promises.promise(config.determinism.name, each) for each in changes]
    if differs:
        found.append((False, f"today's code makes another program ({', '.join(differs)}): no bits are promised"))
    records = folder.chronicle()
    _, program = build(opened, stored, group)
    start, last = _segment(folder, from_epoch, to_epoch, program.steps_per_epoch, len(records))
    comparison = _Comparison(records, folder.checkpoints())
    identity = opened.identity
    session = session_record(opened, stored, 0 if start is None else start.step, sessions[-1]["command"])
    copy = RunStore(scratch).create(identity.run, identity.config, identity.manifest, session, stored)
    if start is not None:
        chronicle_writer.copy_prefix(folder.path, copy.path, start.chronicle_offset)
    try:
        advance(copy, opened, program, start, last, [comparison], lambda: comparison.differs, group)
    except Interrupted as error:
        raise Interrupted(
            f"the replay of run {folder.name} was stopped; {comparison.steps} of its steps were compared and are the "
            "same. The run itself was not touched: replay it again"
        ) from error
    return ReplayReport(
        run_hash=folder.run_hash,
        first_step=0 if start is None else start.step,
        last_step=last,
        steps_compared=comparison.steps,
        checkpoints_compared=comparison.checkpoints,
        identical=not comparison.differs,
        program="source" if source else "archived",
        program_differs=differs,
        promised=all(kept for kept, _ in found),
        promise=next((sentence for kept, sentence in found if not kept), found[-1][1]),
        difference=comparison.difference,
        arrays=comparison.arrays,
        final_state=comparison.final_state,
    )


def _today(folder: RunFolder, config: RunConfig) -> StoredProgram:
    # Imported here: a replay by the archived program must not need what today's code is made of.
    from crh_train import session

    return session.program_of(session.open_stored(folder, config))


def _segment(
    folder: RunFolder, from_epoch: int | None, to_epoch: int | None, steps_per_epoch: int, recorded: int
) -> tuple[Checkpoint | None, int]:
    """The checkpoint to begin with (None: the start) and the last step to do."""
    first = 0 if from_epoch is None else from_epoch * steps_per_epoch
    last = recorded if to_epoch is None else to_epoch * steps_per_epoch
    reached = recorded // steps_per_epoch
    if last > recorded:
        raise UsageError(f"--to {to_epoch}: run {folder.name} got to epoch {reached}; give at most {reached}")
    saved = {each.name.step: each.path for each in folder.checkpoints()}
    if first and first not in saved:
        epochs = ", ".join(str(step // steps_per_epoch) for step in [0, *sorted(saved)] if step % steps_per_epoch == 0)
        raise UsageError(f"--from {from_epoch}: run {folder.name} has no checkpoint there; it has epochs {epochs}")
    if first >= last:
        raise UsageError(
            f"run {folder.name} has nothing to replay from step {first} to step {last}; --from comes first"
        )
    return (checkpoint.read(saved[first]) if first else None), last


def _arrays(found: Checkpoint) -> dict[str, np.ndarray]:
    arrays = {f"model {name}": array for name, array in found.model_state.items()}
    return {**arrays, **{f"optimizer {name}": array for name, array in found.optimizer_state.items()}}
