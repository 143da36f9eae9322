"""What a rule is, and how a function of a module beside this one becomes one: given the fence and its operands, or the
scope and all of an equation's parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend import core

from crh_train.portable import complex_numbers, storage
from crh_train.portable.scope import Scope


class Kind(Enum):
    """What makes a primitive's result the same everywhere, as the package's docstring lists it."""

    MOVED = "moved data"  # bits go elsewhere unchanged, denormals and NaNs too
    IMAGE = "bits seen"  # a float's bits become visible, or are made
    INTEGER = "integer"  # integers, bools and random bits: exact as XLA has them
    EXACT = "exact"  # of floats: nothing is rounded, or rounded once from an exact value
    ORDER_FREE = "order-free"  # many numbers combined so that their order cannot matter
    FENCED = "fenced"  # a fixed sequence of IEEE operations, kept apart
    CALL = "call"  # a named part of the program, read as if written out
    CONTROL = "control flow"
    REFUSED = "refused"


class Rule(NamedTuple):
    """How a primitive is rewritten: (scope, its equation, its operands) -> its results."""

    kind: Kind
    apply: Callable[[Scope, core.JaxprEqn, Sequence[Array]], Any]
    reason: str = ""
    moved: Callable[[core.JaxprEqn], range] = lambda equation: range(0)  # operands that it moves, each to one result


def as_it_is(scope: Scope, equation: core.JaxprEqn, operands: Sequence[Array]) -> list[Array]:
    outputs = equation.primitive.bind(*operands, **equation.params)
    return list(outputs) if equation.primitive.multiple_results else [outputs]


def of_elements(kind: Kind, function: Callable[..., Array], *used: str) -> Rule:
    """A rule for floats, given the parameters `used`; complex ones have their own, integers are as XLA has them."""

    def apply(scope: Scope, equation: core.JaxprEqn, operands: Sequence[Array]) -> list[Array]:
        if not any(jnp.issubdtype(x.dtype, jnp.inexact) for x in operands):
            return as_it_is(scope, equation, operands)
        params = {name: equation.params[name] for name in used}
        aval: Any = equation.outvars[0].aval
        shape = aval.shape
        full = [x if x.shape == shape else lax.broadcast_in_dim(x, shape, range(shape and x.ndim)) for x in operands]
        if any(x.dtype == jnp.complex64 for x in operands):
            name = equation.primitive.name
            if name not in complex_numbers.COMPLEX:
                raise NotImplementedError("it has no rule for complex64")
            return [complex_numbers.COMPLEX[name](scope.fence, *full, **params)]
        # Only pow mixes them: a count as an exponent.
        floats = [x if x.dtype == jnp.float32 else storage.from_integer(x) for x in full]
        return [function(scope.fence, *floats, **params)]

    return Rule(kind, apply)


def of_arrays(kind: Kind, function: Callable[..., Array | Sequence[Array]]) -> Rule:
    """A rule that is given the scope, the operands and all of the equation's parameters, and sees to every type."""

    def apply(scope: Scope, equation: core.JaxprEqn, operands: Sequence[Array]) -> list[Array]:
        name, chosen = equation.primitive.name, function
        if name in complex_numbers.STRUCTURED and any(x.dtype == jnp.complex64 for x in operands):
            chosen = complex_numbers.STRUCTURED[name]
        outputs = chosen(scope, *operands, **equation.params)
        return [outputs] if isinstance(outputs, Array) else list(outputs)

    return Rule(kind, apply)


def called(name: str) -> Rule:
    def apply(scope: Scope, equation: core.JaxprEqn, operands: Sequence[Array]) -> tuple[core.Jaxpr, Sequence[Any]]:
        inner = equation.params[name]
        return (inner.jaxpr, inner.consts) if isinstance(inner, core.ClosedJaxpr) else (inner, ())

    return Rule(Kind.CALL, apply)


def written_out(program: Callable[[core.JaxprEqn], Callable[..., Any]]) -> Rule:
    """A rule for a primitive that stands for a program in JAX: what that is for its equation, flat."""

    def apply(scope: Scope, equation: core.JaxprEqn, operands: Sequence[Array]) -> tuple[core.Jaxpr, Sequence[Any]]:
        avals: list[Any] = [variable.aval for variable in equation.invars]
        with jax.enable_x64(False):  # as where the primitive was bound
            inner = jax.make_jaxpr(program(equation))(*(jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals))
        return inner.jaxpr, inner.consts

    return Rule(Kind.CALL, apply)


def of_contraction(function: Callable[..., Array]) -> Rule:
    """A rule for contractions: exact of integers as they are; beside a float, or for one, an integer is the float
    nearest to it. A real result of complex operands is the real part.
    """
    structured = of_arrays(Kind.ORDER_FREE, function)

    def apply(scope: Scope, equation: core.JaxprEqn, operands: Sequence[Array]) -> list[Array]:
        aval: Any = equation.outvars[0].aval
        if not any(jnp.issubdtype(x.dtype, jnp.inexact) for x in (*operands, aval)):
            return as_it_is(scope, equation, operands)
        if not jnp.issubdtype(aval.dtype, jnp.inexact):
            raise NotImplementedError(f"floats to {aval.dtype}; leave out preferred_element_type, then convert")
        common = _computed_in(*(x.dtype for x in operands))
        (result,) = structured.apply(scope, equation, [storage.convert(x, common) for x in operands])
        return [storage.convert(result, _computed_in(aval.dtype))]

    return Rule(Kind.ORDER_FREE, apply)


def of_each(kind: Kind, functions: Mapping[str, Callable[..., Array]]) -> dict[str, Rule]:
    return {name: of_elements(kind, function) for name, function in functions.items()}


def _computed_in(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """What arithmetic of these types has. NumPy's types equal those of JAX, but do not hash like them."""
    is_complex = any(dtype == jnp.complex64 for dtype in dtypes)
    return np.dtype(np.complex64 if is_complex else np.float32)
