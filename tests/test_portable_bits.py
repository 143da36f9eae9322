"""Bits that machines and compilers bend: denormals, NaNs, and a product that meets a sum."""

from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from portable_rules import NAN_BITS, SMALLEST, bits, run, same_bits

from crh_train.portable import portable
from crh_train.portable.fences import make_fence

DENORMAL, MINUS_DENORMAL, PAYLOAD, SIGNALLING = 0x00000001, 0x807FFFFF, 0xFFC12345, 0x7F800001
HARD = np.array(
    [DENORMAL, MINUS_DENORMAL, SIGNALLING, PAYLOAD, 0x80000000, 0x3F800000, 0x7FC00000, 0xFF800000], np.uint32
).view(np.float32)


def test_what_is_only_moved_keeps_its_bits() -> None:
    order = np.random.default_rng(5).permutation(HARD.size)

    def moves(x: Array) -> dict[str, Array]:
        carried, stacked = lax.scan(lambda c, row: (c, row), x, x)
        return {
            "itself": x,
            "reversed twice": x[::-1][::-1],
            "reshaped": x.reshape(2, 4).T.T.reshape(8),
            "gathered": x[jnp.asarray(order)][jnp.asarray(np.argsort(order))],
            "joined": jnp.concatenate([x[:3], x[3:]]),
            "selected": jnp.where(lax.bitcast_convert_type(x, jnp.int32) > 5, x, x.reshape(8)),
            "put in": lax.dynamic_update_slice(x[::-1], x, (0,)),
            "repeated": jnp.broadcast_to(x, (3, 8))[1],
            "as bits": lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.uint32), jnp.float32),
            "carried": carried,
            "stacked": stacked,
            "of a branch": lax.cond(x[5] > 0, lambda x: x, lambda x: -x, x),
            "put at one place": x.at[3].set(x[3]),
            "put at all": x[::-1].at[jnp.arange(8)].set(x),
            "put at none": x.at[jnp.array([8, 9])].set(1.0, mode="drop"),
            "beside a key": lax.sort((jnp.asarray(order), x[jnp.asarray(order)]), num_keys=1)[1],
            "in a call": jax.jit(lambda x: x[::-1])(x)[::-1],
        }

    for name, found in run(moves, HARD).items():
        assert same_bits(found, HARD), name
    for dtype in (jnp.bfloat16, jnp.float16):
        every = np.arange(2**16, dtype=np.uint16).view(dtype)
        backwards = [
            lambda x: x[::-1],
            lambda x: lax.sort((-jnp.arange(2**16), x), num_keys=1)[1],
            lambda x: x.at[jnp.arange(2**16)].set(x[::-1]),
            lambda x: lax.sort((-jnp.arange(2**16), x.at[5].set(x[5])), num_keys=1)[1],
        ]
        for function in backwards:
            assert np.array_equal(run(function, every)[::-1].view(np.uint16), every.view(np.uint16))
    pairs = HARD.reshape(4, 2).copy().view(np.complex64)[:, 0]
    for function in (lambda x: x.at[1].set(x[1]), lambda x: x[::-1].at[jnp.arange(4)].set(x)):
        assert same_bits(run(function, pairs).view(np.float32), HARD)


def test_arithmetic_takes_denormals_for_zero_and_makes_none() -> None:
    def arithmetic(x: Array, tiny: Array) -> dict[str, Array]:
        return {
            "plus nothing": x + 0,
            "times one": x * 1,
            "magnitude": jnp.abs(x) + 0,
            "scaled up": x * 2.0**100,
            "a root": jnp.sqrt(jnp.abs(x)),
            "compared": jnp.where(x == 0, 0.0, 1.0),
            "its sign": jnp.sign(x),
            "a sum": jnp.sum(x.reshape(2, 2), 0),
            "a product of arrays": x.reshape(2, 2) @ jnp.full((2, 2), 2.0**120),
            "too small": tiny * 0.5,
            "a difference": tiny * 1.5 - tiny,
            "a quotient": tiny / 3,
            "a square": tiny * tiny,
            "an exponential": jnp.exp(jnp.full(2, -87.0) + 0 * tiny),
            "a power": jnp.full(2, 2.0) ** (-126 + 0 * tiny),
            "a narrowing": lax.convert_element_type(tiny * 0.75, jnp.bfloat16).astype(jnp.float32),
        }

    denormals = np.array([DENORMAL, MINUS_DENORMAL, 0x007FFFFF, 0x00FFFFFF], np.uint32).view(np.float32)
    for name, found in run(arithmetic, denormals, np.array([SMALLEST, -SMALLEST])).items():
        assert not np.any(bits(found)), name


