"""Laws of `portable`: a transform like any other of JAX's, that leaves no trace outside, and whose bits follow from
the program alone.

`python tests/test_portable_transform.py` prints, as JSON, the hashes of `sharded_programs` on all devices of this
process.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from portable_elsewhere import print_from_all_devices, said_on_four_devices
from portable_rules import numbers, run, same_bits

from crh_train.errors import NotPortable
from crh_train.portable import portable

X, W = numbers(0, (8, 5), -4, 4), numbers(1, (5, 5), -4, 1)


def loss(w: Array, x: Array) -> Array:
    """Everything that a machine may bend: a product, a sum, a quotient by a constant, `a · b + c`, an exponential."""
    return jnp.sum(jnp.exp(x @ w * 0.1) / 3 + x * x - 0.7)


def step(x: Array) -> Array:
    return x * 0.7 + jnp.exp(-x) / 3 - 0.1 * x * x


# Composition


def test_eager_and_compiled_and_inner_jit_have_the_same_bits() -> None:
    def small(x: Array) -> Array:
        return x * 0.7 + x / 3

    assert same_bits(portable(small)(X), run(small, X))
    expected = run(loss, W, X)
    assert same_bits(run(jax.jit(loss), W, X), expected)
    assert abs(float(expected) - float(jax.jit(loss)(W, X))) < 1e-5 * abs(float(expected))


def test_vmap_outside_and_inside_is_each_call_alone() -> None:
    batch = numbers(2, (3, 8, 5), -4, 4)
    mapped = partial(jax.vmap, in_axes=(None, 0))
    alone = np.stack([run(loss, W, x) for x in batch])
    assert same_bits(jax.jit(mapped(portable(loss)))(W, batch), alone)
    assert same_bits(run(mapped(loss), W, batch), alone)


def test_after_grad() -> None:
    value, gradient = run(jax.value_and_grad(loss), W, X)
    assert same_bits(value, run(loss, W, X))
    stock = jax.jit(jax.grad(loss))(W, X)
    assert np.max(np.abs(gradient - stock)) < 1e-5 * np.max(np.abs(stock))


def test_a_derivative_of_what_is_portable_is_refused_and_not_zero() -> None:
    for derivative in (jax.grad(portable(loss)), jax.grad(jax.jit(portable(loss))), jax.jacfwd(portable(loss))):
        with pytest.raises(NotPortable, match=r"take it first, as in portable\(jax.grad\(loss\)\)"):
            derivative(W, X)
    with pytest.raises(NotPortable, match="take it first"):
        jax.grad(lambda w: portable(lambda x: loss(w, x))(X))(W)
    # What is not differentiated may be portable.
    assert jax.grad(lambda w, x: jnp.sum(w) * portable(jnp.sum)(x))(W, X).shape == W.shape


def test_arguments_are_trees_and_keywords() -> None:
    def function(tree: Mapping[str, Any], *, scale: Array, nothing: None) -> Any:
        return {"scaled": [tree["x"] * scale, tree["n"] + 1], "nothing": nothing, "constant": 2.0}

    arguments = {"scale": jnp.float32(2), "nothing": None}
    found = jax.jit(portable(function))({"x": X, "n": np.arange(3)}, **arguments)
    assert jax.tree.structure(found) == jax.tree.structure(function({"x": X, "n": 1}, **arguments))
    assert same_bits(found["scaled"][0], X * np.float32(2))
    assert found["scaled"][1].tolist() == [1, 2, 3]
    assert found["constant"] == 2


def test_name_and_docstring_are_the_function_s() -> None:
    assert (portable(loss).__name__, portable(loss).__doc__) == ("loss", loss.__doc__)


def test_keys_and_random_numbers() -> None:
    def draw(key: Array) -> tuple[Array, ...]:
        first, second = jax.random.split(key)
        drawn, _ = lax.scan(lambda total, k: (total + jax.random.normal(k), None), 0.0, jax.random.split(first, 3))
        return drawn, jax.random.key_data(second), jax.random.bits(second, (4,))

    found, stock = run(draw, jax.random.key(3)), jax.jit(draw)(jax.random.key(3))
    assert abs(found[0] - stock[0]) < 1e-5
    assert same_bits(found[1], stock[1])
    assert same_bits(found[2], stock[2])
    assert portable(lambda key: key)(jax.random.key(3)).dtype == jax.random.key(3).dtype


# What is outside


def test_64_bits_are_off_outside_before_and_after() -> None:
    seen = []

    def function(x: Array) -> Any:
        seen.append((jnp.arange(3).dtype, jnp.asarray(1.5).dtype))
        return x.sum(), jnp.argmax(x), jnp.arange(3), x.astype(int), x > 0, jnp.linspace(0, 1, 3)

    for transformed in (jax.jit(portable(function)), jax.jit(jax.vmap(portable(function)))):
        assert not jax.config.jax_enable_x64
        found = transformed(X)
        assert not jax.config.jax_enable_x64
        assert [str(x.dtype) for x in found] == ["float32", "int32", "int32", "int32", "bool", "float32"]
        assert jnp.arange(3).dtype == jnp.int32
    assert portable(lambda x: x * 2)(X).dtype == jnp.float32
    assert not jax.config.jax_enable_x64
    assert set(seen) == {(jnp.dtype("int32"), jnp.dtype("float32"))}


@pytest.mark.parametrize("function", [lambda x: jnp.linalg.cholesky(x), lambda x: x.undefined])
def test_64_bits_are_off_after_an_exception(function: Callable[[Array], Array]) -> None:
    with pytest.raises((NotPortable, AttributeError)):
        jax.jit(portable(function))(W)
    assert not jax.config.jax_enable_x64
    assert jnp.arange(3).dtype == jnp.int32


def test_64_bits_stay_on_where_they_are_on() -> None:
    with jax.enable_x64(True):
        found = portable(lambda x, n: (loss(W, x), n * 2**40, n.astype(jnp.float32)))(X, jnp.int64(3))
        assert jax.config.jax_enable_x64
        assert (found[0].dtype, found[1].dtype, int(found[1])) == (jnp.float32, jnp.int64, 3 * 2**40)
    assert same_bits(found[0], run(loss, W, X))


# Recursion


@jax.custom_jvp
def with_jvp(x: Array) -> Array:
    return step(x)


with_jvp.defjvp(lambda primals, tangents: (step(*primals), tangents[0] * 0.3 + primals[0]))


@jax.custom_vjp
def with_vjp(x: Array) -> Array:
    return step(x)


with_vjp.defvjp(lambda x: (step(x), x), lambda x, g: (g * 0.3 + x,))


def branch(index: int, x: Array) -> Array:
    return lax.switch(index, [step, jnp.negative, lambda x: step(step(x))], x)


WRITTEN_OUT: dict[str, tuple[Callable[[Array], Any], Callable[[Array], Any]]] = {
    # name: (the program, the same without control flow)
    "jit": (jax.jit(step), step),
    "scan": (
        lambda x: lax.scan(lambda c, row: (step(c) + row, c * row), x[0], x),
        lambda x: (lambda cs: (cs[-1], jnp.stack([c * row for c, row in zip(cs, x, strict=False)])))(
            [c := x[0], *[c := step(c) + row for row in x]]
        ),
    ),
    "scan backwards, unrolled, with a constant": (
        lambda x: lax.scan(lambda c, row: (step(c) * x[1] + row, None), x[0], x[:4], reverse=True, unroll=2)[0],
        lambda x: (lambda cs: cs[-1])([c := x[0], *[c := step(c) * x[1] + x[i] for i in (3, 2, 1, 0)]]),
    ),
    "scan without rows": (lambda x: lax.scan(lambda c, _: (step(c), None), x, length=2)[0], lambda x: step(step(x))),
    "while": (
        lambda x: lax.while_loop(lambda c: c[0] < 3 + 0 * x[0, 0], lambda c: (c[0] + 1, step(c[1])), (0.0, x))[1],
        lambda x: step(step(step(x))),
    ),
    "fori": (lambda x: lax.fori_loop(0, 3, lambda i, c: step(c) + i, x), lambda x: step(step(step(x)) + 1) + 2),
    "cond": (
        lambda x: (lax.cond(x[0, 0] == x[0, 0], step, jnp.negative, x), lax.cond(x[0, 0] > 9, step, jnp.negative, x)),
        lambda x: (step(x), -x),
    ),
    "switch": (
        lambda x: [branch(i + lax.convert_element_type(x[0, 0] * 0, jnp.int32), x) for i in (-1, 0, 1, 2, 7)],
        lambda x: [step(x), step(x), -x, step(step(x)), step(step(x))],
    ),
    "switch under vmap": (
        lambda x: jax.vmap(branch)(jnp.array([0, 1, 2]), x[:3]),
        lambda x: jnp.stack([step(x[0]), -x[1], step(step(x[2]))]),
    ),
    "custom jvp": (with_jvp, step),
    "its derivative": (jax.grad(lambda x: jnp.sum(with_jvp(x))), lambda x: jnp.ones_like(x) * 0.3),
    "custom vjp": (with_vjp, step),
    "its gradient": (jax.grad(lambda x: jnp.sum(with_vjp(x))), lambda x: jnp.ones_like(x) * 0.3 + x),
    "checkpoint": (jax.checkpoint(step), step),
    "gradient of checkpoint": (
        jax.grad(lambda x: jnp.sum(jax.checkpoint(step)(x))),
        jax.grad(lambda x: jnp.sum(step(x))),
    ),
    "gradient of scan": (
        jax.grad(lambda x: jnp.sum(lax.scan(lambda c, _: (step(c), None), x, length=2)[0])),
        jax.grad(lambda x: jnp.sum(step(step(x)))),
    ),
    "jit in scan in cond": (
        lambda x: lax.cond(x[0, 0] == x[0, 0], lambda x: lax.map(jax.jit(step), x), lambda x: x, x),
        step,
    ),
}


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_a_part_of_a_program_is_as_if_written_out(name: str) -> None:
    program, written_out = WRITTEN_OUT[name]
    found, expected = run(lambda x: (program(x), written_out(x)), X)
    leaves = list(zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))
    assert leaves
    assert all(same_bits(*pair) for pair in leaves)


def test_while_under_vmap_goes_on_for_each_until_it_is_done() -> None:
    def grow(x: Array) -> tuple[Array, Array, Array]:
        return lax.while_loop(lambda c: c[0] < 10, lambda c: (c[0] * 1.7 + 0.3, c[1] + 1, step(c[2])), (x, 0, x[None]))

    start = np.array([0.1, 20, 9.99, 3, 0.5], np.float32)
    alone = [run(grow, x) for x in start]
    assert len({int(count) for _, count, _ in alone}) > 3
    for found in (run(jax.vmap(grow), start), jax.jit(jax.vmap(portable(grow)))(start)):
        assert all(same_bits(part, np.stack(each)) for part, each in zip(found, zip(*alone, strict=True), strict=True))


def test_a_portable_function_may_have_been_traced_under_scan() -> None:
    found, _ = jax.jit(lambda x: lax.scan(lambda c, _: (portable(step)(c), None), x, length=2))(X)
    assert same_bits(found, run(lambda x: step(step(x)), X))


# Devices


def sharded_programs() -> dict[str, str]:
    """The hash of what each program gives when its rows are spread over all devices."""
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    rows = NamedSharding(mesh, PartitionSpec("rows"))
    x, w = numbers(3, (16, 5), -4, 4), numbers(4, (5, 5), -4, 1)

    @partial(
        jax.shard_map, mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec("rows")), out_specs=PartitionSpec("rows")
    )
    def by_device(w: Array, x: Array) -> Array:
        scale = lax.pmax(jnp.max(x), "rows") + lax.pmin(x.min(), "rows")
        count = lax.psum(jnp.sum(x > 0), "rows")
        return lax.scan(lambda c, _: (jnp.tanh(c @ w) * scale + count / 3, None), x, length=2)[0]

    def over_devices(x: Array) -> Array:
        total = partial(jax.shard_map, mesh=mesh, in_specs=PartitionSpec("rows"), out_specs=PartitionSpec())
        return total(lambda x: lax.psum(x, "rows"))(x)

    devices = len(jax.devices())
    orders = [np.roll(x[:devices], shift, 0) for shift in range(devices)]
    sums = {run(over_devices, jax.device_put(order, rows)).tobytes() for order in orders}
    assert len(sums) == 1, "the order of the devices changes a sum"
    found = {
        "shard_map": run(by_device, w, jax.device_put(x, rows)),
        "automatic": run(lambda w, x: (loss(w, x), jax.grad(loss)(w, x), step(x)), w, jax.device_put(x, rows)),
        "of another layout": run(lambda x: (x.T @ x, jnp.sum(x, 0)), jax.device_put(x, rows)),
    }
    return {
        name: hashlib.sha256(b"".join(leaf.tobytes() for leaf in jax.tree.leaves(made))).hexdigest()
        for name, made in found.items()
    }


def test_four_devices_have_the_bits_of_one() -> None:
    hashes = said_on_four_devices(__file__)
    assert hashes == sharded_programs()


def test_an_exported_program_has_the_same_bits() -> None:
    def program(w: Array, x: Array, key: Array) -> Any:
        noise = jax.random.normal(jax.random.wrap_key_data(key), x.shape)
        carried = lax.scan(lambda c, row: (jnp.tanh(c @ w) + row, None), x[0], x + noise)[0]
        return jax.value_and_grad(loss)(w, x), carried, jnp.sort(x, 0), jnp.argmax(x, 1)

    arguments = (W, X, np.array([1, 2], np.uint32))
    exported = jax.export.export(jax.jit(portable(program)), platforms=("cpu", "cuda"))(*arguments)
    again = jax.export.deserialize(exported.serialize())
    assert again.platforms == ("cpu", "cuda")
    found, expected = jax.tree.leaves(again.call(*arguments)), jax.tree.leaves(run(program, *arguments))
    assert all(same_bits(*pair) for pair in zip(found, expected, strict=True))


if __name__ == "__main__":
    print_from_all_devices(sharded_programs())
