"""What `startup/jax_plugins` gives to a process: code that was compiled before, in its own environment and no other."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from command_line import compiled_in, compiling_into, crh, environment

PROGRAM = """
import os, sys
from crh_train import environment
environment.configure(os.environ, threads=int(sys.argv[1]), devices=int(sys.argv[2]))
import jax, jax.monitoring

said = []
jax.monitoring.register_event_listener(lambda event, **_: said.append(event))
print(float(jax.jit(lambda x: x * 3)(2.0)), said.count("/jax/compilation_cache/cache_hits") > 0)
"""


def reads(env: Mapping[str, str], threads: int = 2, devices: int = 1) -> bool:
    """Whether a process of so many threads and devices was given code."""
    done = crh(str(threads), str(devices), env=env, cwd=Path(env["HOME"]), program=("-c", PROGRAM))
    assert (done.returncode, done.stderr) == (0, "")
    value, found = done.stdout.split()
    assert value == "6.0"
    return found == "True"


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("compiled")
    plain = environment(folder)
    assert not reads(compiling_into(plain, folder / "compiled"))
    return compiled_in(plain, folder / "compiled")


def test_code_is_given_in_the_same_environment(env: dict[str, str]) -> None:
    assert reads(env)
    assert reads({**env, "UNRELATED": "1"})


@pytest.mark.parametrize(
    ("variables", "threads", "devices"),
    [
        ({}, 3, 1),
        ({}, 2, 2),
        ({"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"}, 2, 1),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}, 2, 1),
        ({"JAX_DEFAULT_DTYPE_BITS": "32"}, 2, 1),
    ],
)
def test_no_code_is_given_in_another(
    env: dict[str, str], variables: dict[str, str], threads: int, devices: int
) -> None:
    assert not reads({**env, **variables}, threads, devices)


def test_who_reads_writes_nothing(env: dict[str, str]) -> None:
    folder = Path(env["COMPILED"])
    before = sorted(folder.rglob("*"))
    assert before
    assert not reads(env, threads=3)
    assert reads(env)
    assert sorted(folder.rglob("*")) == before


def test_a_folder_that_is_not_there_stops_nobody(env: dict[str, str], tmp_path: Path) -> None:
    assert not reads({**env, "COMPILED": str(tmp_path / "none")})
    assert not (tmp_path / "none").exists()
