"""Runs on several devices and in several processes, as they are started from the command line.

Under native determinism one topology promises the same bits each time; two parts of a batch are added in either order
to the same sum, so that two processes of one device give those of one process with two. Under portable determinism
every topology gives the same bits.
"""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from command_line import LIMIT, NOT_OPTIMISED, TINY, chronicle_text, contents, crh, document, made_once, only_run
from test_process_group import free_port

from crh_train.chronicle import LINES_NAME
from crh_train.run_store import RunFolder
from crh_train.stored import stored_config

NATIVE = (*TINY, "determinism=native")

STOP = """
import os, signal, sys
from crh_train import environment

number, step = signal.Signals[sys.argv[1]], int(sys.argv[2])
del sys.argv[1:3]
environment.configure(os.environ, threads=environment.thread_count(os.environ), devices=1)

from crh_train import hooks
from crh_train.cli import main
from crh_train.saving import BackgroundSaver

guard, save = hooks.NanGuard.after_step, BackgroundSaver.save

def after_step(hook, record):
    guard(hook, record)
    if record.step == step:
        os.kill(os.getpid(), number)

def save_and_wait(saver, host):
    save(saver, host)
    saver._pending.result()

hooks.NanGuard.after_step, BackgroundSaver.save = after_step, save_and_wait
main()
"""
"""As `stopped.py`, in a process that writes no chronicle too; what is saved by then does not depend on the disk."""

Said = tuple[int, str, str]  # exit code, standard output, standard error


def together(
    *verb: str, env: Mapping[str, str], cwd: Path, signals: Mapping[int, str] | None = None, count: int = 2
) -> list[Said]:
    """What `count` processes of one run said, one device each; `signals` come to some of them while step 8 is done."""
    address = f"127.0.0.1:{free_port()}"
    started = []
    for index in range(count):
        program = ["-c", STOP, signals[index], "8"] if signals and index in signals else ["-m", "crh_train"]
        keys = [f"runtime.devices={count}", f"runtime.processes={count}", f"runtime.coordinator={address}"]
        words = [sys.executable, *program, *verb, *keys, *([f"runtime.process={index}"] if index else [])]
        started.append(
            subprocess.Popen(
                words,
                env=dict(env),
                cwd=cwd,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
        )
    said = [process.communicate(timeout=LIMIT) for process in started]
    return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]


def errors(said: Said) -> list[str]:
    return [line for line in said[2].splitlines() if line.startswith("error: ")]


def outcome(run: RunFolder) -> tuple[list[str], list[str]]:
    """What must not depend on where a run was done: its logged numbers and the hashes of its checkpoints."""
    return chronicle_text(run), [stored.name.hash for stored in run.checkpoints()]


@pytest.fixture(scope="module")
def env(compiling: dict[str, str]) -> dict[str, str]:
    """Each process compiles all that it runs, whatever others did, and does not optimise it, which takes longer: the
    bits of optimised code on several devices and in several processes are in `test_bit_matrix.py`."""
    return {**compiling, **NOT_OPTIMISED}


@pytest.fixture(scope="module")
def halves(shared: Path, env: dict[str, str]) -> RunFolder:
    """`NATIVE` in one process with two devices."""

    def make(folder: Path) -> None:
        done = crh("run", *NATIVE, "runtime.devices=2", env=env, cwd=folder)
        assert done.returncode == 0, done.stderr

    return only_run(made_once(shared / "halves", make) / "runs")


# --- native --------------------------------------------------------------------------------------------------------


def test_two_processes_stopped_and_resumed_do_the_run_of_one_with_two_devices(
    tmp_path: Path, env: dict[str, str], halves: RunFolder
) -> None:
    """The one that writes nothing is asked to stop; both do, after the same step, and exit as interrupted."""
    first, other = together("run", *NATIVE, env=env, cwd=tmp_path, signals={1: "SIGTERM"})
    run = only_run(tmp_path / "runs")
    reached = len(run.chronicle())
    assert 8 < reached < len(halves.chronicle())
    assert run.checkpoints()[-1].name.step == reached
    stopped = f"stopped after step {reached} of 18, which is saved; go on: crh-train resume {run.name}"
    assert (first[0], errors(first)) == (130, [f"error: {stopped}"])
    assert (other[0], errors(other)) == (130, [f"error: process 0 of 2 ended: {stopped}"])
    assert (first[1], other[1]) == ("", "")

    first, other = together("resume", run.name, env=env, cwd=tmp_path)
    assert (first[0], other[0]) == (0, 0), first[2] + other[2]
    assert other[1] == f"process 1 of 2: steps {reached + 1} to 18 are done; process 0 has the result\n"
    assert first[1].splitlines()[0].endswith("(finished)")
    assert chronicle_text(run) == chronicle_text(halves)
    assert run.checkpoints()[-1].name.hash == halves.checkpoints()[-1].name.hash
    recorded = [session["fingerprint"]["devices"] for session in run.sessions()]
    assert [(each["count"], each["processes"]) for each in recorded] == [(2, 2), (2, 2)]

    before = contents(run.path)
    first, other = together("run", *NATIVE, "--json", env=env, cwd=tmp_path)
    assert [said[1].count("\n") for said in (first, other)] == [1, 1]
    assert '"already_finished": true' in first[1]
    assert other[1] == '{"process": 1, "processes": 2, "steps": null}\n'
    segment = crh("replay", run.name, "--from", "1", "--json", env=env, cwd=tmp_path)  # alone, with two devices
    assert document(segment)["identical"]
    assert not document(segment)["promised"]
    assert contents(run.path) == before


