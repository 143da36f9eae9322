"""`crh-train run -m` in processes of its own: what a sweep does when it is stopped, killed, or started again."""

import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from command_line import LIMIT, TINY, copied, crh, document, only_run, refused
from conftest import Made
from store_samples import flip

from crh_train.chronicle import LINES_NAME
from crh_train.run_store import RunFolder, RunStore

SWEEP = ("run", "-m", *TINY, "engine.seed=0,1")
LONG = (*SWEEP, "engine.epochs=2000", "runtime.checkpoint_every=2000")
SCRIPT = Path(__file__).parents[1] / "scripts" / "sweep.sh"


def begun(words: Sequence[str], env: dict[str, str], cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "crh_train", *words]
    return subprocess.Popen(
        command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def descendants(pid: int) -> list[int]:
    """Every process below it, its own session or not."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def gone(pid: int) -> bool:
    """Whether it has ended; one that lost its parent may wait, dead, for somebody to ask how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def pending(pid: int) -> set[int]:
    """The signals that wait for it to go on."""
    (line,) = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("ShdPnd:")]
    return {number for number in range(1, 65) if int(line.split()[1], 16) >> (number - 1) & 1}


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def records(cwd: Path) -> list[dict[str, Any]]:
    (ledger,) = (cwd / "runs" / "sweeps").glob("*.jsonl")
    return [json.loads(line) for line in ledger.read_text().splitlines()[1:]]


def steps(runs: Path) -> list[int]:
    """Of each run, how many lines its chronicle has."""
    return [(folder.path / "chronicle.jsonl").read_bytes().count(b"\n") for folder in RunStore(runs).list()]


def same(run: RunFolder, undisturbed: RunFolder) -> None:
    """An interruption may leave one checkpoint more, of the step at which it came."""
    assert run.status == "finished"
    assert run.checkpoints()[-1].name == undisturbed.checkpoints()[-1].name
    assert {each.name for each in run.checkpoints()} >= {each.name for each in undisturbed.checkpoints()}


