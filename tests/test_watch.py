"""`crh-train watch` in processes of its own: on a terminal beside a run that is being written, and without one."""

import base64
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import STEPS_PER_EPOCH, append, contents, copied, crh, document, refused
from conftest import Made
from store_samples import flip

from crh_train.chronicle import CHAIN_NAME, CHAIN_RECORD, LINES_NAME, SUM_BYTES, SUMS_NAME
from crh_train.run_store import RunFolder

STEPS = 3 * STEPS_PER_EPOCH
PATIENCE = 60  # seconds after which a process hangs
UTF8 = {"PYTHONIOENCODING": "utf-8"}


class Terminal:
    """A command on a terminal of 80×24, and all that it has written there. Use as a context manager: it ends there."""

    def __init__(self, words: list[str], env: dict[str, str], cwd: Path) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(80, 24)
        full = [sys.executable, "-m", "crh_train", *words]
        self.process = subprocess.Popen(full, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=cwd)
        os.close(theirs)
        self.written = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *raised: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, wanted: str) -> str:
        """Wait until `wanted` is written; returns what was written since the last call."""
        since, end = len(self.written), time.monotonic() + PATIENCE
        while wanted not in self.written[since:]:
            assert self._read(end), self.written
        return self.written[since:]

    def end(self) -> tuple[int, str]:
        """Exit code and what was written since the last call."""
        since, end = len(self.written), time.monotonic() + PATIENCE
        while self._read(end):
            pass
        return self.process.wait(PATIENCE), self.written[since:]

    def _read(self, end: float) -> bool:
        """Whether more was written before the time `end`, when it is a process that hangs."""
        ready, _, _ = select.select([self._ours], [], [], max(end - time.monotonic(), 0))
        if not ready or time.monotonic() > end:
            raise AssertionError(f"it goes on: {self.written[-2000:]!r}")
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:  # Linux's way to say that nobody writes any more
            return False
        self.written += data.decode("utf-8", "replace")
        return bool(data)


def plain(written: str) -> str:
    """What was written, without what moves the cursor and colours."""
    return re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", written)


@pytest.fixture
def screen(env: dict[str, str]) -> dict[str, str]:
    return {**env, **UTF8, "TERM": "xterm-256color"}


def cut(run: RunFolder, steps: int) -> tuple[bytes, bytes]:
    """Make of a finished run one that was logged up to `steps`; returns the lines and the chain's records after."""
    lines = (run.path / LINES_NAME).read_bytes().splitlines(keepends=True)
    chain = (run.path / CHAIN_NAME).read_bytes()
    (run.path / LINES_NAME).write_bytes(b"".join(lines[:steps]))
    (run.path / CHAIN_NAME).write_bytes(chain[: steps * CHAIN_RECORD.size])
    sums = (run.path / SUMS_NAME).read_bytes()
    (run.path / SUMS_NAME).write_bytes(sums[: steps * SUM_BYTES])
    return b"".join(lines[steps:]), chain[steps * CHAIN_RECORD.size :]


@contextlib.contextmanager
def unfinished(run: RunFolder) -> Iterator[None]:
    """Within it `run` is not finished."""
    sums = run.path / "reports" / "SHA256SUMS"
    aside = run.path.parents[1] / "aside"
    sums.rename(aside)
    yield
    aside.rename(sums)


