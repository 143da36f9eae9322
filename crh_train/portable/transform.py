"""`portable(fun)`: the program of `fun`, each operation replaced by one whose bits do not depend on the machine."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend import core

from crh_train.errors import NotPortable
from crh_train.portable.fences import SMALLEST, canonical, flush, make_fence
from crh_train.portable.rules import Kind, Rule
from crh_train.portable.scope import Accuracy, Scope
from crh_train.portable.storage import FLOATS, HALVES, from_storage, to_storage
from crh_train.portable.table import RULES

P = ParamSpec("P")
R = TypeVar("R")
_DIGITS = (2, 3, 4)
_NOT_THE_USER = (Path(__file__).parent, Path(jax.__file__).parent)


def portable(fun: Callable[P, R], *, digits: int = 3) -> Callable[P, R]:
    """`fun` with defined bits: the same for every machine, instruction set, number of threads, devices and processes.

        step = jax.jit(portable(train_step))  # after grad and vmap, before jit

    Args:
      fun: a pure function of arrays (pytrees of float32, float16, bfloat16, complex64, integer and bool arrays, and
        random keys) to such arrays; at least one argument has an element.
      digits: of 8 bits, that a contraction keeps of each operand: 2, 3 or 4; see `contraction`.

    Returns:
      A function of the same arguments. Denormals count as zero in arithmetic and are never its result; a NaN that
      arithmetic makes is 0x7fc00000. What is only moved keeps its bits, and so does what a sort moves beside its keys.

    Inside a jitted function, `jax.jit(lambda: portable(init)(jax.random.key(0)))()`, nothing need be unknown when that
    is compiled. Only a program that was exported, with parameters then, and is called in a jitted function with what
    that knows is evaluated too far by XLA: pass such a program's arguments as arguments of the jitted function.

    Raises (when called or traced):
      NotPortable: an operation or a type has no portable meaning; it names the primitive and the line that used it.
    """
    if digits not in _DIGITS:
        raise NotPortable(f"digits={digits!r} is not one of {_DIGITS}")

    @functools.wraps(fun)
    def transformed(*args: P.args, **kwargs: P.kwargs) -> R:
        leaves, structure = jax.tree.flatten((args, kwargs))

        def flat(*given: Any) -> R:
            again_args, again_kwargs = jax.tree.unflatten(structure, given)
            return fun(*again_args, **again_kwargs)

        closed, returned = jax.make_jaxpr(flat, return_shape=True)(*leaves)
        for explicit in filter(None, map(_explicitly_sharded, closed.in_avals)):
            raise NotPortable(f"an argument is not portable: {explicit}")
        with jax.enable_x64(True):
            arrays = [_array(leaf, aval) for leaf, aval in zip(leaves, closed.in_avals, strict=True)]
            scope = Scope(make_fence(*_witnesses(arrays)), Accuracy(digits), evaluate)
            arrays, constants = ([_no_derivative(x) for x in values] for values in (arrays, closed.consts))
            try:
                outputs = evaluate(scope, closed.jaxpr, constants, arrays)
            except _Refusal as refusal:
                raise NotPortable(f"{refusal} (of unknown origin)") from refusal
        result: R = jax.tree.unflatten(jax.tree.structure(returned), outputs)
        return result

    return transformed


class _Refusal(Exception):
    """No portable meaning; the line of the user's code is not known yet, because a jitted function hides it."""


class _Value(NamedTuple):
    """An array, and what the bits of its floats may hold."""

    array: Array
    raw: bool  # denormals, as the caller gave them
    made: bool  # NaNs with whatever pattern a machine's arithmetic gives them


def evaluate(scope: Scope, jaxpr: core.Jaxpr, constants: Sequence[Any], arguments: Sequence[Array]) -> list[Array]:
    """The outputs of `jaxpr`, equation by equation. A NaN that arithmetic made leaves with the canonical pattern."""
    given = [_Value(array, raw=True, made=False) for array in arguments]
    return [_leaving(value) for value in _evaluate(scope, jaxpr, constants, given)]


