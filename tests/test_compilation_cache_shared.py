"""Processes that share compiled code: each finds the bits that it would have compiled, whatever became of the files."""

import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from command_line import SMALL, crh, document, environment
from test_compilation_cache import DAMAGES, files, flipped
from typer.testing import CliRunner

import crh_train.environment
from crh_train import compilation_cache
from crh_train.cli import app
from crh_train.compilation_cache import described
from crh_train.config import RuntimeConfig
from crh_train.digest import digest_json
from crh_train.environment import settings
from crh_train.errors import UsageError
from crh_train.run_folder import environment_bytes
from crh_train.run_store import RunFolder
from crh_train.stored import stored_config

PROGRAM = """
import hashlib, os, sys
from pathlib import Path
from types import SimpleNamespace
from crh_train import compilation_cache, environment

threads, on, processes = map(int, sys.argv[1:4])
environment.configure(os.environ, threads=threads, devices=1)
compilation_cache.use(os.environ, SimpleNamespace(compilation_cache=bool(on), processes=processes))
import jax, jax.monitoring
import jax.numpy as jnp
import numpy as np
from jax import lax

said = []
jax.monitoring.register_event_listener(lambda event, **_: said.append(event))
x = np.linspace(-1, 1, 48 * 48, dtype=np.float32).reshape(48, 48)
programs = [
    lambda x: x @ x.T,
    lambda x: jnp.exp(jnp.sin(x)) / (2 + x),
    lambda x: lax.while_loop(lambda c: c[1].sum() < 900, lambda c: (c[0] + 1, c[1] + abs(c[1])), (0, x)),
    lambda x: lax.scan(lambda c, row: (c * 0.9 + row, c.max()), x[0], x),
    lambda x: lax.fori_loop(0, 5 + (x[0, 0] > 0), lambda i, c: c.at[i].add(c[i + 1]), x),
    lambda x: lax.cond(x[0, 0] > 0, jnp.cumsum, jnp.cumprod, x.ravel()),
    lambda x: jnp.sort(x, axis=0)[::-1],
    lambda x: jnp.linalg.qr(x[:8, :8]),
    lambda x: jnp.fft.rfft(x).real,
    lambda x: lax.conv(x[None, None], x[None, None, :3, :3], (1, 1), "SAME"),
    lambda x: jax.random.normal(jax.random.key(3), (7,)) * x[0, 0],
    lambda x: lax.reduce_window(x, -np.inf, lax.max, (2, 2), (2, 2), "VALID"),
]
results = [jax.tree.leaves(jax.jit(program)(x)) for program in programs]
hashed = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaves in results for leaf in leaves)).hexdigest()
print(hashed, *(said.count(f"/jax/compilation_cache/cache_{event}") for event in ("hits", "misses")))
"""


class Answer(NamedTuple):
    hashed: str
    given: int  # programs that were not compiled
    kept: int  # programs that were handed to the cache


def answer(env: Mapping[str, str], threads: int = 2, on: bool = True, processes: int = 1) -> tuple[Answer, list[str]]:
    """What a process that compiles some programs finds, and its notes."""
    words = (str(threads), str(int(on)), str(processes))
    done = crh(*words, env=env, cwd=Path(env["HOME"]), program=("-c", PROGRAM))
    assert done.returncode == 0, done.stderr
    hashed, given, kept = done.stdout.split()
    return Answer(hashed, int(given), int(kept)), done.stderr.splitlines()


class Warm(NamedTuple):
    env: dict[str, str]
    entries: Path
    answer: Answer


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Warm:
    folder = tmp_path_factory.mktemp("warm")
    env = environment(folder)
    off, said = answer(env, on=False)
    assert (off.given, off.kept, said) == (0, 0, [])
    assert files(folder) == []
    found, said = answer(env)
    assert (found, said) == (Answer(off.hashed, 0, found.kept), [])
    assert found.kept >= 12
    return Warm(env, folder / "cache" / "crh-train" / "compiled", found)


def test_the_second_process_compiles_nothing_and_has_the_same_bits(warm: Warm) -> None:
    assert len(files(warm.entries)) == warm.answer.kept
    assert answer(warm.env) == (Answer(warm.answer.hashed, warm.answer.kept, 0), [])
    # What a user may set that is nobody's business here, and what turns it off.
    assert answer({**warm.env, "UNRELATED": "1"}, processes=2)[0][1:] == (0, 0)
    assert answer(warm.env, on=False)[0][1:] == (0, 0)


