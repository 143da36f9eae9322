"""Looks a part up by its name: a built-in one, or a third party's.

A third party adds a part without touching this package: it registers under the entry point group
`crh_train.<group>` an object whose `Config` is a dataclass and whose `make` has the signature of that group's
built-in factories, and puts a `conf/<group>/<name>.yaml` beside the user's other configurations.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from crh_train.config import nearest
from crh_train.errors import ConfigError


def registered(group: str, name: str, built_in: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The factory of the part `name` of `group`. Raises `ConfigError` naming the nearest one."""
    if name in built_in:
        return built_in[name]
    plugins = entry_points(group=f"crh_train.{group}")
    if name in plugins.names:
        made: Callable[..., Any] = plugins[name].load().make
        return made
    raise ConfigError(f"{group}.name={name!r} is unknown: {nearest(name, [*built_in, *plugins.names])}")
