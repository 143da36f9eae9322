"""The configuration of a run on disk. No JAX: what it says about threads and devices is needed before JAX starts."""

from collections.abc import Sequence

from crh_train import SEMANTICS_VERSION, __version__
from crh_train.compose import override_runtime, parse
from crh_train.config import RunConfig
from crh_train.errors import UsageError
from crh_train.run_store import RunFolder


def stored_config(folder: RunFolder, overrides: Sequence[str]) -> RunConfig:
    """The configuration of `folder`; `overrides` may change `runtime` keys only.

    The number of threads is the one that the run was made with, unless it is overridden: it decides bits under native
    determinism. Raises `UsageError` where the run has another semantics version, `CorruptRun` for damaged files.
    """
    run, session = folder.run_document(), folder.sessions()[-1]
    if run["semantics_version"] != SEMANTICS_VERSION:
        raise UsageError(
            f"run {folder.name} has semantics version {run['semantics_version']}, this crh-train {__version__} has "
            f"{SEMANTICS_VERSION}; use crh-train {session['version']} to run or replay it"
        )
    document = folder.config_document()["config"]
    recorded = {**session["runtime"], "threads": session["fingerprint"]["threads"]}
    return parse(
        {
            **document,
            "engine": {**document["engine"], "seed": run["seed"]},
            "runtime": override_runtime(recorded, overrides),
        }
    )
