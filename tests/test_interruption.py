"""A signal ends a command with one line and exit code 130, wherever in it the signal comes; in fresh processes."""

import subprocess
import sys
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


def said(body: list[str], env: dict[str, str], cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    code = COMMAND.format(body="\n".join(f"    {line}" for line in body), seconds=HANGS_SECONDS)
    (cwd / "waits.py").write_text(code)
    return subprocess.run(
        [sys.executable, "-m", "waits", *words],  # as `-m crh_train` is: CPython ends a script and `-c` otherwise
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


def test_a_signal_in_a_string_of_code_is_no_other(env: dict[str, str], tmp_path: Path) -> None:
    """CPython itself would then end by SIGINT, after all is said."""
    done = said(["exec('send()', {'send': send})"], env, tmp_path, "--json-output")
    assert (done.returncode, document(done)["error"]) == (130, "Interrupted")


def test_an_error_without_a_signal_is_its_own(env: dict[str, str], tmp_path: Path) -> None:
    done = said(["raise ImportError('no module')"], env, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ImportError: no module"


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
