"""Runs a run again from its stored configuration, data and seed, and compares every bit with what was recorded.

What it runs is the run's archived program, so that it needs none of the code of models, losses and optimizers, which
may have moved on; or, if asked, the program that today's code makes. The replay happens in memory and in a scratch
folder; nothing in the run's own folder is touched.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crh_train import archive, checkpoint, chronicle_writer, divergence, environment, filesystem, hooks, promises
from crh_train.checkpoint import Checkpoint, checkpoint_hash
from crh_train.chronicle import ChronicleRecord
from crh_train.config import RunConfig
from crh_train.divergence import Difference
from crh_train.errors import Interrupted, UsageError
from crh_train.process_group import ALONE, Group
from crh_train.replay_report import ReplayReport
from crh_train.run_folder import StoredCheckpoint, StoredProgram
from crh_train.run_store import RunFolder, RunStore
from crh_train.segments import Segment
from crh_train.state import to_host
from crh_train.training import Watch, advance, build, open_recorded, session_record
from crh_train.types import StepRecord, TrainState


class _Comparison(hooks.Silent):
    """Compares each step's numbers and each saved state with what was recorded, up to the first step of which something
    differs, so that what is compared does not depend on how soon the steps stop after it."""

    def __init__(self, records: Sequence[ChronicleRecord], stored: Sequence[StoredCheckpoint]) -> None:
        self._records = records
        self._stored = {each.name.step: each for each in stored}
        self.steps = 0
        self.checkpoints = 0
        self.difference: Difference | None = None
        self.arrays: tuple[str, ...] = ()
        self.final_state: str | None = None
        self.differs_at: int | None = None  # the first step of which something differs

    @property
    def differs(self) -> bool:
        return self.differs_at is not None

    def after_step(self, record: StepRecord) -> None:
        if self.differs:
            return
        self.steps += 1
        recorded = self._records[record.step - 1]
        self.difference = divergence.first_difference(record.step, recorded._asdict(), record._asdict())
        if self.difference is not None:
            self.differs_at = record.step

    def at_boundary(self, step: int, state: TrainState, last: bool) -> None:
        if step not in self._stored or self.differs_at not in (None, step):
            return
        self.checkpoints += 1
        recorded = checkpoint.read(self._stored[step].path)  # which has the hash that its name states
        host = to_host(state)
        replayed = replace(
            recorded, model_state=host.model_state, optimizer_state=host.optimizer_state, rng_state=host.rng_state
        )
        self.final_state = checkpoint_hash(replayed)
        if self.final_state != self._stored[step].name.hash:
            lines = divergence.differing_arrays(checkpoint.named_arrays(recorded), checkpoint.named_arrays(replayed))
            self.arrays = tuple(f"state after step {step}: {line}" for line in lines)
            self.differs_at = step


def replay(
    folder: RunFolder,
    config: RunConfig,
    segment: Segment,
    scratch: Path,
    group: Group = ALONE,
    source: bool = False,
) -> ReplayReport:
    """Run the steps of `segment` of `folder` again, from the start or from the checkpoint that it begins with.

    `source`: by today's code and not by the archived program. Stops at the first difference. `scratch` is an empty
    folder that takes the replay's own run: its chronicle, the first state that differs, and the last one.

    Raises:
      UsageError: there is no checkpoint to begin with.
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
    saved = folder.checkpoints()
    start = _start(folder, saved, segment.first)
    comparison = _Comparison(records, saved)
    watch = Watch(
        comparison,
        boundaries={each.name.step for each in saved},
        due=lambda step: step == comparison.differs_at,
        stopping=lambda: comparison.differs,
    )
    identity = opened.identity
    session = session_record(opened, stored, segment.first, sessions[-1]["command"])
    try:
        with filesystem.advising("the run was not touched: set TMPDIR to a folder with room, and replay it again"):
            copy = RunStore(scratch).create(identity.run, identity.config, identity.manifest, session, stored)
            if start is not None:
                chronicle_writer.copy_prefix(folder.path, copy.path, start.chronicle_offset)
            advance(copy, opened, program, start, segment.last, watch, group)
    except Interrupted as error:
        raise Interrupted(
            f"the replay of run {folder.name} was stopped; {comparison.steps} of its steps were compared and are the "
            "same. The run itself was not touched: replay it again"
        ) from error
    difference = comparison.difference
    if not comparison.differs and comparison.steps < segment.last - segment.first:
        end = segment.first + comparison.steps
        difference = Difference(
            end + 1, "step", str(end + 1), f"none: the diagnosis stops the run after step {end}", None
        )
    return ReplayReport(
        run_hash=folder.run_hash,
        first_step=segment.first,
        last_step=segment.last,
        steps_compared=comparison.steps,
        checkpoints_compared=comparison.checkpoints,
        segments=1,
        identical=not comparison.differs and difference is None,
        program="source" if source else "archived",
        program_differs=differs,
        promised=all(kept for kept, _ in found),
        promise=next((sentence for kept, sentence in found if not kept), found[-1][1]),
        difference=difference,
        arrays=comparison.arrays,
        final_state=comparison.final_state,
        fingerprint=session["fingerprint"],
        version=session["version"],
    )


def _today(folder: RunFolder, config: RunConfig) -> StoredProgram:
    # Imported here: a replay by the archived program must not need what today's code is made of.
    from crh_train import session

    return session.program_of(session.open_stored(folder, config))


def _start(folder: RunFolder, saved: Sequence[StoredCheckpoint], step: int) -> Checkpoint | None:
    """The checkpoint to begin with after `step` steps; None for the start."""
    if step == 0:
        return None
    paths = [each.path for each in saved if each.name.step == step]
    if not paths:
        raise UsageError(f"run {folder.name} has no checkpoint after step {step} to begin with")
    return checkpoint.read(paths[-1])