def test_a_run_is_followed_to_its_end_beside_its_writer(
    store: RunFolder, screen: dict[str, str], tmp_path: Path
) -> None:
    whole = contents(store.path)
    lines, chain = cut(store, 7)
    with Terminal(["watch", store.name[:4]], screen, tmp_path) as watching:
        with store.lock(), unfinished(store):
            seen = watching.until("learning rate")
            assert seen.startswith("\x1b[?1049h")  # a screen of its own, which leaves what was there before as it was
            assert f"running, process {os.getpid()} on " in plain(seen)
            assert "step 7 of 18" in plain(seen)
            middle = len(lines.splitlines(keepends=True)[0])
            append(store, lines[: middle + 20], chain[: CHAIN_RECORD.size + 20])  # a line and a half
            watching.until("step 8 of 18")
            watching.resize(40, 30)
            watching.until("gradient norm")
            append(store, lines[middle + 20 :], chain[CHAIN_RECORD.size + 20 :])
            watching.until("step 18 of 18")
            watching.until("validation,")
            for name in (SUMS_NAME, ".lock"):
                (store.path / name).write_bytes(whole[name])
        code, written = watching.end()
    assert code == 0
    assert "\x1b[?1049l" in written
    after = plain(written.split("\x1b[?1049l")[1])
    assert f"run             {store.name}  (finished)" in after
    assert after.endswith(f"next: crh-train replay {store.name}\r\n")
    assert contents(store.path) == whole  # nothing of the run was touched by who looked on


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_leaving_is_no_failure_and_stops_no_run(
    name: str, store: RunFolder, screen: dict[str, str], tmp_path: Path
) -> None:
    cut(store, 7)
    with store.lock(), unfinished(store):
        before = contents(store.path)
        with Terminal(["watch"], screen, tmp_path) as watching:  # the one that is running
            watching.until("step 7 of 18")
            watching.process.send_signal(signal.Signals[name])
            code, written = watching.end()
        assert code == 0
        assert "Traceback" not in written
        assert plain(written).endswith(f"next: crh-train watch {store.name}\r\n")
        assert contents(store.path) == before


def test_a_run_that_comes_later_is_waited_for(
    finished: RunFolder, screen: dict[str, str], env: dict[str, str], tmp_path: Path
) -> None:
    with Terminal(["watch", finished.name[:4], "--wait", "--once"], screen, tmp_path) as watching:
        time.sleep(1.0)
        assert watching.process.poll() is None
        whole = tmp_path / "elsewhere"
        copied(finished, whole)
        (tmp_path / "runs").mkdir()
        (whole / finished.name).rename(tmp_path / "runs" / finished.name)
        code, written = watching.end()
    assert code == 0
    assert "step 18 of 18" in plain(written)
    said = refused(crh("watch", "xyz", "--wait", env=env, cwd=tmp_path), 2)  # no hash begins so, ever
    assert "1 to 64 hexadecimal digits, got 'xyz'" in said


def test_a_run_that_is_removed_ends_it(store: RunFolder, screen: dict[str, str], tmp_path: Path) -> None:
    cut(store, 7)
    with store.lock(), unfinished(store), Terminal(["watch"], screen, tmp_path) as watching:
        watching.until("step 7 of 18")
        store.path.rename(tmp_path / "elsewhere")
        code, written = watching.end()
        (tmp_path / "elsewhere").rename(store.path)
    assert code in (2, 3)
    assert "error: run " in plain(written).splitlines()[-1]  # behind what stood on the screen that it leaves
    assert "Traceback" not in written


# --- pictures ------------------------------------------------------------------------------------------------------


def test_the_picture_goes_to_a_terminal_that_says_it_can_show_it(finished: RunFolder, screen: dict[str, str]) -> None:
    def shown(*words: str, **variables: str) -> str:
        variables = {**screen, **variables}
        with Terminal(["watch", finished.name, *words], variables, finished.path.parents[1]) as terminal:
            code, written = terminal.end()
        assert code == 0
        assert plain(written).endswith(f"next: crh-train replay {finished.name}\r\n")
        return written

    png = (finished.path / "reports" / "cases.png").read_bytes()
    kitty = shown(KITTY_WINDOW_ID="1")
    assert base64.b64decode("".join(re.findall(r"\x1b_G[^;]*;([^\x1b]*)\x1b\\", kitty))) == png
    assert base64.b64encode(png).decode() in shown(TERM_PROGRAM="iTerm.app")
    assert "▀" in shown(COLORTERM="truecolor")
    assert "▀" in shown("--image")  # in 256 colours, as it was wished
    for written in (
        shown(),
        shown("--no-image", KITTY_WINDOW_ID="1"),
        shown(COLORTERM="truecolor", NO_COLOR="1"),
    ):
        assert "▀" not in written
        assert "\x1b_G" not in written
        assert "\x1b]" not in written
    assert "cases.png cannot be shown" in shown("--image", NO_COLOR="1")


