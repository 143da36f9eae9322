"""A run from somebody else, whose documents have every hash in order and say anything: each command ends in a line."""

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from crh_train.cli import app
from crh_train.digest import canonical_json, digest_bytes
from crh_train.errors import CrhTrainError
from crh_train.run_folder import environment_bytes
from crh_train.run_store import RunFolder
from crh_train.statement import predicate
from crh_train.stored import stored_config

GONE = object()
VALUES = (GONE, [], "x")
COMMANDS = (["show"], ["gc", "--dry-run", "--keep", "2"])


def places(document: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is something to change: every key, and of lists the first element."""
    inside = document.items() if isinstance(document, dict) else enumerate(document[:1])
    for key, value in inside:
        yield (*before, key)
        if isinstance(value, dict | list):
            yield from places(value, (*before, key))


def changed(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    copied = copy.deepcopy(document)
    node = copied
    for key in place[:-1]:
        node = node[key]
    if value is GONE:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    return copied


def documents(run: RunFolder) -> dict[str, Any]:
    names = ("run", "config", "manifest", "environment", "program")
    found = {name: json.loads((run.path / f"{name}.json").read_bytes()) for name in names}
    functions = found["program"]["functions"]  # of the same shape: one is enough
    found["program"]["functions"] = {name: functions[name] for name in list(functions)[:1]}
    found["environment"] = found["environment"]["sessions"]
    found["manifest"]["samples"] = found["manifest"]["samples"][:1]
    return found


def written(template: Path, root: Path, found: dict[str, Any]) -> RunFolder:
    """The run of these documents, each with the hashes that the others state of it, as far as they can."""
    data = {name: canonical_json(found[name]) for name in ("config", "manifest", "program")}
    if isinstance(found["run"], dict):
        stated = {"config_hash": digest_bytes(data["config"]), "dataset_state": digest_bytes(data["manifest"])}
        found["run"] = {**found["run"], **{key: stated[key] for key in stated if key in found["run"]}}
    for session in found["environment"]:
        if isinstance(session, dict) and "program" in session:
            session["program"] = digest_bytes(data["program"]) if isinstance(session["program"], str) else 0
    data["run"] = canonical_json(found["run"])
    shutil.rmtree(root, ignore_errors=True)
    folder = RunFolder(root / digest_bytes(data["run"])[:16])
    shutil.copytree(template, folder.path)
    for name, content in data.items():
        (folder.path / f"{name}.json").write_bytes(content)
    (folder.path / "environment.json").write_bytes(environment_bytes(found["environment"]))
    return folder


@pytest.fixture(scope="module")
def template(finished: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of a run but its documents, and the checkpoints but one."""
    path = tmp_path_factory.mktemp("template") / "run"
    shutil.copytree(finished.path, path)
    for stored in RunFolder(path).checkpoints()[1:]:
        stored.path.unlink()
    return path


@pytest.mark.parametrize("name", ["run", "config", "manifest", "environment", "program"])
def test_no_document_ends_in_a_traceback(finished: RunFolder, template: Path, tmp_path: Path, name: str) -> None:
    whole, runner = documents(finished), CliRunner()
    assert stored_config(written(template, tmp_path / "runs", copy.deepcopy(whole)), []).runtime.keep is None
    for place in places(whole[name]):
        for value in VALUES:
            if changed(whole[name], place, value) == whole[name]:
                continue
            root = tmp_path / "runs"
            folder = written(template, root, {**copy.deepcopy(whole), name: changed(whole[name], place, value)})
            for words in COMMANDS:
                said = runner.invoke(app, [*words, *([folder.name] if words[0] != "gc" else []), "--runs", str(root)])
                assert isinstance(said.exception, SystemExit | None), (words, place, value, said.exception)
                assert said.exit_code in (0, 1, 2, 3)
            for reading in (lambda run: stored_config(run, []), predicate):
                try:
                    reading(folder)
                except CrhTrainError as error:
                    assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "metrics",
    ["[]", "{}", '{"metrics":[]}', '{"metrics":{"psnr":1}}', '{"metrics":{"psnr":{}}}', '{"metrics":{}}', "[" * 9000]
    + [f'{{"metrics":{{"psnr":{{"value":{value}}}}}}}' for value in ('"x"', "[]", "true", "NaN", "1e999", '"NaN"')],
)
def test_hostile_metrics_end_in_a_line(finished: RunFolder, tmp_path: Path, metrics: str) -> None:
    shutil.copytree(finished.path, tmp_path / "runs" / finished.name)
    (tmp_path / "runs" / finished.name / "reports" / "validation_metrics.json").write_text(metrics)
    for words in (["show", finished.name], ["report", finished.name], ["list"]):
        said = CliRunner().invoke(app, [*words, "--runs", str(tmp_path / "runs")])
        assert isinstance(said.exception, SystemExit | None), (words, said.exception)