def test_two_processes_replay_what_one_did(tmp_path: Path, env: dict[str, str], halves: RunFolder) -> None:
    verb = ("replay", halves.name, "--runs", str(halves.path.parent), "--from", "2", "--json")
    first, other = together(*verb, env=env, cwd=tmp_path)
    assert (first[0], other[0]) == (0, 0), first[2] + other[2]
    assert '"identical": true' in first[1]
    assert other[1] == '{"process": 1, "processes": 2, "steps": [13, 18]}\n'


def test_the_same_devices_give_the_same_bits_and_others_close_losses(
    tmp_path: Path, env: dict[str, str], halves: RunFolder
) -> None:
    replayed = crh("replay", halves.name, "--runs", halves.path.parent, "--json", env=env, cwd=tmp_path)
    assert document(replayed)["identical"]  # with `runtime.devices` as the run had it
    assert document(replayed)["promised"]
    assert crh("run", *NATIVE, env=env, cwd=tmp_path).returncode == 0
    for ours, theirs in zip(halves.chronicle(), only_run(tmp_path / "runs").chronicle(), strict=True):
        assert abs(ours.loss - theirs.loss) < 1e-5 * abs(theirs.loss)


# --- one ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed_ends_the_other(tmp_path: Path, env: dict[str, str], killed: int) -> None:
    said = together("run", *NATIVE, env=env, cwd=tmp_path, signals={killed: "SIGKILL"})
    assert said[killed][0] == -9
    code, out, err = said[1 - killed]
    assert out == ""
    if code == -signal.SIGABRT:  # without process 0 JAX ends the others itself; mostly we are first
        assert killed == 0
        assert "another task died" in err
    else:
        (line,) = errors(said[1 - killed])
        assert line.startswith(f"error: process {killed} of 2 is gone, without a word; what was saved before is kept")
        assert code == 130
    (saved,) = only_run(tmp_path / "runs").checkpoints()
    assert saved.name.step == 6


def test_a_run_that_diverges_ends_in_every_process(tmp_path: Path, env: dict[str, str]) -> None:
    for code, out, err in together("run", *NATIVE, "engine.learning_rate=1e30", env=env, cwd=tmp_path):
        assert (code, out) == (1, "")
        assert "error: step 2 (epoch 0, batch 1): loss is inf" in err
    assert not only_run(tmp_path / "runs").checkpoints()


# --- bad input -----------------------------------------------------------------------------------------------------


def test_a_batch_that_the_devices_do_not_divide_is_refused_by_all(tmp_path: Path, env: dict[str, str]) -> None:
    for code, out, _err in (said := together("run", *NATIVE, "engine.batch_size=3", env=env, cwd=tmp_path)):
        assert (code, out) == (2, "")
    for each in said:
        (line,) = errors(each)
        assert line.endswith("engine.batch_size=3 must be a multiple of engine.micro_batches x runtime.devices = 1 x 2")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (("runtime.process=1",), "runtime.process=1 must be below runtime.processes=1: processes count from 0"),
        (
            ("runtime.processes=2", "runtime.devices=2"),
            "runtime.processes=2 needs runtime.coordinator=HOST:PORT, where process 0 awaits the others, such as "
            "127.0.0.1:9871",
        ),
        (
            ("runtime.processes=2", "-m"),
            "-m runs each combination in one process on its own; give runtime.processes without -m",
        ),
    ],
)
def test_keys_that_cannot_be_are_refused_before_anything_is_written(
    tmp_path: Path, env: dict[str, str], keys: tuple[str, ...], said: str
) -> None:
    done = crh("run", *NATIVE, *keys, env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {said}\n")
    assert not (tmp_path / "runs").exists()


# --- portable ------------------------------------------------------------------------------------------------------


def test_portable_bits_are_those_of_one_device_of_two_and_of_two_processes(
    tmp_path: Path, env: dict[str, str], finished: RunFolder
) -> None:
    """`finished` is of one device."""
    assert stored_config(finished, []).determinism.name == "portable"
    done = crh("run", *TINY, "--runs", "two", "runtime.devices=2", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for code, _, err in together("run", *TINY, "--runs", "processes", env=env, cwd=tmp_path):
        assert code == 0, err
    assert [outcome(only_run(tmp_path / name)) for name in ("two", "processes")] == [outcome(finished)] * 2
    assert (finished.path / LINES_NAME).stat().st_size
