"""A run in an MLflow store: a SQLite file of one's own, or a tracking server. Nothing is sent anywhere else.

- `train/loss`, `train/coherence`, `train/lr`, `train/grad_norm` at every step and `held_out/<metric>` at the last one;
- the configuration's values and the seed as parameters; hashes, command and version as tags `crh_train.<name>`;
- the reports of a finished run, with the picture of its cases, as artifacts.

The experiment is called as the run's configuration, the MLflow run as the run. A chronicle has seconds since the run
began and no date, so for MLflow the run begins when it is first exported. Exported again it is the same MLflow run:
what that has stays as it is, and what a resumed run has done since is added.
"""

import logging
import os
import shlex
from pathlib import Path
from typing import Any

from crh_train import filesystem
from crh_train.errors import UsageError
from crh_train.exports import Exported, check_folder
from crh_train.exports.contents import SERIES, Contents, contents_of, whole_run_only
from crh_train.run_store import RunFolder

_BATCH = 100  # of everything that MLflow takes at a time; of parameters and tags it takes no more
_FINISHED = "FINISHED"
_PREFIX = "crh_train."
_STEPS = f"{_PREFIX}steps"
_SERVER = ("http://", "https://")
_SQLITE = b"SQLite format 3\0"
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # a hospital's run is nobody else's business
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is crh-train's own, for scripts
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # instead of minutes before it says that there is no server
}


def export(folder: RunFolder, output: str, which: str | None = None) -> Exported:
    """Write a run, finished or not, to the SQLite file `output` (which is made), or to the server of that address.

    Raises:
      UsageError: MLflow is not installed or refuses, the file is another one, or one checkpoint is asked for.
      CorruptChronicle, CorruptRun: the run is damaged.
    """
    whole_run_only("mlflow", which)
    os.environ.update({name: value for name, value in _SETTINGS.items() if name not in os.environ})
    try:
        import alembic  # noqa: F401
        import sqlalchemy  # noqa: F401
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise UsageError(
            "--to mlflow needs the package mlflow-skinny: pip install 'crh-train[mlflow]'; nothing was written"
        ) from error
    contents = contents_of(folder)
    served = output.startswith(_SERVER)
    if not served:
        _own_file(Path(output))
    for name in ("mlflow", "alembic"):  # they tell of every table that they make
        logging.getLogger(name).setLevel(logging.WARNING)
    place = output if served else f"sqlite:///{Path(output).absolute()}"
    try:
        client = MlflowClient(tracking_uri=place)
        experiment = _experiment(client, folder, None if served else Path(output).absolute())
        run = _run(client, folder, experiment)
        _write(client, folder, contents, run)
    except MlflowException as error:
        raise UsageError(f"--to mlflow: {output}: MLflow refused: {error}") from error
    facts = {"experiment": _experiment_name(folder), "run_id": run.info.run_id, "steps": str(len(contents.records))}
    page = f"{output.rstrip('/')}/#/experiments/{experiment}/runs/{run.info.run_id}"
    return Exported(output, facts, f"open {page}" if served else f"mlflow ui --backend-store-uri {shlex.quote(place)}")


def _own_file(path: Path) -> None:
    if "?" in str(path.absolute()):  # where the options of a database's address begin
        raise UsageError(f"--to mlflow: {path}: MLflow takes no file with ? in its path; give another one")
    if path.is_dir() or (path.exists() and path.stat().st_size and _head(path) != _SQLITE):
        raise UsageError(
            f"--to mlflow: {path} is no SQLite file; give one, or a new name, or the http address of an MLflow server"
        )
    check_folder("mlflow", path.absolute().parent)
    filesystem.make_folders(path.absolute().parent)


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(len(_SQLITE))


def _experiment_name(folder: RunFolder) -> str:
    name: str = folder.sessions()[0]["command"]["conf"]
    return name


def _experiment(client: Any, folder: RunFolder, file: Path | None) -> str:
    """Its id. The artifacts of a file's experiments lie beside the file, and not wherever the command was given."""
    name = _experiment_name(folder)
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage != "active":
            raise UsageError(f"--to mlflow: the experiment {name} was deleted there; restore it with MLflow first")
        return str(found.experiment_id)
    place = None if file is None else (file.parent / f"{file.stem}-artifacts" / name).as_uri()
    return str(client.create_experiment(name, artifact_location=place))


def _run(client: Any, folder: RunFolder, experiment: str) -> Any:
    """The MLflow run that was exported before, or a new one."""
    key = f"{_PREFIX}run_hash"
    found = client.search_runs([experiment], filter_string=f"tags.`{key}` = '{folder.run_hash}'")
    if found:
        return found[0]
    return client.create_run(experiment, tags={key: folder.run_hash}, run_name=folder.name)


def _write(client: Any, folder: RunFolder, contents: Contents, run: Any) -> None:
    """What the MLflow run does not have: of an export that was cut short, MLflow keeps one of two equal metrics."""
    from mlflow.entities import Metric, Param, RunTag

    if run.info.status == _FINISHED:
        return
    tags = run.data.tags
    done = int(tags[_STEPS]) if _STEPS in tags else 0
    start, records = run.info.start_time, contents.records

    def at(seconds: float) -> int:
        return int(start + 1000 * seconds)

    end, step = (at(records[-1].timestamp), records[-1].step) if records else (start, 0)
    metrics = [
        Metric(f"train/{name}", float(getattr(record, name)), at(record.timestamp), record.step)
        for record in records
        if record.step > done
        for name in SERIES
    ]
    metrics += [Metric(name, value, end, step) for name, value in contents.metrics.items()]
    params = [Param(name, str(value)) for name, value in contents.settings.items()]
    for first in range(0, max(len(metrics), len(params)), _BATCH):
        part = slice(first, first + _BATCH)
        client.log_batch(run.info.run_id, metrics[part], params[part])
    identity = [RunTag(_PREFIX + name.replace(" ", "_"), value) for name, value in contents.identity.items()]
    client.log_batch(run.info.run_id, tags=[*identity, RunTag(_STEPS, str(step))])
    if folder.finished:
        client.log_artifacts(run.info.run_id, str(folder.path / "reports"), "reports")
        client.set_terminated(run.info.run_id, _FINISHED, end)
