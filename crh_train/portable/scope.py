"""What a rule is given besides its operands."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jax import Array
from jax.extend import core

from crh_train.portable.fences import Fence


class Accuracy(NamedTuple):
    """How much of each operand a contraction keeps; see `contraction`."""

    digits: int  # of 8 bits: 2, 3 or 4


class Scope(NamedTuple):
    """The part of a program in which a rule works."""

    fence: Fence
    accuracy: Accuracy
    evaluate: Callable[
        ["Scope", core.Jaxpr, Sequence[Any], Sequence[Any]], list[Array]
    ]  # constants, arguments -> outputs