# --- without a terminal --------------------------------------------------------------------------------------------


def test_a_snapshot_is_plain_text_and_changes_nothing(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    before = contents(tmp_path)
    for columns, encoding in (("80", "utf-8"), ("40", "ascii"), ("200", "utf-8")):
        changed = {**env, "PYTHONIOENCODING": encoding, "COLUMNS": columns}
        said = crh("watch", store.name, env=changed, cwd=tmp_path)
        assert (said.returncode, said.stderr) == (0, "")
        assert "\x1b" not in said.stdout
        drawn = said.stdout.split("\nrun  ")[0].splitlines()
        assert len(drawn) <= 22
        assert max(map(len, drawn)) <= int(columns)
        assert any("step 18 of 18" in line for line in drawn)
        assert said.stdout.isascii() == (encoding == "ascii") or "·" in said.stdout.split("\nrun  ")[1]
        assert said.stdout.endswith(f"next: crh-train replay {store.name}\n")
    assert contents(tmp_path) == before


def test_json_is_one_document(finished: RunFolder, interrupted: Made, env: dict[str, str]) -> None:
    found = document(crh("watch", finished.name, "--json", env=env, cwd=finished.path.parents[1]))
    assert (found["run"], found["status"], found["step"], found["steps"]) == (finished.name, "finished", STEPS, STEPS)
    assert found["last"]["loss"] == float(str(finished.chronicle()[-1].loss))
    assert (found["problem"], found["seconds_left"]) == (None, None)
    stopped = interrupted.run("term-stopped")
    found = document(crh("watch", stopped.name, "--json", env=env, cwd=stopped.path.parents[1]))
    assert (found["status"], found["step"], found["epoch"], found["writer"]) == ("unfinished", 9, 2, None)
    assert found["checkpoint"] == stopped.checkpoints()[-1].name.text.removesuffix(".chk")


def test_an_unfinished_run_says_how_to_go_on(interrupted: Made, env: dict[str, str]) -> None:
    stopped = interrupted.run("kill-stopped")
    said = crh("watch", stopped.name, env={**env, **UTF8}, cwd=stopped.path.parents[1])
    assert (said.returncode, said.stderr) == (0, "")
    assert "unfinished, and nobody works at it" in said.stdout
    assert said.stdout.endswith(f"next: crh-train resume {stopped.name}\n")


def test_damage_is_shown_with_what_is_good_and_is_exit_code_3(
    store: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    flip(store.path / LINES_NAME, 900)
    said = crh("watch", store.name, env={**env, **UTF8}, cwd=tmp_path)
    assert said.returncode == 3
    assert "step 6 of 18" in said.stdout
    assert f"crh-train verify {store.name} says" in " ".join(said.stdout.split())
    assert said.stderr.startswith(f"error: run {store.name}: chronicle.jsonl line 7: ")
    assert said.stderr.count("\n") == 1


def test_a_finished_run_that_lost_the_end_of_its_chronicle_is_damaged(
    store: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    path = store.path / LINES_NAME
    path.write_bytes(path.read_bytes()[:-10])
    said = crh("watch", store.name, "--once", env=env, cwd=tmp_path)
    assert said.returncode == 3
    assert "ends in the middle of line 18" in said.stderr


def test_no_run_or_several_without_a_name(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    assert refused(crh("watch", env=env, cwd=tmp_path), 2) == (
        "expected one run in runs that is running, found none; name one, or wait for it with --wait"
    )
    other = copied(store, tmp_path / "aside").path.rename(store.path.with_name("0" * 16))
    with store.lock(), RunFolder(other).lock():
        assert f"found {other.name}, {store.name}; name one" in refused(crh("watch", env=env, cwd=tmp_path), 2)


def test_it_needs_no_jax(finished: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    for name in ("jax", "jaxlib", "optax"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')\n")
    bare = {**env, "PYTHONPATH": f"{tmp_path}{os.pathsep}{env['PYTHONPATH']}"}
    said = crh("watch", finished.name, "--once", env=bare, cwd=finished.path.parents[1])
    assert (said.returncode, said.stderr) == (0, "")
