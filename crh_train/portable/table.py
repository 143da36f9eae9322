"""From a primitive's name to its rule. A primitive that is not here, or is refused here, stops the transform."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend import core

from crh_train.portable import (
    collectives,
    contraction,
    control,
    convolution,
    elementwise,
    exponential,
    fourier,
    gamma,
    ordering,
    scattering,
    special,
    storage,
    sums,
    trigonometric,
    windows,
)
from crh_train.portable.fences import flush
from crh_train.portable.rules import (
    Kind,
    Rule,
    as_it_is,
    called,
    of_arrays,
    of_contraction,
    of_each,
    of_elements,
    written_out,
)
from crh_train.portable.scope import Scope


def _expansion(equation: core.JaxprEqn) -> Callable[..., Any]:
    """Of a primitive of jax 0.12 that JAX itself has for a program (`HiPrim.expand`)."""
    primitive = equation.params["_prim"]

    def expanded(*operands: Array) -> list[Array]:
        return jax.tree.leaves(primitive.expand(*jax.tree.unflatten(primitive.in_tree, operands)))

    return expanded


def _random(scope: Scope, equation: core.JaxprEqn, operands: Sequence[Array]) -> list[Array]:
    """Threefry is integer arithmetic; other generators are the backend's own."""
    arrays: list[Any] = [*operands, *(variable.aval for variable in equation.outvars)]
    for dtype in (array.dtype for array in arrays):
        if jnp.issubdtype(dtype, jax.dtypes.prng_key) and str(dtype) != "key<fry>":
            raise NotImplementedError(f"random keys of {dtype}; use jax.random.key(seed, impl='threefry2x32')")
    return as_it_is(scope, equation, operands)


def _iota(scope: Scope, equation: core.JaxprEqn, operands: Sequence[Array]) -> list[Array]:
    dtype, shape = equation.params["dtype"], equation.params["shape"]
    if not jnp.issubdtype(dtype, jnp.inexact):
        return as_it_is(scope, equation, operands)
    counted = lax.broadcasted_iota(jnp.int32, shape, equation.params["dimension"])
    return [storage.convert(counted, np.dtype(jnp.complex64 if dtype == jnp.complex64 else jnp.float32))]


def _empty(scope: Scope, equation: core.JaxprEqn, operands: Sequence[Array]) -> list[Array]:
    """Zeros: what nobody has written yet must not differ."""
    aval: Any = equation.outvars[0].aval
    return [lax.full(aval.shape, 0, aval.dtype)]


def _convert(scope: Scope, equation: core.JaxprEqn, operands: Sequence[Array]) -> list[Array]:
    dtype = equation.params["new_dtype"]
    return [storage.convert(operands[0], np.dtype(jnp.float32) if dtype in storage.HALVES else dtype)]


def _total_order(compare: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    return lambda fence, x, y: compare(elementwise.total_order_key(x), elementwise.total_order_key(y))


def _compared(compare: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    return lambda fence, x, y: compare(x, y)


def _flushed(function: Callable[..., Array]) -> Callable[..., Array]:
    """What a function that may give -0 and denormals has instead."""
    return lambda fence, *operands: flush(function(fence, *operands))


def _beside_keys(equation: core.JaxprEqn) -> range:
    """What a sort only moves."""
    return range(equation.params["num_keys"], len(equation.invars))


def _next_after(scope: Scope, equation: core.JaxprEqn, operands: Sequence[Array]) -> list[Array]:
    """Of the type's own numbers: the one operation that must know a half type."""
    aval: Any = equation.outvars[0].aval
    function = functools.partial(elementwise.next_after, dtype=aval.dtype)
    stepped: list[Array] = of_elements(Kind.EXACT, function).apply(scope, equation, operands)
    return stepped


_MOVED = [
    "all_gather",
    "all_to_all",
    "broadcast_in_dim",
    "concatenate",
    "copy",
    "copy_p",
    "dce_sink",
    "device_put",
    "dynamic_slice",
    "dynamic_update_slice",
    "gather",
    "mesh_cast",
    "optimization_barrier",
    "pad",
    "pbroadcast",
    "portable_witness",
    "ppermute",
    "pvary",
    "reshape",
    "reshard",
    "rev",
    "select_n",
    "sharding_constraint",
    "slice",
    "split",
    "squeeze",
    "stack",
    "stage",
    "stop_gradient",
    "tile",
    "transpose",
    "unstack",
]

_INTEGER = [
    "and",
    "axis_index",
    "clz",
    "mulhi",
    "not",
    "or",
    "population_count",
    "reduce_and",
    "reduce_or",
    "reduce_xor",
    "shift_left",
    "shift_right_arithmetic",
    "shift_right_logical",
    "xor",
]

_RANDOM = [
    "random_bits",
    "random_clone",
    "random_fold_in",
    "random_seed",
    "random_split",
    "random_unwrap",
    "random_wrap",
    "threefry2x32",
]

_REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("after_all", "create_token"), "a token orders effects, which a pure function has not"),
    "approx_top_k": "its answer is the backend's choice; use top_k",
    "cumlogsumexp": "write it from exp, cumsum and log",
    "custom_linear_solve": "its solver is a backend's",
    **dict.fromkeys(
        ("igamma", "igamma_grad_a", "igammac", "polygamma", "regularized_incomplete_beta", "zeta"),
        "its series has no portable form here",
    ),
    "ragged_all_to_all": "what is not sent is left undefined",
    **dict.fromkeys(("rng_bit_generator", "rng_uniform"), "the generator is the backend's own; use threefry keys"),
    "select_and_scatter": "its combination of numbers is a program of its own; use select_and_scatter_add",
}

