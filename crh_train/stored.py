"""The configuration of a run on disk. No JAX: what it says about threads and devices is needed before JAX starts."""

import dataclasses
from collections.abc import Sequence

from crh_train import SEMANTICS_VERSION, __version__
from crh_train.compose import override_runtime, parse
from crh_train.config import RunConfig
from crh_train.diagnostics.policy import ADVICE_ONLY
from crh_train.errors import UsageError
from crh_train.run_store import RunFolder


def stored_config(folder: RunFolder, overrides: Sequence[str]) -> RunConfig:
    """The configuration of `folder`; `overrides` may change `runtime` keys only.

    The number of threads is the one that the run was made with, unless it is overridden: it decides bits under native
    determinism. There is one process, unless several are asked for. Raises `CorruptRun` for damaged files.
    """
    run, session = folder.run_document(), folder.sessions()[-1]
    document = folder.config_document()["config"]
    alone = {"processes": 1, "process": 0, "coordinator": None}
    before = {"compilation_cache": True}  # a run that is older than this key has none
    recorded = {**before, **session["runtime"], "threads": session["fingerprint"]["threads"], **alone}
    return parse(
        {
            "diagnostics": dataclasses.asdict(ADVICE_ONLY),  # a run that does not act has no such section
            **document,
            "engine": {**document["engine"], "seed": run["seed"]},
            "runtime": override_runtime(recorded, overrides),
        }
    )


def check_semantics(folder: RunFolder) -> None:
    """Raise `UsageError` where today's code gives the run's configuration another meaning; its archived program has
    kept the old one, so that it can be replayed all the same.
    """
    recorded, version = folder.run_document()["semantics_version"], folder.sessions()[-1]["version"]
    if recorded != SEMANTICS_VERSION:
        raise UsageError(
            f"run {folder.name} has semantics version {recorded}, this crh-train {__version__} has "
            f"{SEMANTICS_VERSION}: replay it by its archived program, or use crh-train {version}"
        )
