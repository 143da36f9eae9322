"""What has no meaning that every machine shares is refused, by name and by line."""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from portable_rules import numbers

from crh_train.errors import NotPortable
from crh_train.portable import portable

X, W = numbers(0, (8, 5), -4, 4), numbers(1, (5, 5), -4, 1)


def hidden_in_jit(x: Array) -> Array:
    return jnp.linalg.cholesky(x)


def hidden_in_jit_again(x: Array) -> Array:
    return jnp.linalg.cholesky(x)


def in_scan(x: Array) -> Array:
    def body(carry: Array, _: None) -> tuple[Array, None]:
        return lax.igamma(carry, carry), None

    return lax.scan(body, x, length=2)[0]


def in_branch(x: Array) -> Array:
    return lax.cond(x[0, 0] > 0, lambda x: lax.zeta(x, x), lambda x: x, x)


def in_gradient(x: Array) -> Array:
    return jax.grad(lambda x: jnp.sum(lax.igamma(x, x)))(x)


def in_vmap(x: Array) -> Array:
    return jax.vmap(lambda row: lax.approx_max_k(row, 2)[0])(x)


def generator(x: Array) -> Array:
    return lax.rng_bit_generator(jnp.zeros(4, jnp.uint32), (3,))[1]


def callback(x: Array) -> Array:
    return jax.pure_callback(lambda x: x, x, x)


def other_keys(x: Array) -> Array:
    return jax.random.normal(jax.random.key(0, impl="rbg"))


def eight_bits(x: Array) -> Array:
    return x.astype(jnp.float8_e4m3fn)


REFUSED = {
    # function: (the primitive, the line within the function)
    hidden_in_jit: ("cholesky", 1),
    hidden_in_jit_again: ("cholesky", 1),
    in_scan: ("igamma", 2),
    in_branch: ("zeta", 1),
    in_gradient: ("igamma", 1),
    in_vmap: ("approx_top_k", 1),
    generator: ("rng_bit_generator", 1),
    callback: ("pure_callback", 1),
    other_keys: ("random_seed", 1),
    eight_bits: ("convert_element_type", 1),
}


@pytest.mark.parametrize("function", REFUSED)
def test_what_has_no_rule_is_refused_by_name_and_line(function: Callable[[Array], Array]) -> None:
    primitive, below = REFUSED[function]
    line = function.__code__.co_firstlineno + below
    with pytest.raises(
        NotPortable, match=rf"^{primitive} is not portable here: .*, at .*{os.path.basename(__file__)}:{line} "
    ):
        portable(function)(W)


def test_float64_is_refused() -> None:
    with jax.enable_x64(True):
        wide = jnp.ones(3, jnp.float64)
        for function in (lambda x: x * 2, lambda x: x[::-1], lambda x: lax.scan(lambda c, _: (c, None), x, length=2)):
            with pytest.raises(NotPortable, match=r"not float64's; cast to float32, at .*test_portable_refusals"):
                portable(function)(wide)
        with pytest.raises(NotPortable, match="complex128"):
            portable(lambda x: x + 1)(wide + 1j)
        with pytest.raises(NotPortable, match="float64"):
            portable(lambda x: x.astype(jnp.float64).astype(jnp.float32))(X)


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
@pytest.mark.parametrize("use", [jax.random.split, lambda key: jax.random.fold_in(key, 1), jax.random.bits])
def test_keys_of_the_backend_s_generator_are_refused(implementation: str, use: Callable[[Array], Array]) -> None:
    with pytest.raises(NotPortable, match=r"random keys of .*; use jax.random.key\(seed, impl='threefry2x32'\)"):
        portable(lambda key: use(key))(jax.random.key(0, impl=implementation))


@pytest.mark.parametrize("arguments", [(), ({},), (np.zeros((0, 3), np.float32),)])
def test_a_function_of_nothing_is_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(NotPortable, match="without an argument that has an element"):
        portable(lambda *_: jnp.ones(3) * 2)(*arguments)


def test_a_sum_of_too_many_terms_is_refused_by_name_and_line() -> None:
    many = jax.ShapeDtypeStruct((2**30 + 1,), jnp.float32)
    line = rf"a sum has at most {2**30} terms, not {2**30 + 1}: add parts of it first, at .*test_portable_refusals"
    for function, primitive in ((lambda x: jnp.sum(x), "reduce_sum"), (lambda x: lax.cumsum(x), "cumsum")):
        with pytest.raises(NotPortable, match=f"^{primitive} is not portable here: {line}"):
            jax.eval_shape(portable(function), many)


@pytest.mark.parametrize("compiled", [False, True])
def test_an_explicit_sharding_is_refused(compiled: bool) -> None:
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Explicit,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    advice = r"sharded over \['rows'\] of AxisType.Explicit; make the mesh with axis_types=\(jax.sharding.AxisType.Auto"
    transformed = portable(lambda x: jnp.exp(x))
    with pytest.raises(NotPortable, match=f"^an argument is not portable: .*{advice}"):
        (jax.jit(transformed) if compiled else transformed)(jax.device_put(X, rows))
    with jax.set_mesh(mesh):
        resharded = portable(lambda x: jnp.exp(jax.sharding.reshard(x, rows)))
        with pytest.raises(NotPortable, match=f"^exp is not portable here: .*{advice}.*, at .*test_portable_refusals"):
            (jax.jit(resharded) if compiled else resharded)(X)
        whole = jax.shard_map(jnp.exp, in_specs=rows.spec, out_specs=rows.spec)
        assert jax.jit(portable(lambda x: whole(jax.sharding.reshard(x, rows))))(X).shape == X.shape


@pytest.mark.parametrize("digits", [1, 5, 0])
def test_other_digits_are_refused(digits: int) -> None:
    with pytest.raises(NotPortable, match=rf"digits={digits} is not one of \(2, 3, 4\)"):
        portable(jnp.sum, digits=digits)