def _evaluate(scope: Scope, jaxpr: core.Jaxpr, constants: Sequence[Any], arguments: Sequence[_Value]) -> list[_Value]:
    environment = dict(zip(jaxpr.invars, arguments, strict=True))
    for variable, constant in zip(jaxpr.constvars, constants, strict=True):
        environment[variable] = _constant(constant, variable.aval)

    def read(atom: Any) -> _Value:
        return _constant(atom.val, atom.aval) if isinstance(atom, core.Literal) else environment[atom]

    for equation in jaxpr.eqns:
        values = _equation(scope, equation, [read(atom) for atom in equation.invars])
        environment.update(zip(equation.outvars, values, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(scope: Scope, equation: core.JaxprEqn, operands: list[_Value]) -> list[_Value]:
    try:
        return _apply(scope, equation, _rule(equation), operands)
    except NotImplementedError as reason:
        refusal = _Refusal(f"{equation.primitive.name} is not portable here: {reason}")
    except _Refusal as inner:
        refusal = inner
    line = _user_line(equation)
    raise NotPortable(f"{refusal}, at {line}") if line else refusal


def _apply(scope: Scope, equation: core.JaxprEqn, rule: Rule, operands: list[_Value]) -> list[_Value]:
    if rule.kind is Kind.CALL:
        jaxpr, constants = rule.apply(scope, equation, ())
        return _evaluate(scope, jaxpr, constants, operands)
    for atom in (*equation.invars, *equation.outvars):
        dtype = getattr(atom.aval, "dtype", None)
        if dtype is not None and jnp.issubdtype(dtype, jnp.inexact) and dtype not in FLOATS:
            raise NotImplementedError(f"portable arithmetic is float32's, not {dtype}'s; cast to float32")
        explicit = _explicitly_sharded(atom.aval)
        if explicit and rule.kind not in (Kind.MOVED, Kind.CONTROL):
            raise NotImplementedError(explicit)
    avals: list[Any] = [variable.aval for variable in equation.outvars]
    moved = rule.moved(equation)
    if rule.kind is Kind.MOVED:
        floats = [value for value in operands if jnp.issubdtype(value.array.dtype, jnp.inexact)]
        raw, made = any(value.raw for value in floats), any(value.made for value in floats)
        arrays = rule.apply(scope, equation, [value.array for value in operands])
    elif rule.kind in (Kind.CONTROL, Kind.IMAGE):
        raw, made = True, False
        arrays = rule.apply(scope, equation, [_leaving(value) for value in operands])
    else:
        raw, made = False, True
        given = [value.array if at in moved else _entering(value) for at, value in enumerate(operands)]
        results = rule.apply(scope, equation, given)
        arrays = [to_storage(array, aval.dtype) for array, aval in zip(results, avals, strict=True)]
    for array, aval in zip(arrays, avals, strict=True):
        if (array.shape, array.dtype) != (aval.shape, aval.dtype):
            raise AssertionError(f"the rule of {equation.primitive.name} made {array.dtype}{array.shape}, not {aval}")
    values = [_Value(array, raw, made) for array in arrays]
    return [operands[at]._replace(array=value.array) if at in moved else value for at, value in enumerate(values)]


def _rule(equation: core.JaxprEqn) -> Rule:
    name = equation.primitive.name
    if name not in RULES:
        raise NotImplementedError("it has no rule; express it with others, or use determinism=native")
    rule = RULES[name]
    if rule.kind is Kind.REFUSED:
        raise NotImplementedError(f"{rule.reason}, or determinism=native")
    return rule


def _user_line(equation: core.JaxprEqn) -> str | None:
    """The innermost line of the user's own code that led to it."""
    traceback: Any = equation.source_info.traceback
    for frame in traceback.frames if traceback is not None else ():
        if not any(Path(frame.file_name).is_relative_to(folder) for folder in _NOT_THE_USER):
            return f"{frame.file_name}:{frame.line_num} ({frame.function_name})"
    return None


def _explicitly_sharded(aval: Any) -> str | None:
    """Why an array has no portable meaning that is spread over an axis on which JAX wants each operation's sharding
    said, as no rule does; None of another.
    """
    sharding = getattr(aval, "sharding", None)
    if sharding is None:
        return None
    spread = {axis for entry in sharding.spec for axis in (entry if isinstance(entry, tuple) else (entry,))}
    axes = [axis for axis in sharding.mesh.explicit_axes if axis in spread]
    return (
        f"{aval.str_short()} is sharded over {axes} of AxisType.Explicit; make the mesh with "
        "axis_types=(jax.sharding.AxisType.Auto,), one for each of its axes"
        if axes
        else None
    )


def _array(leaf: Any, aval: Any) -> Array:
    return leaf if jnp.issubdtype(aval.dtype, jax.dtypes.extended) else jnp.asarray(leaf, aval.dtype)


def _witnesses(arrays: Sequence[Array]) -> list[Array]:
    """What the fence is made from: every array that has an element, because the compiler may know all but one."""
    plain = [jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in arrays]
    filled = [x for x in plain if x.size and x.dtype != jax.dtypes.float0]
    if not filled:
        raise NotPortable("a function without an argument that has an element: pass one of its constants, or its key")
    return [x for x in filled if isinstance(x, jax.core.Tracer)] or filled


def _no_derivative(x: Any) -> Any:
    """Stops a derivative of what is portable already: it would be zero, because bits have none."""
    known = not isinstance(x, jax.core.Tracer) or not jnp.issubdtype(x.dtype, jnp.inexact)
    return x if known else _primal(x)


@jax.custom_jvp
def _primal(x: Array) -> Array:
    return x


@_primal.defjvp
def _refuse_derivative(primals: Any, tangents: Any) -> Any:
    raise NotPortable("a derivative of a portable function: take it first, as in portable(jax.grad(loss))")


def _constant(value: Any, aval: Any) -> _Value:
    """A literal or a closed-over array. What is known when tracing needs no flushing if it holds no denormal."""
    array = _array(value, aval)
    if isinstance(array, jax.core.Tracer) or not jnp.issubdtype(array.dtype, jnp.floating) or array.size > 1:
        return _Value(array, raw=True, made=False)
    number = np.abs(np.asarray(array).astype(np.float32))
    return _Value(array, raw=bool(np.any((number < SMALLEST) & (number > 0))), made=False)


def _entering(value: _Value) -> Array:
    """What arithmetic is given: float32 or complex64 without denormals, or integers as they are."""
    x = from_storage(value.array)
    if not value.raw:
        return x
    if x.dtype == jnp.float32:
        return flush(x)
    return lax.complex(flush(lax.real(x)), flush(lax.imag(x))) if x.dtype == jnp.complex64 else x


def _leaving(value: _Value) -> Array:
    """What others may see the bits of. Half types are made canonical when they are stored."""
    x = value.array
    if not value.made or x.dtype in HALVES:
        return x
    if x.dtype == jnp.float32:
        return canonical(x)
    return lax.complex(canonical(lax.real(x)), canonical(lax.imag(x))) if x.dtype == jnp.complex64 else x
