"""Train steps that others wrote, unchanged: right, and the same bits in every environment; see `portable_libraries`."""

import json
from collections.abc import Mapping

import jax
import numpy as np
import optax
import portable_libraries
import pytest
from portable_elsewhere import said
from portable_libraries import GOLDEN, PROGRAMS, hashes, values

from crh_train.portable import portable

ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "one thread, SSE4.2": {"PJRT_NPROC": "1", "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"},
    "AVX2, not optimised": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2 --xla_backend_optimization_level=0"},
}
# Of each array's largest number: stock rounds in other places, and its functions are off by more.
TOLERANCE = 4e-6
GOLDEN_HASHES: Mapping[str, Mapping[str, str]] = json.loads(GOLDEN.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_bits_are_golden_and_the_values_are_right(name: str) -> None:
    found = values(PROGRAMS[name], portable)
    assert hashes(found) == GOLDEN_HASHES[name]
    stock = values(PROGRAMS[name], lambda program: program, {"xla_backend_optimization_level": 0})  # compiled sooner
    assert found.keys() == stock.keys()
    for case, arrays in found.items():
        for array, other in zip(arrays, stock[case], strict=True):
            assert is_near(array, other), f"{case}: {array} is not {other}"


@pytest.mark.slow
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_bits_are_golden_elsewhere(environment: str) -> None:
    """Each program in one of the environments, as in the diagonal of the bit matrix."""
    chosen = list(PROGRAMS)[list(ENVIRONMENTS).index(environment) :: len(ENVIRONMENTS)]
    found = said(portable_libraries.__file__, *chosen, **ENVIRONMENTS[environment])
    assert found == {name: GOLDEN_HASHES[name] for name in chosen}


def is_near(array: np.ndarray, other: np.ndarray) -> bool:
    """Of one type and shape; integers are equal, floats within the tolerance of the largest, or not finite together."""
    if (array.dtype, array.shape) != (other.dtype, other.shape):
        return False
    if not jax.numpy.issubdtype(array.dtype, jax.numpy.inexact):
        return np.array_equal(array, other)
    wide, reference = array.astype(np.complex128), other.astype(np.complex128)
    same = (wide == reference) | np.isnan(wide) & np.isnan(reference)
    scale = np.max(np.abs(reference), where=np.isfinite(reference), initial=0)
    with np.errstate(invalid="ignore"):
        return bool(np.all(same | (np.abs(wide - reference) <= TOLERANCE * scale)))


def test_where_stock_leaves_a_domain_portable_does_not() -> None:
    """x / 9 as x · (1 / 9) makes 9 / 9 more than 1, and a power of what is left of 1 NaN."""
    schedule = optax.polynomial_schedule(0.1, 0.01, 2.5, 9)
    assert np.isnan(jax.jit(schedule)(9))
    assert jax.jit(portable(schedule))(9) == np.float32(0.01)
