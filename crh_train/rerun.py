"""A run done again step by step, to be compared with another that is: the steps by its archived program, the operations
of one of them by the program that today's code makes of its configuration. Writes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array

from crh_train import archive, checkpoint
from crh_train.assemble import determinism, layout, make_parts
from crh_train.config import RunConfig
from crh_train.digest import digest_arrays
from crh_train.engine import make_init, make_train_step
from crh_train.errors import UsageError
from crh_train.first_operation import Evaluated, Taken
from crh_train.operations import Chunk, Program, enter
from crh_train.run_store import RunFolder
from crh_train.session import program_of
from crh_train.state import HostState, copied, from_host, to_host
from crh_train.training import build, first_state, host_state, open_recorded
from crh_train.types import Batch, TrainState

_BATCH = ("sample", "image", "label")  # which samples comes first: others are other images


class Rerun:
    """Run `folder` again. Each method goes on from where the one before stopped."""

    def __init__(self, folder: RunFolder, config: RunConfig) -> None:
        """Raises `DataError` where the data are not those of the run."""
        self._folder = folder
        self._opened = open_recorded(folder, config)
        self._stored = folder.program()
        _, self._program = build(self._opened, self._stored)
        self._records = folder.chronicle()
        self._done = 0
        self._state: TrainState
        self._before: HostState
        self._batch: Batch
        self._chunks: Iterator[Chunk]
        self._chunk: Chunk

    def begin(self, step: int) -> dict[str, str]:
        """Go to the state after `step` steps: the start, or a checkpoint. Returns the digest of each of its arrays."""
        found = [saved.path for saved in self._folder.checkpoints() if saved.name.step == step]
        if step and not found:
            raise UsageError(f"run {self._folder.name} has no checkpoint after step {step} to begin with")
        self._state = first_state(self._program, checkpoint.read(found[-1]) if step else None)
        self._done = step
        return _digests(_named(to_host(self._state)))

    def advance(self) -> Taken:
        """Do the next step."""
        self._batch = self._program.load(self._done)
        self._before = copied(to_host(self._state), None)  # the step takes over the memory
        self._state, found = self._program.train_step(self._state, self._batch)
        self._done += 1
        numbers = {name: np.asarray(value) for name, value in jax.device_get(found)._asdict().items()}
        arrays = _named(to_host(self._state))
        return Taken(_digests(self._inputs()), _digests({**numbers, **arrays}), self._reproduced(numbers, arrays))

    def _reproduced(self, numbers: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> bool:
        """Whether a step's numbers and state are what is recorded of it."""
        recorded = self._records[self._done - 1]._asdict()
        if any(numbers[name].tobytes() != recorded[name].tobytes() for name in numbers if name in recorded):
            return False
        saved = [each.path for each in self._folder.checkpoints() if each.name.step == self._done]
        return all(_digests(arrays) == _digests(_named(host_state(checkpoint.read(path)))) for path in saved)

    def array(self, name: str) -> np.ndarray | None:
        """An input by its name: of the batch of the last step, or the root key."""
        if name == "root key":
            return np.asarray(jax.random.key_data(self._program.root))
        inputs = self._inputs()
        return inputs[name] if name in inputs else None

    def made_otherwise(self) -> list[str]:
        """The functions that today's code makes otherwise than they were archived."""
        return archive.differing(self._stored, program_of(self._opened))

    def trace(self, function: str) -> None:
        """Begin to evaluate the operations of "init", or of the last "step" that was done."""
        config, root = self._opened.config, self._program.root
        self._transform = determinism(config).transform
        parts = make_parts(config, self._program.steps_per_epoch, layout(config, self._opened.source))
        init = make_init(parts)
        traced: Any = init
        arguments: tuple[Any, ...] = (root,)
        if function == "step":
            like = jax.eval_shape(init, root)
            traced = make_train_step(parts, config.engine.micro_batches)
            arguments = (self._program.place(from_host(self._before, like)), self._batch)
        self._witness = jax.numpy.ones((), np.int32)
        # Of shapes alone, as for the archive: placed arrays would leave their devices in the program.
        program = Program(jax.make_jaxpr(traced)(*jax.tree.map(_bare, arguments)), self._transform)
        self._chunks = program.evaluate(jax.tree.leaves(arguments), self._witness)

    def chunk(self) -> Sequence[Evaluated]:
        """Evaluate the next operations; none at the end."""
        found = next(self._chunks, None)
        if found is None:
            return []
        self._chunk = found
        return found.evaluated

    def results(self, index: int) -> list[np.ndarray]:
        """What the operation at `index` of the last chunk gave."""
        return self._chunk.results(index)

    def enter(self, index: int) -> None:
        """Go into the operation at `index` of the last chunk, and evaluate what it consists of."""
        self._chunks = enter(self._chunk, index, self._transform, self._witness)

    def _inputs(self) -> dict[str, np.ndarray]:
        given = self._batch._asdict()
        return {f"batch.{name}": np.asarray(given[name]) for name in _BATCH if given[name] is not None}


def _named(host: HostState) -> dict[str, np.ndarray]:
    return checkpoint.named_arrays(host)


def _digests(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    return {name: digest_arrays({"": array}) for name, array in arrays.items()}


def _bare(array: Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)
