"""A program that tells, of each rule, whether it gives the bits of one device when its batch is sharded over all."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from portable_elsewhere import print_from_all_devices
from portable_rules import numbers, same_bits

from crh_train.portable import ordering, scattering, sums, windows
from crh_train.portable.fences import make_fence
from crh_train.portable.scope import Accuracy, Scope

WINDOW = {"window_dimensions": (1, 3, 2), "window_strides": (1, 2, 1), "padding": ((0, 0), (1, 1), (0, 1))}
DILATED = WINDOW | {"base_dilation": (1, 1, 1), "window_dilation": (1, 1, 1)}
ROWS = lax.ScatterDimensionNumbers((1, 2), (0,), (0,))
SCATTER = {
    "update_jaxpr": None,
    "update_consts": (),
    "dimension_numbers": ROWS,
    "indices_are_sorted": False,
    "unique_indices": False,
    "mode": lax.GatherScatterMode.FILL_OR_DROP,
}
X, OTHER = numbers(0, (16, 8, 6)), numbers(1, (16, 8, 6))
SOURCE = numbers(2, (16, 4, 6))
INDICES = np.random.default_rng(3).integers(-1, 17, (16, 1)).astype(np.int32)
CASES: dict[str, tuple[Any, ...]] = {
    "sum over the batch": (partial(sums.reduce_sum, axes=(0,)), X),
    "sum of each sample": (partial(sums.reduce_sum, axes=(1, 2)), X),
    "sum of all": (partial(sums.reduce_sum, axes=(0, 1, 2)), X),
    "running sum along the batch": (partial(sums.cumsum, axis=0, reverse=False), X),
    "running sum": (partial(sums.cumsum, axis=1, reverse=True), X),
    "product": (partial(sums.reduce_prod, axes=(0, 2)), X),
    "running product": (partial(sums.cumprod, axis=0, reverse=True), X),
    "maximum": (partial(sums.reduce_max, axes=(0, 1)), X),
    "running minimum": (partial(sums.cummin, axis=0, reverse=False), X),
    "position": (partial(sums.argmin, axes=(0,), index_dtype=np.dtype("int32")), X),
    "window sum": (partial(windows.reduce_window_sum, **DILATED), X),
    "window maximum": (partial(windows.reduce_window_max, **DILATED), X),
    "selected, scattered": (partial(windows.select_and_scatter_add, select_prim=lax.ge_p, **WINDOW), SOURCE, X),
    "selected, gathered": (partial(windows.select_and_gather_add, select_prim=lax.le_p, **DILATED), OTHER, X),
    "scatter-add": (partial(scattering.scatter_add, **SCATTER), X, INDICES, OTHER),
    "scatter-max": (partial(scattering.scatter_max, **SCATTER), X, INDICES, OTHER),
    "scatter": (partial(scattering.scatter, **SCATTER), X, INDICES, OTHER),
    "sort along the batch": (partial(ordering.sort, dimension=0, is_stable=False, num_keys=1), X, OTHER),
    "sort": (partial(ordering.sort, dimension=1, is_stable=True, num_keys=2), X, OTHER),
    "top k": (partial(ordering.top_k, k=3, axis=2), X),
}


def same_alone_and_sharded() -> dict[str, bool]:
    batch = NamedSharding(Mesh(np.array(jax.devices()), ("batch",)), PartitionSpec("batch"))
    found = {}
    for name, (rule, *operands) in CASES.items():

        @jax.jit
        def program(*given: jax.Array, rule: Any = rule) -> Any:
            with jax.enable_x64(True):
                return rule(Scope(make_fence(given[0]), Accuracy(3), lambda *_: []), *given)

        alone = jax.tree.leaves(program(*operands))
        sharded = jax.tree.leaves(program(*[jax.device_put(operand, batch) for operand in operands]))
        found[name] = all(same_bits(one, many) for one, many in zip(alone, sharded, strict=True))
    return found


if __name__ == "__main__":
    print_from_all_devices(same_alone_and_sharded())
