"""The combinations of a sweep: what each is, which of them the runs on disk hold already, and what is to be done.

A combination is known by what it is and not by how it was written: `1e-3` and `0.001`, values given and defaults left
out, and keys of `runtime` in any way make the same one. The same combinations in any order are the same sweep.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from crh_train import SEMANTICS_VERSION
from crh_train.compose import compose, one_conf
from crh_train.config import RunConfig, semantic
from crh_train.data import manifest
from crh_train.data.sources import open_source
from crh_train.digest import digest_json
from crh_train.errors import ConfigError, Diverged, InputError
from crh_train.run_folder import RunFolder
from crh_train.run_store import RunStore

State = Literal["finished", "diverged", "resume", "run"]

_ALONE = "-m runs each combination in one process on its own; give runtime.processes without -m"


class Combination(NamedTuple):
    words: tuple[str, ...]  # as on a command line: conf=NAME KEY=VALUE…
    hash: str
    config: RunConfig | ConfigError  # an error where the words make no configuration


def combined(expanded: Sequence[Sequence[str]], folders: Sequence[Path]) -> list[Combination]:
    """Each of `expanded` with its configuration, in the order given; what is the same as an earlier one is left out.

    Raises `ConfigError` where none makes a configuration, and where one is to run in several processes.
    """
    if any(word.startswith("runtime.processes=") for words in expanded for word in words):
        raise ConfigError(_ALONE)
    made = [_made(tuple(words), folders) for words in expanded]
    errors = [each.config for each in made if isinstance(each.config, ConfigError)]
    if len(errors) == len(made):
        raise errors[0]
    if any(isinstance(each.config, RunConfig) and each.config.runtime.processes > 1 for each in made):
        raise ConfigError(_ALONE)
    return list({each.hash: each for each in reversed(made)}.values())[::-1]


def sweep_hash(combinations: Sequence[Combination]) -> str:
    """SHA-256 of the canonical JSON of the combinations' hashes, sorted: which sweep this is."""
    return digest_json(sorted(each.hash for each in combinations))


class StoredRuns:
    """The runs of a store by what they are, found without JAX."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._known: dict[str, str | None] = {}  # name of a folder -> what its run is, None where that is damaged
        self._data: dict[str, str | None] = {}  # data, where they are -> dataset state, None where they cannot be read

    def find(self, config: RunConfig) -> RunFolder | None:
        """The run of `config` on the data as they are now. None too where data cannot be read: the run says why."""
        if (data := self._dataset_state(config)) is None:
            return None
        wanted = _identity(semantic(config), data, config.engine.seed, SEMANTICS_VERSION)
        for folder in self._store.list():
            if folder.name not in self._known:
                self._known[folder.name] = _recorded_identity(folder)
            if self._known[folder.name] == wanted:
                return folder
        return None

    def _dataset_state(self, config: RunConfig) -> str | None:
        where = digest_json([dataclasses.asdict(config.data), config.runtime.data_root])
        if where not in self._data:
            try:
                self._data[where] = manifest.dataset_state(manifest.build(open_source(config), config.data))
            except (InputError, ConfigError):
                self._data[where] = None
        return self._data[where]


def state(record: Mapping[str, Any] | None, run: RunFolder | None, retry_diverged: bool) -> State:
    """What is to be done for a combination with the last `record` of its ledger and its `run` on disk.

    The run is right where the two disagree: one that is finished is finished, whoever finished it, and one that is not
    is gone on with, whatever became of its process. The ledger alone knows failures. What failed is done again, because
    memory, disk and signals are not the same the next time. Only divergence is: the same step would meet the same
    non-finite number. So it is shown again and not done again, as long as its run is there, unless `retry_diverged`.
    """
    if run is None:
        return "run"
    if run.finished:
        return "finished"
    diverged = record is not None and record["record"] == "failed" and record["error"] == Diverged.__name__
    if diverged and not retry_diverged and record is not None and record["run"] == run.run_hash:
        return "diverged"
    return "resume"


def words_of(combination: Combination, run: RunFolder | None) -> list[str]:
    """The command that does it: `run`, or `resume` of the unfinished `run`, with the same keys of `runtime`."""
    if run is None:
        return ["run", *combination.words]
    return ["resume", run.run_hash, *(word for word in combination.words if word.startswith("runtime."))]


def _made(words: tuple[str, ...], folders: Sequence[Path]) -> Combination:
    try:
        name, overrides = one_conf(words, folders)
        config = compose(name, overrides, folders)
    except ConfigError as error:
        return Combination(words, digest_json(sorted(_lasting(words))), error)
    return Combination(words, digest_json([semantic(config), config.engine.seed, config.runtime.data_root]), config)


def _lasting(words: Sequence[str]) -> Iterator[str]:
    return (word for word in words if not word.startswith("runtime."))


def _identity(config: Any, dataset_state: str, seed: int, version: int) -> str:
    return digest_json([config, dataset_state, seed, version])


def _recorded_identity(folder: RunFolder) -> str | None:
    try:
        run, document = folder.run_document(), folder.config_document()
        return _identity(document["config"], run["dataset_state"], run["seed"], run["semantics_version"])
    except InputError:
        return None