@pytest.mark.parametrize(("threads", "variables"), [(3, {}), (2, {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"})])
def test_another_environment_is_given_nothing(warm: Warm, threads: int, variables: dict[str, str]) -> None:
    before = files(warm.entries)
    found, said = answer({**warm.env, **variables}, threads)
    assert (found.given, found.kept, said) == (0, warm.answer.kept, [])
    assert len({path.parent for path in set(files(warm.entries)) - set(before)}) == 1


def test_damaged_code_is_compiled_again_to_the_same_bits(warm: Warm, tmp_path: Path) -> None:
    env = {**warm.env, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    shutil.copytree(warm.entries.parent, tmp_path / "cache" / "crh-train")
    damaged = files(tmp_path / "cache")
    for path, damage in zip(damaged, itertools.cycle(DAMAGES.values()), strict=False):
        path.write_bytes(damage(path.read_bytes()))
    found, said = answer(env)
    assert (found.hashed, found.given, found.kept) == (warm.answer.hashed, 0, warm.answer.kept)
    assert sum(line.endswith("is damaged; it is removed and compiled again") for line in said) == len(said)
    assert len(said) == found.kept
    assert answer(env) == (Answer(found.hashed, found.kept, 0), [])


def test_where_no_folder_can_be_nothing_is_kept_and_one_note_says_so(warm: Warm, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found, said = answer({**warm.env, "XDG_CACHE_HOME": str(tmp_path / "file")})
    assert (found.hashed, found.given) == (warm.answer.hashed, 0)
    assert said == [f"compiled code is not kept in {tmp_path}/file/crh-train/compiled: Not a directory"]


def test_a_cache_that_the_user_gave_to_jax_is_left_as_it_is(warm: Warm, tmp_path: Path) -> None:
    own = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    before = files(warm.entries)
    found, _ = answer({**warm.env, **own})
    assert (found.hashed, found.given) == (warm.answer.hashed, 0)
    assert files(tmp_path / "own")
    assert files(warm.entries) == before


# --- commands ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("run", "conf=mri_step"), ("resume", "{}"), ("replay", "{}")])
def test_every_command_that_computes_uses_it(
    finished: RunFolder, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    def use(_environ: Any, runtime: RuntimeConfig) -> None:
        raise UsageError(f"used: {runtime.compilation_cache}")

    monkeypatch.setattr(compilation_cache, "use", use)
    monkeypatch.setattr(crh_train.environment, "configure", lambda *_: None)
    words = (*(word.format(finished.name) for word in words), "--runs", str(finished.path.parent))
    for more, expected in (((), True), (("runtime.compilation_cache=false",), False)):
        said = CliRunner().invoke(app, [*words, *more])
        assert (said.exit_code, said.stderr) == (2, f"error: used: {expected}\n")


def test_a_run_that_is_older_than_the_key_has_a_cache(store: RunFolder) -> None:
    (session,) = store.sessions()
    del session["runtime"]["compilation_cache"]
    (store.path / "environment.json").write_bytes(environment_bytes([session]))
    assert stored_config(store, []).runtime.compilation_cache


NATIVE = ("conf=mri_step", "model=mlp", *SMALL, "engine.epochs=1", "determinism=native")


def test_a_run_that_was_compiled_has_the_bits_of_one_that_was_not(env: dict[str, str], tmp_path: Path) -> None:
    """On two devices, under native determinism, where other code would show."""
    # An environment, and with it a folder, of its own; the second variable is JAX's default, which it sets.
    env = {**env, "OMP_OF": "this test", "TF_CPP_MIN_LOG_LEVEL": "1"}
    key = digest_json(described({**env, **settings(env, 2, 2)}, Path("/proc/cpuinfo")))
    entries = Path(env["XDG_CACHE_HOME"]) / "crh-train" / "compiled" / key
    topology = ("runtime.devices=2", "runtime.threads=2")
    made = crh("run", *NATIVE, *topology, "runtime.compilation_cache=false", "--json", env=env, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert not entries.exists()

    def replayed() -> list[str]:
        words = ("replay", document(made)["run"], "runtime.compilation_cache=true", "--json")
        said = crh(*words, env=env, cwd=tmp_path)
        assert said.returncode == 0, said.stderr
        found = document(said)
        assert (found["identical"], found["promised"], found["checkpoints_compared"]) == (True, True, 1)
        return said.stderr.splitlines()

    assert replayed() == []
    kept = files(entries)
    assert len(kept) > 2
    for path in kept:
        os.utime(path, (0, 0))
    for path in kept[::2]:
        path.write_bytes(flipped(path.read_bytes(), path.stat().st_size * 4))
    assert len(replayed()) == len(kept[::2])
    assert files(entries) == kept
    assert all(path.stat().st_mtime > 0 for path in kept)  # each was used, or made again
