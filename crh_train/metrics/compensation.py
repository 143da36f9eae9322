"""Compensated sums, for what is added up over micro-batches. Pure float32."""

from typing import Any

import jax
from jax import Array


def kahan_add(total: Array, compensation: Array, value: Array) -> tuple[Array, Array]:
    """Add `value` to `total`; `compensation` is what the total has too much by rounding. Start both from zero.

    Source: Kahan, Further remarks on reducing truncation errors, 1965. The error does not grow with the number of
    terms. XLA keeps the order of float operations as written; under its fast-math flags the compensation would vanish.
    """
    corrected = value - compensation
    new_total = total + corrected
    return new_total, (new_total - total) - corrected


def accumulate(total_tree: Any, compensation_tree: Any, tree: Any) -> tuple[Any, Any]:
    """`kahan_add` leaf by leaf over three trees of one structure: a micro-batch's gradients onto those before it.

    Start both from zeros. Called once per micro-batch in index order; the mean is the totals over their number.
    """
    sums = jax.tree.map(kahan_add, total_tree, compensation_tree, tree)
    totals, compensations = jax.tree.transpose(jax.tree.structure(tree), jax.tree.structure((0, 0)), sums)
    return totals, compensations
