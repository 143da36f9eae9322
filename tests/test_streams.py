"""Standard output and error that are closed, full, or read by nobody: what a command does is done all the same, and its
exit code is no other answer's."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from command_line import LIMIT, TINY, contents, copied, only_run
from conftest import Made

from crh_train.run_store import RunFolder

REFUSED = (
    "error: standard output could not be written to: No space left on device; what the command did stays done: make "
    "room there, or send the output elsewhere, and give it again\n"
)


def shell(line: str, *words: str | Path, env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """`line` of bash, in which "$@" is crh-train with `words`."""
    command = ["bash", "-c", line, "bash", sys.executable, "-m", "crh_train", *map(str, words)]
    return subprocess.run(command, env=dict(env), cwd=cwd, capture_output=True, text=True, timeout=LIMIT, check=False)


def commands(run: RunFolder) -> list[list[str]]:
    """Those that print in ways of their own: lines, a table, JSON, CSV, help of typer's, a view of rich's."""
    name = run.name
    return [
        *(["show", name], ["list"], ["verify", name], ["verify", name, "--json"], ["compare", "--csv"]),
        *(["--help"], ["watch", name, "--once"], ["run", *TINY]),
    ]


@pytest.mark.parametrize("index", range(8))
def test_an_output_that_takes_nothing_has_an_exit_code_of_its_own(
    index: int, store: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    words = commands(store)[index]
    said = shell('"$@" >/dev/full', *words, env=env, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (3, REFUSED)
    assert shell('"$@" >/dev/full 2>&1', *words, env=env, cwd=tmp_path).returncode == 3
    said = shell('"$@" | true; exit ${PIPESTATUS[0]}', *words, env=env, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (141, "")
    said = shell('"$@" >&-', *words, env=env, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    said = shell('"$@" 2>&-', *words, env=env, cwd=tmp_path)
    assert said.returncode == 0
    assert said.stdout


def test_an_answer_that_cannot_be_printed_is_not_given(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    """1 says that a check failed, and nobody could read which. Without standard error nothing is amiss."""
    (store.path / "reports" / "session_summary.md").write_text("better\n")
    assert shell('"$@"', "verify", store.name, env=env, cwd=tmp_path).returncode == 1
    assert shell('"$@" >/dev/full', "verify", store.name, env=env, cwd=tmp_path).returncode == 3
    assert shell('"$@" 2>/dev/full', "verify", store.name, env=env, cwd=tmp_path).returncode == 1
    assert shell('"$@" 2>/dev/full', "show", "abc", env=env, cwd=tmp_path).returncode == 2
    assert shell('"$@" 2>&-', "show", "abc", env=env, cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("stderr", ["2>/dev/full", "0<&- 1>&- 2>&-"])
def test_training_does_not_end_for_want_of_an_error_stream(
    stderr: str, finished: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    """With a line for each checkpoint. The closed descriptors are nobody's, and not the next file's of the run."""
    words = [*TINY, "runtime.progress=true"]
    said = shell(f'"$@" {stderr}', "run", *words, env=env, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    run = only_run(tmp_path / "runs")
    assert run.run_hash == finished.run_hash
    assert run.finished
    expected = contents(finished.path / "reports")
    assert contents(run.path / "reports")["SHA256SUMS"] == expected["SHA256SUMS"]
    said = shell(f'"$@" {stderr}', "replay", run.name, "runtime.progress=true", env=env, cwd=tmp_path)
    assert said.returncode == 0, said.stderr


def test_a_sweep_goes_on_without_an_error_stream(interrupted: Made, env: dict[str, str], tmp_path: Path) -> None:
    """Its runs tell of what they do in lines that it passes on."""
    run = copied(interrupted.run("term-stopped"), tmp_path / "runs")
    words = ["run", "-m", *TINY, "engine.seed=0", "--jobs", "2", "runtime.progress=true"]
    said = shell('"$@" 2>/dev/full', *words, env=env, cwd=tmp_path)
    assert said.returncode == 0, said.stdout
    assert run.finished


def test_what_starts_us_may_have_told_its_pipe_not_to_wait(
    finished: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    """As node.js does: then a write to a pipe that is full is an error of another kind, and no end."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    many = tmp_path / "runs"
    many.mkdir()
    for number in range(600):
        (many / f"{number:016x}").mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "crh_train", "list", "--json"], env=env, cwd=tmp_path, stdout=theirs
    ) as process:
        os.close(theirs)
        with os.fdopen(ours, "rb") as stream:
            process.poll()
            found = stream.read()
    assert process.returncode == 0
    assert len(found) > 1 << 16
    assert found.count(b'"damaged"') == 600