_FUNCTIONS: Mapping[str, Callable[..., Array]] = {
    "acos": trigonometric.acos,
    "acosh": exponential.acosh,
    "asin": trigonometric.asin,
    "asinh": exponential.asinh,
    "atan": trigonometric.atan,
    "atan2": trigonometric.atan2,
    "atanh": exponential.atanh,
    "bessel_i0e": special.bessel_i0e,
    "bessel_i1e": special.bessel_i1e,
    "cbrt": exponential.cbrt,
    "cos": trigonometric.cos,
    "cosh": exponential.cosh,
    "digamma": special.digamma,
    "erf": special.erf,
    "erf_inv": special.erf_inv,
    "erfc": special.erfc,
    "exp": exponential.exp,
    "exp2": exponential.exp2,
    "expm1": exponential.expm1,
    "lgamma": special.lgamma,
    "log": exponential.log,
    "log1p": exponential.log1p,
    "log2": exponential.log2,
    "logistic": exponential.logistic,
    "pow": exponential.power,
    "sin": trigonometric.sin,
    "sinh": exponential.sinh,
    "tan": trigonometric.tan,
    "tanh": exponential.tanh,
}

_COMBINED: Mapping[str, Callable[..., Array | Sequence[Array]]] = {
    "argmax": sums.argmax,
    "argmin": sums.argmin,
    "cummax": sums.cummax,
    "cummin": sums.cummin,
    "cumprod": sums.cumprod,
    "cumsum": sums.cumsum,
    "fft": fourier.fft,
    "pmax": collectives.pmax,
    "pmin": collectives.pmin,
    "psum": collectives.psum,
    "psum_invariant": collectives.psum,
    "reduce": sums.reduce,
    "reduce_max": sums.reduce_max,
    "reduce_min": sums.reduce_min,
    "reduce_prod": sums.reduce_prod,
    "reduce_sum": sums.reduce_sum,
    "reduce_window": windows.reduce_window,
    "reduce_window_max": windows.reduce_window_max,
    "reduce_window_min": windows.reduce_window_min,
    "reduce_window_sum": windows.reduce_window_sum,
    "scatter-add": scattering.scatter_add,
    "scatter-max": scattering.scatter_max,
    "scatter-min": scattering.scatter_min,
    "scatter-mul": scattering.scatter_mul,
    "scatter-sub": scattering.scatter_sub,
    "select_and_gather_add": windows.select_and_gather_add,
    "select_and_scatter_add": windows.select_and_scatter_add,
    "top_k": ordering.top_k,
}

