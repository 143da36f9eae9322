"""A signal ends a command with one line and exit code 130, wherever in it the signal comes; in fresh processes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import LIMIT, document, refused

COMMAND = """
import gc, os, signal, sys, weakref
import typer
from crh_train.cli.output import command

def send(*_):
    os.kill(os.getpid(), signal.SIGTERM)

class Object:
    pass

app = typer.Typer()

@app.command()
@command
def wait(json_output: bool = False) -> None:
{body}
    signal.sigtimedwait([], {seconds})

app()
"""
HANGS_SECONDS = 20  # in which a lost signal is one

PLACES = {
    "plain code": ["send()"],
    # JAX puts a function there too
    "a collection of garbage": ["gc.callbacks.append(lambda *_: gc.callbacks.pop() and send())", "gc.collect()"],
    "a destructor": ["Object.__del__ = send", "Object()"],
    "the end of what is referred to": ["kept = Object()", "reference = weakref.ref(kept, send)", "del kept"],
    "the import of an extension": ["try: send()", "except BaseException as error: raise ImportError from error"],
}


def waiting(body: list[str], cwd: Path) -> list[str]:
    """What starts, in `cwd`, a command that does `body`."""
    code = COMMAND.format(body="\n".join(f"    {line}" for line in body), seconds=HANGS_SECONDS)
    (cwd / "waits.py").write_text(code)
    return [sys.executable, "-m", "waits"]  # as `-m crh_train` is: CPython ends a script and `-c` otherwise


def said(body: list[str], env: dict[str, str], cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*waiting(body, cwd), *words],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.mark.parametrize("place", PLACES)
def test_a_signal_ends_a_command_wherever_it_comes(place: str, env: dict[str, str], tmp_path: Path) -> None:
    assert refused(said(PLACES[place], env, tmp_path), 130).startswith("stopped by a signal; what was saved before")


@pytest.mark.parametrize("told_within", [False, True])
def test_a_signal_in_a_string_of_code_is_no_other(told_within: bool, env: dict[str, str], tmp_path: Path) -> None:
    """CPython itself would then end by SIGINT, after all is said, whoever of us heard the signal."""
    body = ["exec('send()', {'send': send})"]
    if told_within:  # as a session does, which names the run
        error = ["from crh_train.errors import Interrupted"]
        body = [*error, f"try: {body[0]}", "except KeyboardInterrupt as stop: raise Interrupted('stopped') from stop"]
    done = said(body, env, tmp_path, "--json-output")
    assert (done.returncode, document(done)["error"]) == (130, "Interrupted")


def test_an_error_without_a_signal_is_its_own(env: dict[str, str], tmp_path: Path) -> None:
    done = said(["raise ImportError('no module')"], env, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ImportError: no module"


SECOND = {
    "while the first is on its way": ["try: send()", "finally: send()"],
    "while the first is told": [
        "told = typer.echo",
        "typer.echo = lambda *words, **options: (send(), told(*words, **options))",
        "send()",
    ],
    "when all is said": ["import atexit", "atexit.register(send)", "send()"],  # JAX has functions there
    "when a stop was asked for": [
        "import atexit",
        "from crh_train.errors import Interrupted",
        "from crh_train.stop_signals import asked_to_stop",
        "atexit.register(send)",
        "with asked_to_stop():",
        "    send()",
        "    raise Interrupted('stopped by a signal; what was saved before is kept')",
    ],
}


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("place", SECOND)
def test_a_second_signal_changes_nothing(place: str, number: str, env: dict[str, str], tmp_path: Path) -> None:
    done = said([f"signal.SIGTERM = signal.{number}", *SECOND[place]], env, tmp_path)
    assert refused(done, 130).startswith("stopped by a signal; what was saved before")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_many_signals_are_one(number: signal.Signals, env: dict[str, str], tmp_path: Path) -> None:
    """From the first one to the end of the process, which JAX has a part in; whatever of it they meet."""
    body = ["import jax", "os.mkdir('ready')", "while True: jax.numpy.ones(3).sum()"]
    words = waiting(body, tmp_path)
    with subprocess.Popen(words, env=env, cwd=tmp_path, stdout=-1, stderr=-1, text=True) as process:
        while process.poll() is None:
            if (tmp_path / "ready").exists():
                process.send_signal(number)
            time.sleep(0.0005)
        done = subprocess.CompletedProcess(words, process.returncode, *process.communicate())
    assert refused(done, 130).startswith("stopped by a signal; what was saved before")


IMPORT = [
    "from crh_train import compilation_cache",
    "from crh_train.compose import compose, packaged_conf",
    "runtime = compose('mri_step', [], [packaged_conf()]).runtime",
    "class Finder:",
    "    def find_spec(name, path, target=None):",
    "        if name == 'jaxlib._jax': send()",
    "sys.meta_path.insert(0, Finder)",
    "try: compilation_cache.use(os.environ, runtime)",
    "finally: print('whole' if 'jax' in sys.modules else 'in part')",
]


def test_jax_is_imported_whole_or_not_at_all(env: dict[str, str], tmp_path: Path) -> None:
    """Its extension modules abort the process where a signal comes in the middle."""
    done = said(IMPORT, env, tmp_path)
    assert (done.returncode, done.stdout) == (130, "whole\n"), done.stderr
