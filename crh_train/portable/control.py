"""Control flow and calls: the rules that walk into a program's parts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend import core

from crh_train.portable.scope import Scope


def remat(
    scope: Scope, *operands: Array, jaxpr: core.Jaxpr, prevent_cse: Any, differentiated: bool, **_: Any
) -> list[Array]:
    """`jax.checkpoint`: a barrier keeps XLA from merging the second computation with the first. `policy` was used by
    the differentiation.
    """
    if differentiated and prevent_cse:
        operands = lax.optimization_barrier(operands)
    return _evaluate(scope, jaxpr, operands)


def scan(
    scope: Scope,
    *operands: Array,
    jaxpr: core.ClosedJaxpr,
    length: int,
    reverse: bool,
    unroll: int | bool,
    **params: Any,
) -> list[Array]:
    """`lax.scan`, in order. `linear` and `_split_transpose` (of the rest) concern differentiation."""
    num_consts, num_carry = scan_counts(params)
    constants, start, rows = (
        operands[:num_consts],
        operands[num_consts : num_consts + num_carry],
        operands[num_consts + num_carry :],
    )

    def body(carry: Sequence[Array], row: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        outputs = _evaluate(scope, jaxpr, (*constants, *carry, *row))
        return outputs[:num_carry], outputs[num_carry:]

    last, stacked = lax.scan(body, list(start), list(rows), length=length, reverse=reverse, unroll=unroll)
    return [*last, *stacked]


def scan_counts(params: Mapping[str, Any]) -> tuple[int, int]:
    """How many of the operands of a `lax.scan` are constants, and how many after them are carried on."""
    if "ft_in" in params:  # jax 0.12 on
        constants, carried, _ = map(len, params["ft_in"].unpack())
        return constants, carried
    return params["num_consts"], params["num_carry"]


def while_loop(
    scope: Scope,
    *operands: Array,
    cond_jaxpr: core.ClosedJaxpr,
    body_jaxpr: core.ClosedJaxpr,
    cond_nconsts: int,
    body_nconsts: int,
) -> list[Array]:
    """`lax.while_loop`. Under `vmap` the condition has a batch: it goes on while any is true, and who is done stays."""
    cond_constants = operands[:cond_nconsts]
    body_constants = operands[cond_nconsts : cond_nconsts + body_nconsts]
    start = list(operands[cond_nconsts + body_nconsts :])
    batch = range(cond_jaxpr.out_avals[0].ndim)

    def going(carry: Iterable[Array]) -> Array:
        return _evaluate(scope, cond_jaxpr, (*cond_constants, *carry))[0]

    def body(carry: Iterable[Array]) -> list[Array]:
        moved = _evaluate(scope, body_jaxpr, (*body_constants, *carry))
        if not batch:
            return moved
        on = going(carry)
        return [
            lax.select(lax.broadcast_in_dim(on, new.shape, batch), new, old)
            for new, old in zip(moved, carry, strict=True)
        ]

    return list(lax.while_loop(lambda carry: lax.reduce_or(going(carry), tuple(batch)), body, start))


def cond(scope: Scope, index: Array, *operands: Array, branches: Sequence[core.ClosedJaxpr], **_: Any) -> list[Array]:
    """`lax.cond` and `lax.switch`."""
    functions = [lambda *given, branch=branch: _evaluate(scope, branch, given) for branch in branches]
    return list(lax.switch(index, functions, *operands))


def platform_index(scope: Scope, *, platforms: Sequence[Sequence[str] | None]) -> Array:
    """`lax.platform_dependent`: the default, wherever it runs."""
    if None not in platforms:
        raise NotImplementedError(f"it has branches for {list(platforms)} and no default; give it one")
    return lax.full((), platforms.index(None), jnp.int32)


def shard_map(
    scope: Scope,
    *operands: Array,
    jaxpr: core.Jaxpr,
    mesh: Any,
    in_specs: Any,
    out_specs: Any,
    newly_manual_axes: frozenset[str],
    **_: Any,
) -> list[Array]:
    """`jax.shard_map`: each device's part on its own. Checks of what varies were made when it was traced."""
    mapped = jax.shard_map(
        lambda zero, *given: _evaluate(scope._replace(fence=scope.fence._replace(zero=zero)), jaxpr, given),
        mesh=mesh,
        in_specs=(jax.sharding.PartitionSpec(), *in_specs),
        out_specs=list(out_specs),
        axis_names=set(newly_manual_axes),
        check_vma=False,
    )
    return list(mapped(scope.fence.zero, *operands))  # type: ignore[no-untyped-call]


def _evaluate(scope: Scope, jaxpr: Any, operands: Sequence[Array]) -> list[Array]:
    if isinstance(jaxpr, core.ClosedJaxpr):
        return scope.evaluate(scope, jaxpr.jaxpr, jaxpr.consts, operands)
    return scope.evaluate(scope, jaxpr, (), operands)
