"""How a run's pure functions become programs: the levels of determinism.

Everything whose bits matter goes through the `transform` of its run's level, after `grad` and before `jit`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from jax import export

from crh_train.config import NativeConfig, PortableConfig
from crh_train.portable import portable


class Determinism(NamedTuple):
    transform: Callable[[Callable[..., Any]], Callable[..., Any]]  # of a pure function of arrays, with the same shapes
    platforms: tuple[str, ...]  # on which one program gives the bits that the level promises


def make_portable(config: PortableConfig) -> Determinism:
    return Determinism(functools.partial(portable, digits=config.digits), ("cpu", "cuda"))


def make_native(config: NativeConfig) -> Determinism:
    del config
    return Determinism(lambda function: function, (export.default_export_platform(),))
