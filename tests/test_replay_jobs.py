"""`replay --jobs`: segments in processes at the same time say what one replay of the whole says, and end with it."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from command_line import EPOCHS, LIMIT, STEPS_PER_EPOCH, contents, copied, crh, document, refused
from conftest import Made
from forged_runs import rewritten, ulp_up

from crh_train.checkpoint import Checkpoint
from crh_train.chronicle import LINES_NAME, ChronicleRecord
from crh_train.run_store import RunFolder, RunStore

STEPS = EPOCHS * STEPS_PER_EPOCH


@pytest.fixture
def own(tmp_path: Path, env: dict[str, str]) -> dict[str, str]:
    """The environment with a folder for scratch that is this test's own."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return {**env, "TMPDIR": str(scratch)}


def scratch(own: Mapping[str, str]) -> list[Path]:
    return list(Path(own["TMPDIR"]).iterdir())


def test_segments_are_the_whole(interrupted: Made, own: dict[str, str], tmp_path: Path) -> None:
    """One of them begins with a checkpoint inside an epoch."""
    run = copied(interrupted.run("term"), tmp_path / "runs")
    for saved in run.checkpoints():
        if saved.name.step % STEPS_PER_EPOCH == 0 and saved.name.step != STEPS:
            saved.path.unlink()
    middle, last = (saved.name for saved in run.checkpoints())
    assert middle.step % STEPS_PER_EPOCH != 0
    before = contents(run.path)
    words = ("--jobs", "3", "--source", "runtime.progress=true", "runtime.threads=1")
    said = crh("replay", run.name, *words, env=own, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert f"replayed  {run.name}, steps 1 to {STEPS}\n" in said.stdout
    assert "segments  2 at the same time, 1 thread each, on " in said.stdout
    assert ", of --jobs 3: its checkpoints allow no shorter ones\n" in said.stdout
    assert f"compared  {STEPS} chronicle lines, 2 checkpoints\n" in said.stdout
    assert "program   today's code; it is the same as the archived one\n" in said.stdout
    assert f"state     {last.hash}\n" in said.stdout
    assert "verdict   identical: every bit is the same\n" in said.stdout
    assert sorted(said.stderr.splitlines()) == [
        f"steps 1 to {middle.step}: identical",
        f"steps {middle.step + 1} to {STEPS}: identical",
    ]
    assert scratch(own) == []
    assert contents(run.path) == before


def test_the_first_difference_is_that_of_the_whole(finished: RunFolder, own: dict[str, str], tmp_path: Path) -> None:
    """It is the last thing that one segment compares; the next one begins with it, and differs long before."""
    cut = 2 * STEPS_PER_EPOCH

    def edit_line(record: ChronicleRecord) -> ChronicleRecord:
        return record._replace(loss=ulp_up(record.loss)) if record.step == cut else record

    def edit_checkpoint(saved: Checkpoint) -> Checkpoint:
        if saved.step != cut:
            return saved
        edited = {name: ulp_up(array) for name, array in saved.model_state.items()}
        return dataclasses.replace(saved, model_state=edited)

    run = rewritten(finished, tmp_path / "runs", edit_line, edit_checkpoint)
    said = [crh("replay", run.name, *words, "--json", env=own, cwd=tmp_path) for words in ([], ["--jobs", "2"])]
    assert [(each.returncode, each.stderr) for each in said] == [(1, ""), (1, "")]
    whole, parts = map(document, said)
    assert parts == {**whole, "segments": 2, **{key: parts[key] for key in ("scratch", "record")}}
    assert (parts["steps_compared"], parts["checkpoints_compared"]) == (cut, 2)
    assert (parts["difference"]["step"], parts["difference"]["field"]) == (cut, "loss")
    assert parts["arrays"][0].startswith(f"state after step {cut}: 'model ")
    kept = Path(parts["scratch"])
    (replayed,) = RunStore(kept).list()
    assert replayed.checkpoints()[-1].name.step == cut
    assert list(kept.parent.iterdir()) == [kept], "what the other process left is removed"


def test_an_error_is_that_of_the_whole(finished: RunFolder, own: dict[str, str], tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "runs")
    path = run.checkpoints()[1].path
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    said = [crh("replay", run.name, *words, "--json", env=own, cwd=tmp_path) for words in ([], ["--jobs", "2"])]
    assert [(each.returncode, each.stderr) for each in said] == [(3, ""), (3, "")]
    whole, parts = map(document, said)
    assert parts == whole
    assert parts["error"] == "CorruptCheckpoint"
    assert scratch(own) == []


def test_processes_of_one_run_and_jobs_exclude_each_other(finished: RunFolder, own: dict[str, str]) -> None:
    words = ("--jobs", "2", "runtime.processes=2", "runtime.process=1", "runtime.coordinator=127.0.0.1:9")
    said = crh("replay", finished.name, *words, env=own, cwd=finished.path.parents[1])
    assert refused(said, 2) == (
        "--jobs 2 replays segments in processes of its own, each by itself, and runtime.processes=2 shares every step "
        "out: give one of the two"
    )


# --- how it ends ---------------------------------------------------------------------------------------------------


@pytest.fixture
def running(
    finished: RunFolder, own: dict[str, str], tmp_path: Path
) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A replay in two processes, each of which has a folder for its scratch, and their numbers, the first segment's
    first. The last step of each segment differs, so that a process that came to its end would leave its scratch."""

    def edit(record: ChronicleRecord) -> ChronicleRecord:
        return record._replace(loss=ulp_up(record.loss)) if record.step in (2 * STEPS_PER_EPOCH, STEPS) else record

    run = rewritten(finished, tmp_path / "runs", edit)
    words = [sys.executable, "-m", "crh_train", "replay", run.name, "--jobs", "2"]
    with subprocess.Popen(
        words,
        env=own,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        try:
            until(lambda: len(list(Path(own["TMPDIR"]).glob("*/*"))) == 2 or parent.poll() is not None)
            yield parent, children(parent.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def stop_at_their_steps(pids: list[int]) -> None:
    """Each one as it begins its steps, so that none has done them all before the last begins."""

    def stop(pid: int) -> bool:
        if not any(link.name == LINES_NAME for link in opened(pid)):
            return False
        os.kill(pid, signal.SIGSTOP)
        return True

    left = list(pids)

    def all_stopped() -> bool:
        left[:] = [pid for pid in left if not stop(pid)]
        return not left

    until(all_stopped)


def opened(pid: int) -> list[Path]:
    """The files that it has open."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            found.append(link.readlink())
    return found


def gone(pid: int) -> bool:
    """Whether it has ended; one that lost its parent may wait, dead, for somebody to ask how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_stop_ends_all_processes_and_leaves_nothing(
    running: tuple[subprocess.Popen[str], list[int]], finished: RunFolder, own: dict[str, str]
) -> None:
    parent, started = running
    stop_at_their_steps(started)
    os.killpg(parent.pid, signal.SIGINT)
    os.kill(started[0], signal.SIGCONT)  # the other cannot end in good order
    output, said = parent.communicate(timeout=LIMIT)
    assert (parent.returncode, output) == (130, "")
    assert said == (
        f"error: the replay of run {finished.name} was stopped; 0 of its 2 segments were compared and are the same. "
        "The run itself was not touched: replay it again\n"
    )
    assert len(started) == 2
    assert all(gone(pid) for pid in started)
    assert scratch(own) == []


def test_a_process_that_is_killed_is_an_error(
    running: tuple[subprocess.Popen[str], list[int]], own: dict[str, str]
) -> None:
    parent, started = running
    os.kill(started[0], signal.SIGKILL)
    output, said = parent.communicate(timeout=LIMIT)
    assert (parent.returncode, output) == (130, "")
    assert said == (
        "error: the process that replayed steps 1 to 12 was ended by SIGKILL; the run itself was not touched: replay "
        "it again, with fewer --jobs if memory ran out\n"
    )
    assert all(gone(pid) for pid in started)
    assert scratch(own) == []


def test_no_process_outlives_one_that_is_killed(
    running: tuple[subprocess.Popen[str], list[int]], own: dict[str, str]
) -> None:
    parent, started = running
    for pid in started:
        os.kill(pid, signal.SIGSTOP)  # so that none comes to its end before its parent does
    parent.kill()
    for pid in started:
        os.kill(pid, signal.SIGCONT)
    parent.communicate(timeout=LIMIT)
    until(lambda: all(gone(pid) for pid in started))
    (left,) = scratch(own)
    assert list(left.iterdir()) == [], "they took theirs with them"