@pytest.fixture
def both(finished: RunFolder, other_seed: RunFolder) -> list[RunFolder]:
    """The runs of an undisturbed sweep of `SWEEP`."""
    return sorted([finished, other_seed], key=lambda run: run.name)


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """It, and whatever it started, are gone afterwards."""
    with process:
        try:
            yield process
        finally:
            for pid in [*descendants(process.pid), process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def running(env: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`SWEEP`, two at a time and longer, once each has done some steps."""
    with ended(begun([*LONG, "--jobs", "2"], env, tmp_path)) as sweep:
        until(lambda: sweep.poll() is not None or (len(done := steps(tmp_path / "runs")) == 2 and min(done) > 0))
        yield sweep


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_ends_as_an_undisturbed_one(
    both: list[RunFolder], env: dict[str, str], tmp_path: Path
) -> None:
    moments, finished_before = random.Random(6), dict[str, dict[str, int]]()

    def unchanged() -> None:
        for run in RunStore(tmp_path / "runs").list():
            if run.finished:
                times = {str(path): path.stat().st_mtime_ns for path in run.path.rglob("*") if path.name != ".lock"}
                assert finished_before.setdefault(run.name, times) == times

    for everything in (False, True):
        sweep = begun([*SWEEP, "--jobs", "2"], env, tmp_path)
        with contextlib.suppress(subprocess.TimeoutExpired):
            sweep.wait(moments.uniform(1.5, 6.0))
        for pid in [sweep.pid, *(descendants(sweep.pid) if everything else [])]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        sweep.communicate()
        unchanged()
    said = crh(*SWEEP, "--jobs", "2", "--json", env=env, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    unchanged()
    runs = RunStore(tmp_path / "runs").list()
    assert [run.run_hash for run in runs] == [run.run_hash for run in both]
    for run, undisturbed in zip(runs, both, strict=True):
        same(run, undisturbed)
    assert [record["record"] for record in records(tmp_path)].count("finished") == 2


def test_a_killed_run_is_a_failure_of_its_own_and_a_stop_saves_the_others(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    killed, other = descendants(running.pid)
    os.kill(killed, signal.SIGKILL)
    until(lambda: len(records(tmp_path)) == 3)
    assert descendants(running.pid) == [other]
    os.kill(other, signal.SIGSTOP)
    os.killpg(running.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
    until(lambda: signal.SIGTERM in pending(other))
    assert pending(other) == {signal.SIGTERM}  # a second signal would stop it at once
    os.kill(other, signal.SIGCONT)
    output, said = running.communicate(timeout=LIMIT)
    assert (running.returncode, output) == (130, "")
    assert gone(other)
    (error,) = [line for line in said.splitlines() if line.startswith("error: [")]
    assert error.endswith(": the run's process was ended by SIGKILL; what it had saved is kept")
    last = said.splitlines()[-1]
    ends = "of its 2 combinations 1 came to an end, 1 saved what they had, 0 were not begun"
    assert last.startswith(f"error: the sweep was stopped: {ends}; go on: crh-train run -m conf=mri_step ")
    assert last.endswith(" engine.seed=0,1 engine.epochs=2000 runtime.checkpoint_every=2000 --jobs 2")
    *_, failed, interrupted = kept = records(tmp_path)
    assert [record["record"] for record in kept] == ["begun", "begun", "failed", "interrupted"]
    (run,) = [each for each in RunStore(tmp_path / "runs").list() if each.run_hash == interrupted["run"]]
    (saved,) = run.checkpoints()
    assert saved.name.step == len(run.chronicle()) > 0
    assert failed["run"] != interrupted["run"]


def test_what_a_killed_sweep_left_saves_and_is_waited_for(
    running: subprocess.Popen[str], env: dict[str, str], tmp_path: Path
) -> None:
    one, other = descendants(running.pid)
    os.kill(one, signal.SIGKILL)
    os.kill(other, signal.SIGSTOP)  # it takes its time
    running.kill()
    running.communicate()
    with ended(begun(LONG, env, tmp_path)) as again:
        assert again.stderr is not None
        assert again.stderr.readline() == "waiting until what an earlier start of it left has saved\n"
        assert document(crh(*LONG, "--json", env=env, cwd=tmp_path))["error"] == "RunBusy"
        os.kill(other, signal.SIGCONT)
        assert again.stderr.readline().startswith("[1/2] ")
        assert gone(other)
        saved = [len(run.checkpoints()) for run in RunStore(tmp_path / "runs").list()]
        assert sorted(saved) == [0, 1]


def test_what_diverged_is_shown_again_and_not_done_again(env: dict[str, str], tmp_path: Path) -> None:
    words = ["run", "-m", *TINY, "optimizer=sgd", "engine.learning_rate=1e30", "--json"]
    first = crh(*words, env=env, cwd=tmp_path)
    (failure,) = document(first)["runs"]
    assert (first.returncode, failure["error"]) == (1, "Diverged")
    assert f": {failure['message']}\n" in first.stderr
    shown = crh(*words, env=env, cwd=tmp_path)
    (again,) = document(shown)["runs"]
    assert shown.returncode == 1
    assert again["message"] == f"{failure['message']}; it would again: --retry-diverged tries it all the same"
    run = only_run(tmp_path / "runs")
    assert len(run.sessions()) == 1
    assert [record["record"] for record in records(tmp_path)] == ["begun", "failed"]
    *_, explained, following = crh(*words[:-1], env=env, cwd=tmp_path).stdout.splitlines()
    assert explained.startswith("1 diverged and would again: change what they were given; --retry-diverged tries")
    assert following == "next: crh-train list"  # the same words would do nothing


def test_what_is_to_be_typed_next_after_a_failure_is_a_command(env: dict[str, str], tmp_path: Path) -> None:
    """Of one that diverges and one that no configuration allows; given as it stands it ends in the same words."""
    words = ("run", "-m", *TINY, "optimizer=sgd", "engine.learning_rate=1e30", "engine.micro_batches=1,3")
    for given, kept in (((), ", but for the 1 that diverged"), (("--retry-diverged",), "")):
        ends = []
        command = [*words, "--runs", "of mine", *given]
        for _ in range(2):
            said = crh(*command, env=env, cwd=tmp_path)
            assert (said.returncode, said.stdout.count("failed (1)"), said.stdout.count("failed (2)")) == (1, 1, 1)
            ends.append(said.stdout.splitlines()[-2:])
            program, *command = shlex.split(ends[-1][1].removeprefix("next: "))
            assert program == "crh-train"
        assert ends[0] == ends[1]
        assert ends[0][0] == f"the same words do again what failed{kept}"
        assert ("--retry-diverged" in command) == bool(given)
        assert len(only_run(tmp_path / "of mine").sessions()) == (3 if given else 1)


def test_a_run_that_the_ledger_does_not_know_is_not_done_again(
    swept: Made, both: list[RunFolder], env: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(swept.folder / "runs", tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "sweeps")
    said = crh(*SWEEP, env=env, cwd=tmp_path)
    assert said.returncode == 0
    assert [line.rpartition(": ")[2] for line in said.stderr.splitlines()] == ["done already"] * 2
    assert said.stdout.count("  done already") == 2
    assert [(record["record"], record["run"]) for record in records(tmp_path)] == [
        ("finished", run.run_hash) for run in sorted(both, key=lambda run: run.run_document()["seed"])
    ]
    assert [folder.name for folder in RunStore(tmp_path / "runs").list()] == [run.name for run in both]
    for command in (["list"], ["gc"]):  # for which the folder of the ledgers is no run
        assert crh(*command, "--json", env=env, cwd=tmp_path).stdout.count("sweeps") == 0
    assert (tmp_path / "runs" / "sweeps").is_dir()
    flip(tmp_path / "runs" / both[0].name / LINES_NAME, 900)
    said = crh(*SWEEP, env=env, cwd=tmp_path)
    assert said.returncode == 3
    (error,) = [line for line in said.stderr.splitlines() if line.startswith("error: ")]
    assert f"run {both[0].name} is DAMAGED: " in error


def test_a_mistake_in_every_combination_leaves_nothing_behind(env: dict[str, str], tmp_path: Path) -> None:
    said = refused(crh("run", "-m", *TINY, "engine.seed=0,1", "engine.epoch=3", env=env, cwd=tmp_path), 2)
    assert "did you mean 'engine.epochs'?" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--jobs", "2"), "--jobs, --launcher and --retry-diverged are of sweeps; give -m too"),
        (("-m", "hydra.launcher.n_jobs=2"), "'hydra.launcher.n_jobs=2' is for a launcher; give --launcher NAME too"),
        (("-m", "--launcher", "ray"), "--launcher ray is not installed; installed are basic, joblib, submitit_local, "),
        (("-m", "--launcher", "ray"), "; install hydra-ray-launcher"),
        (("-m", "--launcher", "slurm"), "; others are rq (hydra-rq-launcher), ray (hydra-ray-launcher), ray_aws "),
        (("-m", "--launcher", "joblib", "hydra.launcher.jobs=2"), "--launcher joblib: Could not override "),
        (("-m", "--launcher", "joblib", "hydra.launcher._target_=os.abort"), "joblib: _target_ is refused: a config"),
        (("-m", "--launcher", "joblib", "--jobs", "2"), "such as hydra.launcher.n_jobs=2 of joblib: give one of the "),
    ],
)
def test_options_that_cannot_be_are_refused(
    words: tuple[str, ...], message: str, env: dict[str, str], tmp_path: Path
) -> None:
    assert message in refused(crh("run", *TINY, *words, env=env, cwd=tmp_path), 2)
    assert list(tmp_path.iterdir()) == []


# --- launchers -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "product", "ends"),
    [
        (
            ("joblib", "hydra.launcher.n_jobs=2"),
            ("engine.epochs=1", "engine.micro_batches=1,3"),
            [False, "ConfigError"],
        ),
        (("submitit_local",), ("engine.epochs=3,1",), [True, False]),
    ],
    ids=["joblib", "submitit"],
)
def test_a_launcher_of_hydra_does_the_runs(
    launcher: tuple[str, ...],
    product: tuple[str, ...],
    ends: list[bool | str],
    finished: RunFolder,
    env: dict[str, str],
    tmp_path: Path,
) -> None:
    """Whether each was finished already, or its error."""
    copied(finished, tmp_path / "runs")
    plain = {name: value for name, value in env.items() if name != "PYTHONWARNINGS"}  # theirs are not ours
    said = crh("run", "-m", *TINY, *product, "--launcher", *launcher, "--json", env=plain, cwd=tmp_path)
    assert said.returncode == (2 if "ConfigError" in ends else 0), said.stderr
    found = document(said)["runs"]
    assert [run["error"] if "error" in run else run["already_finished"] for run in found] == ends
    for run in found:
        assert "error" in run or RunStore(tmp_path / "runs").find(run["run"]).status == "finished"
    begun, ended = ends.count(False) + ends.count("ConfigError"), [record["record"] for record in records(tmp_path)]
    assert (ended.count("begun"), ended.count("failed")) == (begun, ends.count("ConfigError"))
    assert list((tmp_path / "runs" / "sweeps").glob("*.launcher/launch-*")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]  # and nothing of Hydra's beside it


# --- scripts/sweep.sh ----------------------------------------------------------------------------------------------


def script(*words: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    programs = cwd / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "crh-train").write_text(f'#!/bin/sh\nexec {sys.executable} -m crh_train "$@"\n')
    (programs / "crh-train").chmod(0o755)
    path = {"PATH": f"{programs}:{Path(sys.executable).parent}:{env['PATH']}"}
    return subprocess.run(
        [SCRIPT, *words], env={**env, **path}, cwd=cwd, capture_output=True, text=True, timeout=LIMIT, check=False
    )


def test_the_script_sums_a_sweep_up_and_goes_on_after_a_failure(
    swept: Made, env: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(swept.folder / "runs", tmp_path / "runs")
    said = script("mri_step", "psnr", "0", "1", "--", *TINY[1:], "engine.micro_batches=3,1", env=env, cwd=tmp_path)
    found = json.loads(swept.said["sweep"].stdout)
    values = [run["validation"]["psnr"] for run in found["runs"][::2]]
    spread = found["summary"][0]["metrics"]["psnr"]
    lines = said.stdout.splitlines()
    assert said.returncode == 2
    assert [line for line in lines if line.startswith("seed")] == [f"seed {s}: psnr {v}" for s, v in enumerate(values)]
    assert sum(line.startswith("failed: conf=mri_step engine.seed=") for line in lines) == 2
    assert lines[-1] == f"mri_step psnr over 2 seeds: {spread['mean']:.4f} ± {spread['sd']:.4f}"
    assert said.stderr.count("done already") == 2


def test_the_script_tells_an_unknown_metric_before_anything_is_trained(env: dict[str, str], tmp_path: Path) -> None:
    message = refused(script("mri_step", "pnsr", "0", "--", *TINY[1:], env=env, cwd=tmp_path), 2)
    assert message.startswith("there is no metric 'pnsr': give one of loss, mse, psnr, nmse, ")
    assert not (tmp_path / "runs").exists()


def test_the_script_names_the_metrics_where_the_runs_lack_the_one_asked_for(
    swept: Made, env: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(swept.folder / "runs", tmp_path / "runs")
    said = script("mri_step", "dice", "0", "1", "--", *TINY[1:], env=env, cwd=tmp_path)
    assert said.returncode == 2
    *done, told = said.stderr.splitlines()
    assert [line.rpartition(": ")[2] for line in done] == ["done already"] * 2
    assert told.startswith("error: runs of mri_step have no dice: give one of baseline_nmse, ")
    assert told.endswith(", psnr, ssim")


def test_the_script_ends_as_the_sweep_that_was_not_begun(env: dict[str, str], tmp_path: Path) -> None:
    for words in (["--jbs", "2"], ["engine.epoch=3"]):
        said = script("mri_step", "psnr", "0", "--", *TINY[1:], *words, env=env, cwd=tmp_path)
        expected = crh("run", "-m", *TINY, "engine.seed=0", *words, env=env, cwd=tmp_path)
        assert said.returncode == expected.returncode == 2
        assert "Traceback" not in said.stderr
        assert ("No such option" in said.stderr) or ("did you mean 'engine.epochs'?" in said.stdout)
