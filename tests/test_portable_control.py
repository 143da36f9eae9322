"""Laws of the rules that walk into a program's parts, and of those for what stands for a program or for nothing yet."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from portable_rules import numbers, same_bits

from crh_train.errors import NotPortable
from crh_train.portable import portable

X = numbers(0, (6, 4), -4, 2)


def run(function: Any, *operands: Any) -> Any:
    return jax.tree.map(np.asarray, jax.jit(portable(function))(*operands))


def step(carry: Array, row: Array) -> tuple[Array, Array]:
    after = jnp.tanh(carry * 0.7 + row)
    return after, after * row


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"unroll": 4}])
def test_scan_is_its_steps_one_by_one(options: dict[str, Any]) -> None:
    start = X[0] * np.float32(0.5)
    last, rows = run(lambda start, x: lax.scan(step, start, x, **options), start, X)
    carry, expected = start, []
    for row in X[::-1] if "reverse" in options else X:
        carry, made = run(step, carry, row)
        expected.append(made)
    assert same_bits(last, carry)
    assert same_bits(rows, np.stack(expected[::-1] if "reverse" in options else expected))


def test_scan_with_constants_and_no_rows() -> None:
    scale = X[1]
    last, rows = run(lambda start: lax.scan(lambda carry, _: (carry * scale + 1, None), start, None, length=3), X[0])
    assert rows is None
    expected = X[0]
    for _ in range(3):
        expected = run(lambda carry: carry * scale + 1, expected)
    assert same_bits(last, expected)


def test_the_gradient_of_a_scan() -> None:
    def loss(start: Array, x: Array) -> Array:
        last, rows = lax.scan(step, start, x)
        return jnp.sum(last) + jnp.sum(rows)

    found, stock = run(jax.grad(loss), X[0], X), jax.jit(jax.grad(loss))(X[0], X)
    assert np.max(np.abs(found - stock)) < 1e-5 * np.max(np.abs(stock))


def test_a_choice_by_platform_is_the_default() -> None:
    def chosen(x: Array) -> Array:
        return lax.platform_dependent(x, default=lambda x: x * 2, cpu=lambda x: x * 3, cuda=lambda x: x * 5)

    assert same_bits(run(chosen, X), X * np.float32(2))
    with pytest.raises(NotPortable, match=r"platform_index is not portable here: it has branches for .*no default"):
        run(lambda x: lax.platform_dependent(x, cpu=lambda x: x * 3, cuda=lambda x: x * 5), X)


def test_what_is_empty_is_zero() -> None:
    assert same_bits(run(lambda x: lax.empty((2, 3), jnp.float32) + 0 * x[0, 0], X), np.zeros((2, 3), np.float32))


def test_a_collective_over_an_axis_of_vmap_is_a_reduction() -> None:
    def collected(row: Array) -> Any:
        return (
            lax.psum(row, "rows"),
            lax.pmean(row, "rows"),
            lax.pmax(row, "rows"),
            lax.pmin(row, "rows"),
            lax.psum(lax.bitcast_convert_type(row, jnp.int32), "rows"),
        )

    found = run(jax.vmap(collected, axis_name="rows", out_axes=None), X)
    total = run(lambda x: jnp.sum(x, 0), X)
    integers = X.view(np.int32).sum(0, dtype=np.int32)
    expected = total, run(lambda x: x / 6, total), X.max(0), X.min(0), integers
    assert all(same_bits(one, other) for one, other in zip(found, expected, strict=True))


def test_a_product_of_floats_and_integers_is_of_floats() -> None:
    counts = np.arange(24, dtype=np.int32).reshape(4, 6) - 7
    dimensions = (((1,), (0,)), ((), ()))
    for integers in (counts, counts > 0):
        found = run(lambda x, n: lax.dot_general(x, n, dimensions, preferred_element_type=jnp.float32), X, integers)
        assert same_bits(found, run(jnp.matmul, X, integers.astype(np.float32)))


def test_the_real_part_is_what_a_conversion_from_complex_keeps() -> None:
    found = run(jax.grad(lambda x: jnp.sum(jnp.real(lax.convert_element_type(x, jnp.complex64) * (2 + 3j)))), X)
    assert same_bits(found, np.full_like(X, 2))


def test_what_jax_has_as_programs_is_read() -> None:
    """jax 0.12 has a primitive for each of these, which stands for a program."""
    ordered = np.sort(X[0])
    assert np.array_equal(run(jnp.searchsorted, ordered, X[1]), np.searchsorted(ordered, X[1]))
    assert np.array_equal(
        run(lambda x: jnp.nonzero(x > 0, size=24, fill_value=9), X)[0][: (X > 0).sum()], np.nonzero(X > 0)[0]
    )
    assert same_bits(run(lambda x: jnp.ldexp(x, 3), X), X * np.float32(8))
    found = run(
        lambda x: lax.custom_root(lambda y: y - 2 * x, x, lambda f, y: y - f(y), lambda f, y: y / f(1.0)), X[0, 0]
    )
    assert same_bits(found, X[0, 0] * np.float32(2))
