"""What a fence is made from, kept from a compiler that might know it.

XLA evaluates what is made of constants alone, also what only looks computed: the key that a jitted function makes from
a seed of its own. On a CPU it takes barriers out when it has evaluated all that it will (tried with jaxlib 0.10 and
0.12; not yet on a GPU). A parameter of the compiled program needs no barrier, and gets none: so what is compiled by
itself, as a run's functions are, has the text and the hash that it had without this. Which of the two it is shows when
the program is lowered, not when it is traced. What is known to whoever calls a program that was exported before shows
nowhere: there the parameters must be parameters again.
"""

from typing import Any

from jax import Array, lax
from jax.extend import core
from jax.interpreters import batching, mlir
from jaxlib.mlir import ir

_MOVES = {
    f"stablehlo.{name}"
    for name in ("bitcast_convert", "broadcast_in_dim", "concatenate", "convert", "real", "reshape", "slice")
}
_BARRIER = mlir.lower_fun(lax.optimization_barrier, multiple_results=False)

witness_p = core.Primitive("portable_witness")


def unknown(x: Array) -> Array:
    """The same bits, which no compiler knows."""
    kept: Array = witness_p.bind(x)
    return kept


def _lower(context: mlir.LoweringRuleContext, x: "ir.Value[Any]") -> Any:
    return [x] if _is_parameter(x) else _BARRIER(context, x)


def _is_parameter(value: "ir.Value[Any]") -> bool:
    """Whether a part of it is only moved from a parameter of the whole program; one of an inner function may be known
    to whoever calls that.
    """
    if isinstance(value.owner, ir.Block):
        function, visibility = value.owner.owner.operation, "sym_visibility"
        public = visibility in function.attributes and function.attributes[visibility] == ir.StringAttr.get("public")
        return public and function.name == "func.func"
    made_by = value.owner.operation
    return made_by.name in _MOVES and any(_is_parameter(operand) for operand in made_by.operands)


witness_p.def_impl(lambda x: x)
witness_p.def_abstract_eval(lambda x: x)
batching.defvectorized(witness_p)
mlir.register_lowering(witness_p, _lower, cacheable=False)  # a cached rule sees the parameters of a function of its own
