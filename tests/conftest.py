"""Runs that many tests look at: each is made once, by `crh-train` in processes of its own, and is never written to."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest
from command_line import (
    STOPPED,
    TINY,
    ahead,
    append,
    copied,
    crh,
    environment,
    made_once,
    only_run,
)

from crh_train.run_store import RunFolder

# No deadline, which would assert a time; and the same examples each time, so that a failure is one on any machine.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first, so that the processes that share the tests out among them end together."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


class Made(NamedTuple):
    """What a fixture's commands said, and where they left their runs."""

    folder: Path
    said: dict[str, subprocess.CompletedProcess[str]]

    def run(self, name: str) -> RunFolder:
        return only_run(self.folder / name / "runs")


def _record(folder: Path, name: str, done: subprocess.CompletedProcess[str]) -> None:
    """Keep what a command said, for the other processes that share the fixture."""
    said = {"args": done.args, "returncode": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
    (folder / f"{name}.json").write_text(json.dumps(said))


def _made(folder: Path) -> Made:
    said = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    return Made(folder, {name: subprocess.CompletedProcess(**fields) for name, fields in said.items()})


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all the processes of one test session have in common."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"


@pytest.fixture(scope="session")
def env(shared: Path) -> dict[str, str]:
    """The environment of a process that need not compile what another one compiled."""
    return environment(shared / "environment")


@pytest.fixture(scope="session")
def compiling(shared: Path) -> dict[str, str]:
    """The environment of a process that compiles all that it runs, for what is said of compiling and of machines."""
    return environment(shared / "environment", JAX_ENABLE_COMPILATION_CACHE="0")


@pytest.fixture(scope="session")
def first(shared: Path) -> Made:
    """`TINY` run to its end; `finished` is its folder."""

    def make(folder: Path) -> None:
        env = environment(shared / "environment")  # `env` itself has another meaning in test_distribution.py
        _record(folder, "run", crh("run", *TINY, env=env, cwd=folder))

    made = _made(made_once(shared / "first", make))
    assert made.said["run"].returncode == 0, made.said["run"].stderr
    return made


@pytest.fixture(scope="session")
def finished(first: Made) -> RunFolder:
    return only_run(first.folder / "runs")


@pytest.fixture
def store(finished: RunFolder, tmp_path: Path) -> RunFolder:
    """The finished run, in `tmp_path/runs`, to do damage to."""
    return copied(finished, tmp_path / "runs")


@pytest.fixture(scope="session")
def interrupted(shared: Path, env: dict[str, str], finished: RunFolder) -> Made:
    """`TINY`, stopped in its second epoch: in `term` by SIGTERM while step 9 is being done, in `kill` by SIGKILL there.

    `term` and `kill` were then resumed, `kill` after some lines were added that a later kill would have left;
    `term-stopped` and `kill-stopped` are as they were before.
    """

    def make(folder: Path) -> None:
        for name, signal in (("term", "SIGTERM"), ("kill", "SIGKILL")):
            stopped, resumed = folder / f"{name}-stopped", folder / name
            stopped.mkdir()
            _record(folder, stopped.name, crh(signal, "8", "run", *TINY, env=env, cwd=stopped, program=(str(STOPPED),)))
            shutil.copytree(stopped, resumed)
            run = only_run(resumed / "runs")
            if name == "kill":
                append(run, *ahead(finished))
            _record(folder, name, crh("resume", run.name, env=env, cwd=resumed))

    return _made(made_once(shared / "interrupted", make))


@pytest.fixture(scope="session")
def swept(shared: Path, env: dict[str, str], finished: RunFolder) -> Made:
    """A sweep over two seeds and two numbers of micro-batches, of which one does not divide the batch, in a store that
    has `finished` already."""

    def make(folder: Path) -> None:
        shutil.copytree(finished.path, folder / "runs" / finished.name)
        product = ("engine.seed=0,1", "engine.micro_batches=1,3")
        _record(folder, "sweep", crh("run", "-m", *TINY, *product, "--json", env=env, cwd=folder))

    return _made(made_once(shared / "swept", make))


@pytest.fixture(scope="session")
def other_seed(swept: Made) -> RunFolder:
    """`TINY` with seed 1, run to its end."""
    (trained,) = [run for run in _documents(swept) if "error" not in run and run["seed"] == 1]
    return RunFolder(swept.folder / "runs" / trained["run"])


@pytest.fixture(scope="session")
def denoising(shared: Path) -> RunFolder:
    """Of one channel, sample by slice; made in this process, as `segmenting` is."""
    import predict_samples  # which imports JAX

    return predict_samples.denoising(shared)


@pytest.fixture(scope="session")
def unchanged(denoising: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of `denoising` whose model gives what it is given."""
    import predict_samples

    return predict_samples.zeroed(denoising, tmp_path_factory.mktemp("unchanged"))


@pytest.fixture(scope="session")
def segmenting(shared: Path) -> RunFolder:
    """Of two channels, resampled, in overlapping samples of three slices, across the coronal axis."""
    import predict_samples

    return predict_samples.segmenting(shared)


def _documents(swept: Made) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = json.loads(swept.said["sweep"].stdout)["runs"]
    return documents