RULES: Mapping[str, Rule] = {
    **{name: Rule(Kind.MOVED, as_it_is) for name in _MOVED},
    **{name: Rule(Kind.INTEGER, as_it_is) for name in _INTEGER},
    **{name: Rule(Kind.INTEGER, _random) for name in _RANDOM},
    **{name: Rule(Kind.REFUSED, as_it_is, reason) for name, reason in _REFUSED.items()},
    "bitcast_convert_type": Rule(Kind.IMAGE, as_it_is),
    "convert_element_type": Rule(Kind.EXACT, _convert),
    "empty": Rule(Kind.EXACT, _empty),
    "empty2": Rule(Kind.EXACT, _empty),
    "iota": Rule(Kind.EXACT, _iota),
    "nextafter": Rule(Kind.EXACT, _next_after),
    "integer_pow": of_elements(Kind.FENCED, elementwise.integer_power, "y"),
    "round": of_elements(Kind.EXACT, elementwise.round, "rounding_method"),
    "scatter": of_arrays(Kind.MOVED, scattering.scatter),
    "sort": of_arrays(Kind.ORDER_FREE, ordering.sort)._replace(moved=_beside_keys),
    "reduce_precision": of_arrays(Kind.EXACT, sums.reduce_precision),
    **of_each(
        Kind.EXACT,
        {
            "abs": elementwise.absolute,
            "ceil": elementwise.ceil,
            "clamp": elementwise.clamp,
            "complex": lambda fence, real, imaginary: lax.complex(real, imaginary),
            "conj": lambda fence, x: lax.complex(x, lax.full_like(x, 0)),
            "eq": _compared(lax.eq),
            "eq_to": _total_order(lax.eq),
            "floor": elementwise.floor,
            "ge": _compared(lax.ge),
            "gt": _compared(lax.gt),
            "imag": lambda fence, x: lax.full_like(x, 0),
            "is_finite": elementwise.finite,
            "le": _compared(lax.le),
            "le_to": _total_order(lax.le),
            "lt": _compared(lax.lt),
            "lt_to": _total_order(lax.lt),
            "max": elementwise.maximum,
            "min": elementwise.minimum,
            "ne": _compared(lax.ne),
            "neg": elementwise.negative,
            "real": lambda fence, x: x,
            "rem": elementwise.remainder,
            "sign": elementwise.sign,
        },
    ),
    **of_each(
        Kind.FENCED,
        {
            "add": elementwise.add,
            "add_any": elementwise.add,
            "div": elementwise.divide,
            "mul": elementwise.multiply,
            "one_minus_square": elementwise.one_minus_square,
            "polynomial": elementwise.polynomial,
            "rsqrt": elementwise.reciprocal_square_root,
            "sqrt": elementwise.square_root,
            "square": elementwise.square,
            "sub": elementwise.subtract,
        },
    ),
    **of_each(Kind.FENCED, {name: _flushed(function) for name, function in _FUNCTIONS.items()}),
    **{name: of_arrays(Kind.ORDER_FREE, function) for name, function in _COMBINED.items()},
    "conv_general_dilated": of_contraction(convolution.conv_general_dilated),
    "dot_general": of_contraction(contraction.dot_general),
    "call_hi_primitive": written_out(_expansion),
    "closed_call": called("call_jaxpr"),
    "core_call": called("call_jaxpr"),
    "custom_jvp_call": called("call_jaxpr"),
    "custom_vjp_call": called("call_jaxpr"),
    "eval_jaxpr": called("call_jaxpr"),
    "jit": called("jaxpr"),
    "random_gamma": written_out(lambda equation: functools.partial(gamma.samples, **equation.params)),
    "cond": of_arrays(Kind.CONTROL, control.cond),
    "platform_index": of_arrays(Kind.CONTROL, control.platform_index),
    "remat2": of_arrays(Kind.CONTROL, control.remat),
    "scan": of_arrays(Kind.CONTROL, control.scan),
    "shard_map": of_arrays(Kind.CONTROL, control.shard_map),
    "while": of_arrays(Kind.CONTROL, control.while_loop),
}


def called_program(equation: core.JaxprEqn) -> tuple[core.Jaxpr, Sequence[Any]] | None:
    """The part of the program that `equation` stands for, and its constants; None where it is an operation itself."""
    name, no_scope = equation.primitive.name, None
    if name not in RULES or RULES[name].kind is not Kind.CALL:
        return None
    found: tuple[core.Jaxpr, Sequence[Any]] = RULES[name].apply(no_scope, equation, ())  # type: ignore[arg-type]
    return found
