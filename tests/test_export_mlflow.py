"""`crh-train export --to mlflow`: what MLflow's own client reads of the store is what the run holds, once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import append, contents, copied, crh, refused
from conftest import Made
from store_samples import flip

from crh_train.chronicle import LINES_NAME
from crh_train.exports.contents import SERIES
from crh_train.run_store import RunFolder
from crh_train.run_summary import run_document

READER = """
import json, logging, sys
from mlflow.tracking import MlflowClient
logging.getLogger("mlflow").setLevel(logging.ERROR)
client = MlflowClient(tracking_uri=f"sqlite:///{sys.argv[1]}")
said = {}
for experiment in client.search_experiments():
    said[experiment.name] = [
        {
            "name": info.run_name,
            "status": info.status,
            "start": info.start_time,
            "end": info.end_time,
            "params": data.params,
            "tags": data.tags,
            "metrics": {
                name: [[each.step, each.value, each.timestamp] for each in client.get_metric_history(info.run_id, name)]
                for name in data.metrics
            },
            "artifacts": [item.path for item in client.list_artifacts(info.run_id, "reports")],
            "artifacts_at": info.artifact_uri.removeprefix("file://"),
        }
        for info, data in [(run.info, run.data) for run in client.search_runs([experiment.experiment_id])]
    ]
json.dump(said, sys.stdout)
"""


def read(store: Path) -> dict[str, list[dict[str, Any]]]:
    """The runs of every experiment that has any, as MLflow itself gives them, in a process of its own."""
    environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    said = subprocess.run(
        [sys.executable, "-c", READER, str(store)], env=environ, capture_output=True, text=True, check=True
    )
    found: dict[str, list[dict[str, Any]]] = json.loads(said.stdout)
    return {name: runs for name, runs in found.items() if runs}


def export(folder: RunFolder, store: Path, env: dict[str, str]) -> str:
    said = crh("export", folder.name, "--to", "mlflow", "-o", store, env=env, cwd=folder.path.parents[1])
    assert (said.returncode, said.stderr) == (0, "")
    return said.stdout


def test_mlflow_reads_back_all_of_a_run_that_was_exported_twice(
    finished: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    store, before = tmp_path / "new" / "mlflow.db", contents(finished.path)
    assert export(finished, store, env) == export(finished, store, env)
    assert contents(finished.path) == before
    run = run_document(finished)
    ((name, (found,)),) = read(store).items()
    assert (name, found["name"], found["status"]) == (run["conf"], finished.name, "FINISHED")
    records = finished.chronicle()
    for series in SERIES:
        steps, values, times = zip(*found["metrics"][f"train/{series}"], strict=True)
        assert list(steps) == [record.step for record in records]
        expected = np.array([getattr(record, series) for record in records], np.float32)
        assert np.array(values, np.float32).tobytes() == expected.tobytes()
        assert list(times) == [int(found["start"] + 1000 * record.timestamp) for record in records]
    assert found["end"] == times[-1]
    for metric, value in run["validation"].items():
        if value is not None:
            assert found["metrics"][f"held_out/{metric}"] == [[run["steps"], value, found["end"]]]
    assert found["params"]["engine.epochs"] == "3"
    assert found["params"]["data.shape"] == "[48, 48]"
    for key in ("run_hash", "config_hash", "dataset_state", "chronicle_head"):
        assert found["tags"][f"crh_train.{key}"] == run[key]
    at = Path(found["artifacts_at"])
    assert at.is_relative_to(tmp_path / "new" / "mlflow-artifacts")
    assert sorted(found["artifacts"]) == sorted(f"reports/{each.name}" for each in finished.path.glob("reports/*"))
    for path in found["artifacts"]:
        assert (at / path).read_bytes() == (finished.path / path).read_bytes()


def test_a_resumed_run_is_the_same_mlflow_run(
    finished: RunFolder, interrupted: Made, env: dict[str, str], tmp_path: Path
) -> None:
    stopped = copied(interrupted.run("term-stopped"), tmp_path / "runs")
    append(stopped, b'{"epoch":1,"batch":', b"")  # a line that is being written
    store = tmp_path / "mlflow.db"
    export(stopped, store, env)
    ((found,),) = read(store).values()
    assert (found["status"], found["artifacts"]) == ("RUNNING", [])
    assert [step for step, _, _ in found["metrics"]["train/loss"]] == list(range(1, 10))
    export(finished, store, env)
    ((found,),) = read(store).values()
    assert found["status"] == "FINISHED"
    assert [step for step, _, _ in found["metrics"]["train/loss"]] == [each.step for each in finished.chronicle()]


def test_what_cannot_be_exported_leaves_nothing_behind(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    words = ["export", store.name, "--to", "mlflow", "-o"]
    said = refused(crh(*words, "m.db", "--checkpoint", "1", env=env, cwd=tmp_path), 2)
    assert said == "--to mlflow writes the whole run; --checkpoint is for --to safetensors"
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "alembic.py").write_text("raise ImportError('as if it were not there')\n")
    without = {**env, "PYTHONPATH": f"{absent}{os.pathsep}{env['PYTHONPATH']}"}
    said = refused(crh(*words, "m.db", env=without, cwd=tmp_path), 2)
    assert said == ("--to mlflow needs the package mlflow-skinny: pip install 'crh-train[mlflow]'; nothing was written")
    assert "takes no file with ? in its path" in refused(crh(*words, "m?x.db", env=env, cwd=tmp_path), 2)
    (tmp_path / "notes.txt").write_text("not to be lost")
    said = refused(crh(*words, "notes.txt", env=env, cwd=tmp_path), 2)
    assert said.startswith("--to mlflow: notes.txt is no SQLite file; give one, or a new name,")
    assert (tmp_path / "notes.txt").read_text() == "not to be lost"
    flip(store.path / LINES_NAME, 900)
    assert "chronicle.jsonl line 7" in refused(crh(*words, "m.db", env=env, cwd=tmp_path), 3)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["absent", "notes.txt", "runs"]


@pytest.mark.slow
def test_a_server_that_is_not_there_is_named_soon(finished: RunFolder, env: dict[str, str]) -> None:
    words = ["export", finished.name, "--to", "mlflow", "-o", "http://127.0.0.1:9"]
    said = refused(crh(*words, env=env, cwd=finished.path.parents[1]), 2)
    assert said.startswith("--to mlflow: http://127.0.0.1:9: MLflow refused: ")
