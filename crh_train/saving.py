"""Saves checkpoints while training goes on: the state is copied, and one thread writes the copy.

What is on disk comes to be in the same order as if training waited (`run_folder.py`). At most one save is under way;
the next one waits for it. A save that fails stops the run at the step that is being done.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from crh_train import retention
from crh_train.checkpoint import Checkpoint
from crh_train.checkpoint_header import CheckpointName
from crh_train.chronicle import ChronicleOffset
from crh_train.chronicle_writer import ChronicleWriter
from crh_train.hooks import Silent
from crh_train.run_folder import Identity, RunFolder
from crh_train.state import HostState, copied
from crh_train.types import StepRecord


class BackgroundSaver(Silent):
    """The one saver of a run in training. Use as a context manager, within the writer's: it ends when all is saved.

    Args:
      writer: of the chronicle; only this saver syncs it.
      previous: the hash of the checkpoint that training goes on from.
      keep: how many checkpoints stay, the best and the newest; None: all.
      saved: called, in the saving thread, once a checkpoint is durable.
    """

    def __init__(
        self,
        folder: RunFolder,
        identity: Identity,
        writer: ChronicleWriter,
        *,
        steps_per_epoch: int,
        previous: str | None,
        keep: int | None,
        saved: Callable[[CheckpointName], None],
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._writer = writer
        self._steps_per_epoch = steps_per_epoch
        self._previous = previous
        self._keep = keep
        self._saved = saved
        self._loss = retention.EpochLoss()
        self._scores: dict[int, float] = {}
        if keep is not None and previous is not None:
            records = folder.chronicle()
            for record in records:
                self._loss.add(record)
            self._scores = retention.scores(records, {stored.name.step for stored in folder.checkpoints()})
        self._copy: HostState | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[str] | None = None

    def after_step(self, record: StepRecord) -> None:
        self._loss.add(record)
        if self._pending is not None and self._pending.done():
            self._settle()

    def save(self, host: HostState) -> None:
        """Begin to save `host`, which may change as soon as this returns. Waits for, and fails as, the save before."""
        self._settle()
        offset = self._writer.flush()
        self._copy = copied(host, self._copy)
        self._scores[host.step] = self._loss.mean
        self._pending = self._pool.submit(self._publish, self._copy, offset, self._previous, dict(self._scores))

    def _publish(
        self, host: HostState, offset: ChronicleOffset, previous: str | None, scores: Mapping[int, float]
    ) -> str:
        """The hash of the checkpoint, which is durable, with the chronicle that it points to."""
        self._writer.sync()
        stored = self._folder.save_checkpoint(
            Checkpoint(
                model_state=host.model_state,
                optimizer_state=host.optimizer_state,
                rng_state=host.rng_state,
                step=host.step,
                epoch_index=host.step // self._steps_per_epoch,
                config_hash=self._identity.run["config_hash"],
                dataset_state=self._identity.run["dataset_state"],
                run_hash=self._identity.run_hash,
                seed=self._identity.run["seed"],
                chronicle_offset=offset,
                previous=previous,
            )
        )
        self._saved(stored.name)
        self._remove_surplus(scores)
        return stored.name.hash

    def _remove_surplus(self, scores: Mapping[int, float]) -> None:
        if self._keep is not None:
            names = [each.name for each in self._folder.checkpoints()]
            self._folder.remove_checkpoints(retention.surplus(names, scores, self._keep))

    def _settle(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            self._previous = pending.result()

    def __enter__(self) -> "BackgroundSaver":
        self._remove_surplus(self._scores)  # the session before may have ended between saving and removing
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Where training failed and the save does too, the save's failure is told: what to do about it comes first.
        try:
            self._settle()
        finally:
            self._pool.shutdown()
