"""A function as its operations: one by one they give what the whole gives, and inside loops too."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

from crh_train import operations
from crh_train.operations import Chunk, Program, enter, to_numpy
from crh_train.portable import portable

WITNESS = np.ones((), np.int32)
X, ON = jnp.linspace(-1, 1, 4, dtype=jnp.float32).reshape(2, 2), jnp.int32(3)
TABLE = np.arange(12, dtype=np.float32).reshape(3, 2, 2) / 7


def loops(x: Array, on: Array) -> tuple[Array, Array, Array]:
    def body(carry: Array, row: Array) -> tuple[Array, Array]:
        carry = jnp.tanh(carry + row @ carry)
        return carry, carry * 2

    last, rows = lax.scan(body, x, jnp.asarray(TABLE), reverse=True)
    last = lax.while_loop(lambda value: value.sum() < 10, lambda value: value * value + 3, last)
    last = lax.cond(on > 2, lambda value: value + 1, lambda value: value * 2, last)
    return jax.nn.relu(last), rows, jax.random.normal(jax.random.key(3), (5,))


def whole(transform: Callable[..., Any]) -> Any:
    return jax.jit(transform(loops))(X, ON)


def drained(chunks: operations.Chunks) -> tuple[list[Chunk], list[Array]]:
    found: list[Chunk] = []
    try:
        while True:
            found.append(next(chunks))
    except StopIteration as end:
        return found, end.value


def traced(transform: Callable[..., Any]) -> Program:
    return Program(jax.make_jaxpr(loops)(X, ON), transform)


def native(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


@pytest.mark.parametrize("size", [5, 64])
def test_in_whatever_pieces_portable_operations_give_the_bits_of_the_whole(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "CHUNK_OPERATIONS", size)
    chunks, outputs = drained(traced(portable).evaluate([X, ON], WITNESS))
    assert max(len(chunk.operations) for chunk in chunks) <= size
    for one, other in zip(outputs, whole(portable), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize(
    ("transform", "name", "times"),
    [(portable, "scan", 3), (native, "scan", 3), (native, "while", None), (native, "cond", 1)],
)
def test_inside_a_loop_or_branch_is_what_it_gives(transform: Callable[..., Any], name: str, times: int | None) -> None:
    chunks, _ = drained(traced(transform).evaluate([X, ON], WITNESS))
    (chunk,) = [chunk for chunk in chunks if any(each.primitive == name for each in chunk.evaluated)]
    (index,) = [i for i, each in enumerate(chunk.evaluated) if each.primitive == name]
    assert chunk.evaluated[index].has_body
    inside, outputs = drained(enter(chunk, index, transform, jnp.asarray(WITNESS)))
    np.testing.assert_array_equal(to_numpy(outputs[0]), chunk.results(index)[0])
    iterations = {each.within for part in inside for each in part.evaluated}
    assert times is None or len(iterations) == times
    assert name != "scan" or inside[0].evaluated[0].within == "iteration 2", "it goes in reverse"


def test_an_operation_says_what_it_is_and_where_it_was_written() -> None:
    chunks, _ = drained(traced(native).evaluate([X, ON], WITNESS))
    named = {each.primitive: each for chunk in chunks for each in chunk.evaluated}
    assert named["gt"].operands[1] == "2"
    assert named["gt"].results == ("bool[]",)
    assert "tests/test_operations.py:" in named["gt"].where
    assert named["gt"].where.endswith("(loops)")
    assert "tests/test_operations.py:" in named["erf_inv"].where, "JAX had traced it before: its caller is named"
    assert "length" in named["scan"].parameters
    assert "jaxpr" not in named["scan"].parameters, "programs are compared by what they give"


def test_a_constant_array_is_known_by_its_bits() -> None:
    digests = []
    for table in (TABLE, TABLE.copy(), TABLE + 1):
        closed = jax.make_jaxpr(lambda x, table=table: x * jnp.asarray(table))(X)
        chunks, _ = drained(Program(closed, native).evaluate([X], WITNESS))
        (digest,) = [text for chunk in chunks for each in chunk.evaluated for text in each.operands if "array" in text]
        digests.append(digest)
    assert digests[0] == digests[1] != digests[2]


def test_values_that_nobody_reads_any_more_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "CHUNK_OPERATIONS", 1)

    def chain(x: Array) -> Array:
        for _ in range(20):
            x = x * 2
        return x

    chunks, _ = drained(Program(jax.make_jaxpr(chain)(X), native).evaluate([X], WITNESS))
    assert max(len(chunk.values) for chunk in chunks) <= 2
