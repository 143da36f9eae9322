"""Laws of the conversions: one rounding to nearest even, or towards zero into a range, and one golden hash everywhere.

`python tests/test_portable_storage.py` prints the hashes of this machine as JSON; with `--write` it renews
`tests/golden/functions-storage.json`, which is right only where a value was meant to change.
"""

import hashlib
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import Array
from portable_elsewhere import FLAGS, said, write_or_print
from portable_rules import NAN_BITS, bits
from test_portable_trigonometric import around, patterns, sweep

from crh_train.errors import NotPortable
from crh_train.portable import portable, storage

GOLDEN = Path(__file__).parent / "golden" / "functions-storage.json"
INTEGERS = [np.dtype(f"{sign}int{width}") for sign in ("", "u") for width in (8, 16, 32, 64)]
EVERY_HALF = np.arange(2**16, dtype=np.uint16)
SMALLEST, LARGEST = 2.0**-125, float(np.finfo(np.float32).max)
TO_BFLOAT16, TO_FLOAT16 = "to bfloat16", "to float16"


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    def traced(*given: Array) -> Any:
        with jax.enable_x64(True):
            return function(*given)

    program = jax.jit(traced)

    def run(*given: np.ndarray) -> Any:
        with jax.enable_x64(True):  # for arguments of 64 bits
            return jax.tree.map(np.asarray, program(*given))

    return run


def everywhere(x: Array) -> dict[str, Array]:
    """A float32 in every other type."""
    whole = {str(dtype): storage.to_integer(x, dtype) for dtype in [*INTEGERS, np.dtype(bool)]}
    half = {TO_BFLOAT16: storage.to_bfloat16(x), TO_FLOAT16: storage.to_float16(x)}
    return {f"to {name}": value for name, value in whole.items()} | half


def whole_numbers(dtype: np.dtype) -> np.ndarray:
    """Every number of a small type; else random ones of every size, and those next to where rounding turns."""
    limits = np.iinfo(dtype)
    if limits.bits <= 16:
        return np.arange(limits.min, limits.max + 1, dtype=dtype)
    words = np.random.default_rng(limits.bits).integers(0, 2**64, 100_000, np.uint64)
    random = (words >> (words & np.uint64(limits.bits - 1))).astype(dtype)
    halfway = [
        (2 * odd + 1) << shift for odd in range(2**23, 2**23 + 40) for shift in range(int(limits.max).bit_length() - 24)
    ]
    near = [value + step for value in halfway for step in (-1, 0, 1)]
    signed = [sign * value for value in near for sign in (1, -1)] if limits.min else near
    ends = [limits.max - step for step in range(3)] + [limits.min + step for step in range(3)]
    return np.concatenate([random, np.array([*signed, *ends], dtype)])


def moved(x: Array) -> Array:
    return jnp.where(jnp.arange(x.size) % 2 == 0, x, jnp.concatenate([x[5:], x[:5]]))[::-1]


def hashes() -> dict[str, str]:
    found = compiled(everywhere)(sweep())
    for dtype in INTEGERS:
        found[f"from {dtype}"] = compiled(storage.from_integer)(whole_numbers(dtype))
    found["from bfloat16"] = compiled(storage.from_bfloat16)(EVERY_HALF.view(ml_dtypes.bfloat16))
    found["from float16"] = compiled(storage.from_float16)(EVERY_HALF.view(np.float16))
    found["moved float16"] = jax.jit(portable(moved))(EVERY_HALF.view(np.float16))
    return {name: hashlib.sha256(np.asarray(value).tobytes()).hexdigest() for name, value in found.items()}


def test_every_machine_has_the_golden_bits() -> None:
    assert hashes() == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("flag", FLAGS)
def test_neither_instructions_nor_optimisation_change_a_bit(flag: str) -> None:
    assert said(__file__, XLA_FLAGS=flag) == json.loads(GOLDEN.read_text())


def test_a_float_becomes_an_integer_towards_zero_and_into_its_range() -> None:
    ends = around([2.0**power for power in range(65)] + [0.5, 1.5, 127.5, 255.5, SMALLEST, LARGEST], 3)
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, -np.nan], np.float32)
    x = np.concatenate([ends, special, patterns(3000, SMALLEST, LARGEST, 0), patterns(3000, 0.25, 2.0**65, 1)])
    x = x[~(np.abs(x) < SMALLEST) | (x == 0)]
    found = compiled(everywhere)(x)
    for dtype in INTEGERS:
        limits = np.iinfo(dtype)

        def exact(a: float, low: int = int(limits.min), high: int = int(limits.max)) -> int:
            if math.isnan(a):
                return 0
            return (high if a > 0 else low) if math.isinf(a) else min(max(math.trunc(a), low), high)

        assert found[f"to {dtype}"].dtype == dtype
        assert found[f"to {dtype}"].tolist() == [exact(a) for a in x.tolist()], dtype
    assert found["to bool"].tolist() == [a != 0 for a in x.tolist()]


def nearest_float32(n: int) -> float:
    """In integers: to 24 bits, halves to even."""
    shift = max(abs(n).bit_length() - 24, 0)
    kept, rest = divmod(abs(n), 1 << shift)
    up = 2 * rest > (1 << shift) or (2 * rest == (1 << shift) and kept & 1)
    return math.ldexp(math.copysign(kept + up, n) if n else 0.0, shift)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_an_integer_becomes_the_nearest_float(dtype: np.dtype) -> None:
    numbers = whole_numbers(dtype)[-20_000:]
    found = compiled(storage.from_integer)(numbers)
    assert found.dtype == np.float32
    assert found.tolist() == [nearest_float32(n) for n in numbers.tolist()]


