"""Modules in the folder where a command is given are none of crh-train's, nor of the processes that it starts."""

import os
import sys
from pathlib import Path

import pytest
from command_line import NOT_OPTIMISED, TINY, copied, crh, document

from crh_train.cli.child_path import VARIABLE, own_modules_only
from crh_train.run_store import RunFolder

PROGRAM = (str(Path(sys.executable).with_name("crh-train")),)  # `python -m` looks into the current folder itself
HOSTILE = "import pathlib\npathlib.Path(__file__).with_name('obeyed').touch()\nraise ImportError('hostile')\n"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with modules of names that Python and crh-train import, in which each tells that it was."""
    folder = tmp_path / "study"
    for name in ("random.py", "signal.py", "struct.py", "multiprocessing.py", "crh_train/__init__.py"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HOSTILE)
    return folder


def obeyed(folder: Path) -> list[Path]:
    return list(folder.rglob("obeyed"))


@pytest.mark.parametrize("launcher", [[], ["--launcher", "joblib"]])
def test_a_run_of_a_sweep(launcher: list[str], hostile: Path, env: dict[str, str]) -> None:
    """It is refused by the code that refuses it."""
    words = ("run", "-m", *TINY, "engine.micro_batches=3", "--json")
    said = crh(*words, *launcher, env=env, cwd=hostile, program=PROGRAM)
    (found,) = document(said)["runs"]
    assert (found["error"], obeyed(hostile)) == ("ConfigError", [])


def test_a_segment_of_a_replay(finished: RunFolder, hostile: Path, env: dict[str, str]) -> None:
    run = copied(finished, hostile / "runs")
    said = crh("replay", run.name, "--jobs", "2", "--json", env=env, cwd=hostile, program=PROGRAM)
    found = document(said)
    assert (said.returncode, found["segments"], found["identical"], obeyed(hostile)) == (0, 2, True, [])


def test_runs_that_are_done_again(
    finished: RunFolder, other_seed: RunFolder, hostile: Path, env: dict[str, str]
) -> None:
    for run in (finished, other_seed):
        copied(run, hostile / "runs")
    words = ("diff", finished.name, other_seed.name, "--operation", "--json")
    said = crh(*words, env={**env, **NOT_OPTIMISED}, cwd=hostile, program=PROGRAM)
    assert (said.returncode, obeyed(hostile)) == (1, []), said.stderr
    assert document(said)["operation"]["kind"] == "input"


@pytest.mark.parametrize(("folders", "set_"), [(["/bin", "/lib"], True), (["", "/lib"], False), (["CWD"], False)])
def test_the_current_folder_is_left_out_where_it_is_left_out_here(
    folders: list[str], set_: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [os.getcwd() if folder == "CWD" else folder for folder in folders])
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("os.environ", changed := dict(os.environ))
    own_modules_only()
    assert (VARIABLE in changed) == set_
