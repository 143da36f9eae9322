"""For tests of the portable rules: applying one as the transform does, exact references, and hard numbers."""

import functools
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import jax
import numpy as np

from crh_train.portable import portable
from crh_train.portable.fences import make_fence
from crh_train.portable.scope import Accuracy, Scope

NAN_BITS = np.uint32(0x7FC00000)
SMALLEST = np.float32(2.0**-125)


def apply(rule: Callable[..., Any], *operands: Any, **params: Any) -> Any:
    """What a rule makes of its operands in a compiled program, as NumPy arrays."""
    program = _compiled(rule, tuple(params.items()))
    return jax.tree.map(np.asarray, program(np.zeros(1, np.float32), *operands))


@functools.cache
def _compiled(rule: Callable[..., Any], params: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    @jax.jit
    def program(witness: jax.Array, *given: jax.Array) -> Any:
        with jax.enable_x64(True):
            return rule(Scope(make_fence(witness), Accuracy(3), _no_inner_programs), *given, **dict(params))

    return program


def run(function: Callable[..., Any], *operands: Any) -> Any:
    """What a portable function makes of its operands where it is compiled, as NumPy arrays."""
    return jax.tree.map(np.asarray, jax.jit(portable(function))(*operands))


def _no_inner_programs(*_: Any) -> list[jax.Array]:
    raise AssertionError("these rules evaluate no other program")


def bits(x: Any) -> np.ndarray:
    """A float's image, for comparing NaN and the zeros too."""
    array = np.asarray(x)
    return array.view(np.uint32) if array.dtype == np.float32 else array


def same_bits(left: Any, right: Any) -> bool:
    return np.asarray(left).shape == np.asarray(right).shape and np.array_equal(bits(left), bits(right))


def numbers(seed: int, shape: Sequence[int], low: int = -30, high: int = 10) -> np.ndarray:
    """float32 with random significands and exponents in a range, made of integers."""
    generator = np.random.default_rng(seed)
    significands = generator.integers(-(2**24) + 1, 2**24, shape)
    return np.ldexp(significands.astype(np.float64), generator.integers(low - 24, high - 23, shape)).astype(np.float32)


def clean(x: np.ndarray) -> np.ndarray:
    """As the transform gives floats to rules: without magnitudes below 2^-125."""
    return np.where(np.abs(x) < SMALLEST, np.float32(0), x)


def exponent(values: Iterable[float]) -> int:
    """The least e with |x| < 2^e for all; -126 of zeros."""
    greatest = max((abs(float(value)) for value in values), default=0.0)
    return max(int(np.frexp(greatest)[1]), -126) if greatest else -126


def exact_sum(values: Sequence[float], scale: int, terms: int) -> np.float32:
    """The definition in integers: values to 52 - ⌈log2 terms⌉ bits below 2^scale, added, rounded once, flushed."""
    kept = 52 - max(terms - 1, 0).bit_length()
    unit = Fraction(2) ** (scale - kept)
    total = sum(round(Fraction(float(value)) / unit) for value in values)
    with np.errstate(over="ignore", under="ignore"):
        return clean(np.float32(float(total * unit)))[()] + np.float32(0)