def test_booleans_are_one_and_zero() -> None:
    assert compiled(storage.from_integer)(np.array([True, False])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("name", "dtype", "nan"), [(TO_BFLOAT16, ml_dtypes.bfloat16, 0x7FC0), (TO_FLOAT16, np.float16, 0x7E00)]
)
def test_a_half_type_is_the_nearest_with_one_nan(name: str, dtype: Any, nan: int) -> None:
    # Beside the sweep, each number of the type and the float32 halfway to the next, and their neighbours.
    with np.errstate(invalid="ignore"):
        each = EVERY_HALF.view(dtype).astype(np.float32).view(np.uint32)
    halfway = each + np.uint32(0x8000 if dtype == ml_dtypes.bfloat16 else 0x1000)
    near = np.concatenate([each, each + np.uint32(1), halfway - np.uint32(1), halfway, halfway + np.uint32(1)])
    x = np.concatenate([sweep(), near.view(np.float32)])
    x = np.where(np.abs(x) < SMALLEST, np.float32(0), x)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(dtype).view(np.uint16)
    assert np.array_equal(
        compiled(everywhere)(x)[name].view(np.uint16), np.where(np.isnan(x), np.uint16(nan), expected)
    )


@pytest.mark.parametrize(("name", "dtype"), [("from_bfloat16", ml_dtypes.bfloat16), ("from_float16", np.float16)])
def test_every_half_becomes_the_float32_that_it_is(name: str, dtype: Any) -> None:
    halves = EVERY_HALF.view(dtype)
    found = compiled(getattr(storage, name))(halves)
    with np.errstate(invalid="ignore"):
        nan = np.isnan(halves)
    assert np.array_equal(bits(found)[~nan], bits(halves.astype(np.float32))[~nan])
    assert np.all(np.isnan(found[nan]))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_half_is_computed_with_as_float32_and_rounded_each_time(dtype: Any) -> None:
    generator = np.random.default_rng(2)
    x, y, z = (generator.integers(-2000, 2000, 10_000).astype(np.float32).astype(dtype) * dtype(0.01) for _ in range(3))

    def program(x: Array, y: Array, z: Array) -> dict[str, Array]:
        return {
            "two roundings": x * y + z,
            "there and back": (x.astype(jnp.float32) * 1.01).astype(dtype).astype(jnp.float32),
            "quotient": x / 3,
            "to an integer": (x * 7).astype(jnp.int8),
            "from an integer": jnp.arange(10_000).astype(dtype) + x * 0,
        }

    found = jax.jit(portable(program))(x, y, z)

    def wide(a: np.ndarray) -> np.ndarray:
        return a.astype(np.float32)

    with np.errstate(over="ignore"):
        product = wide((wide(x) * wide(y)).astype(dtype))
        expected = {
            "two roundings": (product + wide(z)).astype(dtype),
            "there and back": wide((wide(x) * np.float32(1.01)).astype(dtype)),
            "quotient": (wide(x) / np.float32(3)).astype(dtype),
            "to an integer": np.clip(np.trunc(wide((wide(x) * 7).astype(dtype))), -128, 127).astype(np.int8),
            "from an integer": np.arange(10_000).astype(np.float32).astype(dtype),
        }
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        assert np.array_equal(np.asarray(found[name]) + values.dtype.type(0), values + values.dtype.type(0)), name


def test_conversions_in_a_program() -> None:
    x = np.array([-300.7, -1.5, -0.0, 0.5, 1e-40, 200.2, 70000, np.inf, np.nan, 3e9], np.float32)

    def program(x: Array) -> dict[str, Array]:
        return {
            "int8": x.astype(jnp.int8),
            "uint16": x.astype(jnp.uint16),
            "int4": x.astype(jnp.int4).astype(jnp.int32),
            "bool": x.astype(bool),
            "complex64": x.astype(jnp.complex64),
            "int32 to int8": x.astype(jnp.int32).astype(jnp.int8),
            "itself": x.astype(jnp.float32),
        }

    found = jax.jit(portable(program))(x)
    assert found["int8"].tolist() == [-128, -1, 0, 0, 0, 127, 127, 127, 0, 127]
    assert found["uint16"].tolist() == [0, 0, 0, 0, 0, 200, 65535, 65535, 0, 65535]
    assert found["int4"].tolist() == [-8, -1, 0, 0, 0, 7, 7, 7, 0, 7]
    assert found["bool"].tolist() == [True, True, False, True, False, True, True, True, True, True]
    assert found["int32 to int8"].tolist() == [-44, -1, 0, 0, 0, -56, 112, -1, 0, -1]
    assert bits(found["complex64"].real)[8] == NAN_BITS
    assert not np.any(found["complex64"].imag)
    with pytest.raises(NotPortable, match=r"convert_element_type.*complex64 to int32; take the real part first"):
        portable(lambda x: jax.lax.convert_element_type_p.bind(
            x.astype(jnp.complex64), new_dtype=np.dtype(np.int32), weak_type=False, sharding=None
        ))(x)  # fmt: skip


if __name__ == "__main__":
    write_or_print(hashes(), GOLDEN)
