"""Laws of the types of contractions: complex operands, and a result of another type than its operands.

`python tests/test_portable_types.py` prints, as JSON, the number of devices and the hash of each contraction here.
"""

import hashlib
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from portable_elsewhere import FLAGS, print_from_all_devices, said
from portable_rules import numbers, run, same_bits

from crh_train.errors import NotPortable
from crh_train.portable import portable

TYPES = (jnp.int8, jnp.int32, jnp.bfloat16, jnp.float32, jnp.complex64)
LAYOUT = ("NWC", "WIO", "NWC")


def small(seed: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """Integers, whose products and sums every type holds exactly."""
    real, imaginary = np.random.default_rng(seed).integers(0, 4, (2, *shape))
    return jnp.asarray(real - 1j * imaginary if dtype == jnp.complex64 else real).astype(dtype)


def complex_numbers(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    real, imaginary = numbers(seed, (2, *shape), -4, 1)
    return real + 1j * imaginary


def dot(x: Array, y: Array, result: Any = None) -> Array:
    return lax.dot(x, y, preferred_element_type=result)


def convolve(x: Array, y: Array, result: Any = None) -> Array:
    return lax.conv_general_dilated(
        x[None], y[None], (1,), [(0, 0)], dimension_numbers=LAYOUT, preferred_element_type=result
    )[0]


CONTRACTIONS: dict[str, tuple[Callable[..., Array], Callable[..., Any]]] = {
    # name: (of arrays of JAX, the same of NumPy's)
    "@": (lambda x, y: x @ y, lambda x, y: x @ y),
    "einsum": (lambda x, y: jnp.einsum("ij,kj->ik", x, y), lambda x, y: x @ y.T),
    "vdot": (lambda x, y: jnp.vdot(x, y), lambda x, y: np.vdot(x, y)),
    "tensordot": (lambda x, y: jnp.tensordot(x, y, 2), lambda x, y: np.tensordot(x, y, 2)),
    "cov": (lambda x, y: jnp.cov(x, y), lambda x, y: np.cov(x, y)),
    "convolution": (lambda x, y: convolve(x.astype(y.dtype), y), lambda x, y: x @ y),
}


@pytest.mark.parametrize("digits", [2, 3, 4])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", CONTRACTIONS)
def test_contractions_of_complex_numbers(name: str, mixed: bool, digits: int) -> None:
    function, exact = CONTRACTIONS[name]
    x, y = numbers(0, (9, 9), -4, 1) if mixed else complex_numbers(0, (9, 9)), complex_numbers(1, (9, 9))
    found = np.asarray(jax.jit(portable(function, digits=digits))(x, y))
    expected = exact(x.astype(np.complex128), y.astype(np.complex128))
    assert found.dtype == np.complex64
    largest = np.max(np.abs(x)) * np.max(np.abs(y))
    assert np.max(np.abs(found - expected)) <= 2 * x.size * largest * 2.0 ** -(14 if digits == 2 else 20)


@pytest.mark.parametrize("left", TYPES)
@pytest.mark.parametrize("function", [dot, convolve])
def test_every_type_has_the_value_of_stock_jax_or_is_refused(function: Callable[..., Array], left: Any) -> None:
    """Also a real result of complex numbers, which is the real part, and a float of integers."""
    compared = 0
    for right in TYPES:
        x, y = small(2, (3, 3), left), small(3, (3, 3), right)
        for result in (None, *TYPES):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of what stock JAX discards
                    stock = np.asarray(jax.jit(function, static_argnums=2)(x, y, result))
            except (TypeError, ValueError, NotImplementedError, jax.errors.JaxRuntimeError):
                continue  # not a program of JAX
            floats = jnp.issubdtype(left, jnp.inexact) or jnp.issubdtype(right, jnp.inexact)
            if floats and not jnp.issubdtype(stock.dtype, jnp.inexact):
                with pytest.raises(NotPortable, match=f"floats to {stock.dtype}; leave out preferred_element_type"):
                    portable(lambda x, y, result=result: function(x, y, result))(x, y)
                continue
            found = run(lambda x, y, result=result: function(x, y, result), x, y)
            assert found.dtype == stock.dtype, (right, result)
            assert np.array_equal(found, stock), (right, result)
            compared += 1
    assert compared > 1


def integers() -> tuple[np.ndarray, np.ndarray]:
    left, right = np.random.default_rng(4).integers(-(2**31), 2**31, (2, 130, 130)).astype(np.int32)
    return left, right


@pytest.mark.parametrize("function", [dot, convolve])
def test_integers_for_a_float_are_the_floats_nearest_to_them(function: Callable[..., Array]) -> None:
    x, y = integers()
    found = run(lambda x, y: function(x, y, jnp.float32), x, y)
    assert same_bits(found, run(function, x.astype(np.float32), y.astype(np.float32)))


def hashes() -> dict[str, str]:
    x, y = integers()
    made = {
        "dot": run(lambda x, y: dot(x, y, jnp.float32), x, y),
        "convolution": run(lambda x, y: convolve(x, y, jnp.float32), x, y),
        "of complex numbers": run(lambda x, y: x @ y, complex_numbers(5, (40, 130)), complex_numbers(6, (130, 40))),
    }
    return {name: hashlib.sha256(each.tobytes()).hexdigest() for name, each in made.items()}


@pytest.mark.parametrize("flag", FLAGS)
def test_contractions_of_mixed_types_have_the_same_bits_elsewhere(flag: str) -> None:
    _, found = said(__file__, XLA_FLAGS=flag, JAX_PLATFORMS="cpu")
    assert found == hashes()


if __name__ == "__main__":
    print_from_all_devices(hashes())
