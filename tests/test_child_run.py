"""One run of a sweep in a process of its own, and several at a time: how it is stopped, what it says, how it ends. A
script stands for `crh-train`."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import LIMIT

from crh_train.cli import parallel_runs
from crh_train.cli.child_run import KILL, STOP, Work, done
from crh_train.cli.parallel_runs import Event, in_parallel, threads_each

SCRIPT = """#!/usr/bin/env bash
# $1 -m, $2 crh_train, $3 what to do, $4 a file
case $3 in
killed) kill -KILL $$ ;;
crashes) echo nonsense; exit 7 ;;
fails) echo '{"error": "DataError", "message": "no", "exit_code": 3}'; exit 3 ;;
says) echo one >&2; echo two >&2; echo '{"run": "'"$VALUE in ${PWD##*/}: ${*:5}"'"}' ;;
waits)
    left=400; trap 'echo term >> "$4"; [ $left -gt 8 ] && left=8' TERM
    echo began >> "$4"; while [ $left != 0 ]; do sleep 0.05; left=$((left - 1)); done
    echo '{"run": "stopped"}' ;;
obstinate) trap '' TERM; echo began >> "$4"; for _ in {1..400}; do sleep 0.05; done ;;
esac
"""


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "program"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def work(tmp_path: Path, what: str, number: int = 1, prefix: str = "") -> Work:
    return Work(number, (what, str(tmp_path / f"log-{number}")), str(tmp_path), {"VALUE": "7"}, prefix)


def log(tmp_path: Path, number: int = 1) -> list[str]:
    path = tmp_path / f"log-{number}"
    return path.read_text().split() if path.exists() else []


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_prints_one_document_and_its_lines_are_prefixed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = done(work(tmp_path, "says", prefix="[1/2] "), 0, lambda: 0)
    assert found == {"run": f"7 in {tmp_path.name}: --json --lifeline"}
    assert capfd.readouterr().err == "[1/2] one\n[1/2] two\n"
    done(work(tmp_path, "says"), 0, lambda: 0)
    assert capfd.readouterr().err == "one\ntwo\n"


@pytest.mark.parametrize(
    ("what", "document"),
    [
        ("fails", {"error": "DataError", "message": "no", "exit_code": 3}),
        ("killed", ("was ended by SIGKILL", 1)),
        ("crashes", ("crashed, with 7", 7)),
    ],
)
def test_each_end_is_a_document(tmp_path: Path, what: str, document: dict[str, object] | tuple[str, int]) -> None:
    if isinstance(document, tuple):
        message = f"the run's process {document[0]}; what it had saved is kept"
        document = {"error": "ProcessFailed", "message": message, "exit_code": document[1]}
    assert done(work(tmp_path, what), 0, lambda: 0) == document


def test_a_stop_is_passed_on_once(tmp_path: Path) -> None:
    found = done(work(tmp_path, "waits"), 0, lambda: STOP if log(tmp_path) else 0)
    assert found == {"run": "stopped"}
    assert log(tmp_path) == ["began", "term"]


def test_who_does_not_heed_it_is_killed_when_it_is_asked_again(tmp_path: Path) -> None:
    asked: list[int] = []

    def level() -> int:
        asked.append(0)
        return min(len(asked) - 1, KILL) if log(tmp_path) else 0

    assert "was ended by SIGKILL" in done(work(tmp_path, "obstinate"), 0, level)["message"]


def test_so_many_at_a_time(tmp_path: Path) -> None:
    works = [work(tmp_path, "waits", number) for number in (1, 2, 3)]
    seen: list[Event] = []
    stop: list[int] = []
    for event in in_parallel(works, 2, 0, lambda: len(stop)):
        seen.append(event)
        if len(seen) == 2:
            until(lambda: log(tmp_path, 1) == log(tmp_path, 2) == ["began"])
            stop.append(1)
    assert {event.number for event in seen[:2]} == {1, 2}
    assert [event.document for event in seen] == [None, None, {"run": "stopped"}, {"run": "stopped"}]
    assert log(tmp_path, 3) == []


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    works = [work(tmp_path, what, number) for number, what in enumerate(("killed", "says", "fails"), start=1)]
    ended = {event.number: event.document for event in in_parallel(works, 1, 0, lambda: 0) if event.document}
    assert [("error" in ended[number]) for number in (1, 2, 3)] == [True, False, True]


def test_closing_it_stops_what_runs(tmp_path: Path) -> None:
    events = in_parallel([work(tmp_path, "waits", number) for number in (1, 2)], 1, 0, lambda: 0)
    next(events)
    until(lambda: bool(log(tmp_path)))
    events.close()
    assert log(tmp_path) == ["began", "term"]
    assert log(tmp_path, 2) == []


@pytest.mark.parametrize(
    ("jobs", "variables", "threads"), [(1, {}, 8), (2, {}, 4), (3, {}, 2), (16, {}, 1), (2, {"NPROC": "5"}, 5)]
)
def test_threads_are_shared_out_unless_somebody_said_how_many(
    jobs: int, variables: dict[str, str], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PJRT_NPROC", "NPROC"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(parallel_runs.cores, "available", lambda: 8)
    assert threads_each(jobs) == threads