def test_a_nan_that_arithmetic_makes_has_one_pattern() -> None:
    def made(x: Array, infinity: Array) -> dict[str, Array]:
        nan = infinity - infinity
        carried, stacked = lax.scan(lambda c, _: (c * -1, c - infinity), nan, length=2)
        return {
            "a difference": nan,
            "of a payload": x * 1,
            "negated": -nan,
            "magnitude": jnp.abs(-x),
            "of a sum": jnp.sum(jnp.stack([x, -x])),
            "of a product": jnp.stack([x, x]) @ jnp.ones((2, 1)),
            "larger": jnp.maximum(x, 1.0),
            "of a root": jnp.sqrt(jnp.stack([-infinity, x])),
            "of a logarithm": jnp.log(-infinity),
            "sorted": jnp.sort(jnp.stack([x, x])),
            "sorted beside a key": lax.sort((jnp.arange(2), jnp.stack([-nan, x * 1])), num_keys=1)[1],
            "overwriting": jnp.zeros(2).at[jnp.arange(2)].set(jnp.stack([-nan, x * 1])),
            "moved on": jnp.stack([nan, nan])[::-1],
            "carried": carried,
            "stacked": stacked,
            "of a branch": lax.cond(infinity > 0, lambda x: -(x + 1), lambda x: x, x),
            "of a call": jax.jit(lambda x: x + 1)(-x),
        }

    def seen(x: Array, infinity: Array) -> dict[str, Array]:
        return {name: lax.bitcast_convert_type(value, jnp.uint32) for name, value in made(x, infinity).items()}

    for program in (made, seen):
        for name, found in run(program, HARD[3], np.float32(np.inf)).items():
            assert np.all(bits(found) == NAN_BITS), name


@pytest.mark.parametrize(("dtype", "pattern"), [(jnp.bfloat16, 0x7FC0), (jnp.float16, 0x7E00)])
def test_a_nan_of_a_half_type_has_one_pattern(dtype: Any, pattern: int) -> None:
    def made(infinity: Array) -> list[Array]:
        small = infinity.astype(dtype)
        nan = small - small
        values = [nan, -nan, nan[::-1], lax.scan(lambda c, _: (c * -1, None), nan, length=2)[0], jnp.exp(-nan)]
        return [*values, *[lax.bitcast_convert_type(value, jnp.uint16) for value in values]]

    for found in run(made, np.full(2, np.inf, np.float32)):
        assert np.all(found.view(np.uint16) == pattern)


def triples() -> list[np.ndarray]:
    generator = np.random.default_rng(6)
    words = generator.integers(0x3E000000, 0x41000000, (3, 100_000), np.uint32)
    return list((words | generator.integers(0, 2, words.shape, np.uint32) << 31).view(np.float32))


def test_a_product_and_a_sum_stay_two_roundings() -> None:
    x, y, z = triples()
    expected = x * y + z  # NumPy's are two operations
    assert same_bits(run(lambda x, y, z: x * y + z, x, y, z), expected)
    assert same_bits(run(lambda x, y, z: z - x * -y, x, y, z), expected)
    assert same_bits(run(lambda x, y, z: lax.map(lambda row: row[0] * row[1] + row[2], (x, y, z)), x, y, z), expected)
    assert same_bits(run(lambda x: x / 3, x), x / np.float32(3))
    assert same_bits(run(lambda x: x * 0.1 * 10, x), x * np.float32(0.1) * np.float32(10))


def fused(x: Any, y: Any, z: Any) -> Any:
    return x * y + z


def test_a_fence_stays_where_only_one_argument_is_unknown_to_the_compiler() -> None:
    x, y, z = triples()

    @jax.jit
    def fenced(x: Array, y: Array, z: Array) -> Array:
        with jax.enable_x64(True):
            fence = make_fence(jnp.zeros((), jnp.int32), np.float32(0.1), x)
            return lax.add(fence(lax.mul(x, y)), z)

    assert same_bits(fenced(x, y, z), x * y + z)
    known = (0.1, jnp.zeros((), jnp.int32))
    program = jax.jit(lambda x: portable(lambda x, *_: jnp.sin(x) / 3)(x, *known)).lower(x).compile()
    assert " sort(" in program.as_text(), "the compiler has evaluated the fence"


def test_parameters_of_a_program_make_its_fence_without_a_barrier() -> None:
    """So the programs that runs archived are those that today's code makes."""

    def program(key: Array, x: Array) -> Array:
        return jnp.exp(x) / jax.random.uniform(key, (3,))

    key, x = jax.random.key(0), np.ones(3, np.float32)
    for arguments in ((key, x), (key, x.astype(np.int32)), (key, x > 0)):
        assert "optimization_barrier" not in jax.jit(portable(program)).lower(*arguments).as_text()
    exported = jax.export.export(jax.jit(portable(jnp.exp)), platforms=("cpu", "cuda"))(x)
    assert "sort" in exported.mlir_module()
    assert "optimization_barrier" not in exported.mlir_module()
    assert "optimization_barrier" in jax.jit(lambda: portable(program)(key, x)).lower().as_text()


def test_this_machine_would_fuse_them() -> None:
    """The tests above see something: stock JAX rounds once wherever a machine has an FMA."""
    x, y, z = triples()
    stock = np.asarray(jax.jit(fused)(x, y, z))
    once = (x.astype(np.float64) * y + z).astype(np.float32)
    assert same_bits(stock, x * y + z) or np.mean(stock != once) < 1e-3
