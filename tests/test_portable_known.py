"""Laws of the fence where a compiler knows every argument: it evaluates much beforehand, and still no bit changes.

`python tests/test_portable_known.py` prints, as JSON, the number of devices and the hash of each program here.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import numpy as np
import pytest
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from portable_elsewhere import FLAGS, print_from_all_devices, said
from portable_rules import numbers

from crh_train.portable import portable

KEY = jax.random.key(0)
WORDS = np.asarray(jax.random.key_data(KEY))


def start(key: Array) -> Array:
    """What an FMA changes: products whose differences are small."""
    x = jax.random.uniform(key, (1 << 12,), minval=1.0, maxval=2.0)
    return lax.complex(x, x * 0.41421357) ** 4


def start_of_words(words: Array) -> Array:
    return start(jax.random.wrap_key_data(words))


def mesh() -> Mesh:
    return Mesh(np.array(jax.devices()), ("rows",))


def exported() -> Callable[[], Array]:
    program = jax.export.export(jax.jit(KNOWN["a key made inside"]), platforms=("cpu", "cuda"))()
    again: Callable[[], Array] = jax.export.deserialize(program.serialize()).call
    return again


KNOWN: dict[str, Callable[[], Any]] = {
    "a key made inside": lambda: portable(start)(jax.random.key(0)),
    "a key from outside": lambda: portable(start)(KEY),
    "its words": lambda: portable(start_of_words)(WORDS),
    "beside other arguments": lambda: portable(lambda key, *_: start(key))(KEY, 0.1, numbers(0, (3, 2))),
    "an inner jit": lambda: jax.jit(portable(start))(jax.random.key(0)),
    "vmap": lambda: jax.vmap(portable(start))(jax.random.wrap_key_data(np.stack([WORDS, WORDS])))[0],
    "an inner vmap": lambda: jax.jit(jax.vmap(portable(start)))(jax.random.wrap_key_data(WORDS[None]))[0],
    "scan": lambda: lax.scan(lambda c, _: (c, portable(start)(KEY)), None, length=2)[1][1],
    "cond": lambda: lax.cond(WORDS.sum() == 0, lambda: portable(start)(KEY), lambda: portable(start)(KEY) * 2),
    "checkpoint": lambda: jax.checkpoint(portable(start))(KEY),
    "shard_map": lambda: jax.shard_map(
        lambda: portable(start)(KEY), mesh=mesh(), in_specs=(), out_specs=PartitionSpec()
    )(),
    "sharded": lambda: lax.with_sharding_constraint(portable(start)(KEY), NamedSharding(mesh(), PartitionSpec("rows"))),
    "exported": lambda: exported()(),
}


def digest(x: Array) -> str:
    return hashlib.sha256(np.asarray(x).tobytes()).hexdigest()


def hashes() -> dict[str, str]:
    return {name: digest(jax.jit(program)()) for name, program in KNOWN.items()}


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    """Of the program whose key is unknown when it is compiled."""
    return dict.fromkeys(KNOWN, digest(jax.jit(portable(start))(KEY)))


def test_what_is_known_has_the_bits_of_what_is_not(expected: dict[str, str]) -> None:
    assert hashes() == expected


@pytest.mark.parametrize("flag", [*FLAGS, "--xla_force_host_platform_device_count=4"])
def test_what_is_known_has_the_same_bits_elsewhere(flag: str, expected: dict[str, str]) -> None:
    devices, found = said(__file__, XLA_FLAGS=flag, JAX_PLATFORMS="cpu")
    assert devices == (4 if "device_count" in flag else 1)
    assert found == expected


@pytest.mark.parametrize("name", KNOWN)
def test_no_compiler_evaluates_the_fence(name: str) -> None:
    assert " sort(" in jax.jit(KNOWN[name]).lower().compile().as_text()


if __name__ == "__main__":
    print_from_all_devices(hashes())
