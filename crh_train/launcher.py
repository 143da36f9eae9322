"""Hydra's launchers, as they are installed: plugins that run a function many times, in processes or on a cluster.

Hydra gives them the configuration of an application under `@hydra.main`. Here it is an empty one, and what
distinguishes the calls is one number.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize
from hydra._internal.callbacks import Callbacks  # what every launcher expects in its context, and of no public module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from crh_train.errors import ConfigError, UsageError
from crh_train.overrides import first_line

PREFIX = "hydra.launcher."
PACKAGES = {
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
    "rq": "hydra-rq-launcher",
    "ray": "hydra-ray-launcher",
    "ray_aws": "hydra-ray-launcher",
}
"""The launchers that Hydra's own repository holds, and the package of each."""


class _Numbered:
    """`function` of the number in a job's configuration. Launchers pickle it."""

    def __init__(self, function: Callable[[int], None]) -> None:
        self._function = function

    def __call__(self, config: DictConfig) -> None:
        self._function(config.number)


def check(name: str, options: Sequence[str]) -> None:
    """Raise `UsageError` where no launcher `name` is installed, `ConfigError` where it does not know an option."""
    with initialize(version_base="1.3", config_path=None, job_name="crh-train"):
        installed = GlobalHydra.instance().config_loader().get_group_options("hydra/launcher")
        if name not in installed:
            hint = f"install {PACKAGES[name]}" if name in PACKAGES else f"others are {_packages(installed)}"
            raise UsageError(f"--launcher {name:.80} is not installed; installed are {', '.join(installed)}; {hint}")
        _composed(name, options, Path())


def launch(name: str, options: Sequence[str], folder: Path, function: Callable[[int], None], count: int) -> None:
    """Let the launcher call `function` with 0 to `count` - 1, and return when it has; it may write into `folder`.

    `options` are words `hydra.launcher.KEY=VALUE`. Raises what the launcher raises.
    """
    with initialize(version_base="1.3", config_path=None, job_name="crh-train"):
        config = _composed(name, options, folder)
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=_Numbered(function), config=config
        )
        for returned in launcher.launch([[f"+number={number}"] for number in range(count)], initial_job_idx=0):
            _ = returned.return_value  # raises what the function raised


def _packages(installed: Sequence[str]) -> str:
    return ", ".join(f"{name} ({package})" for name, package in PACKAGES.items() if name not in installed)


def _composed(name: str, options: Sequence[str], folder: Path) -> Any:
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    ours = [
        f"hydra/launcher={name}",
        f"hydra.sweep.dir='{quoted}'",
        "hydra.sweep.subdir=.",
        "hydra.output_subdir=null",
        "hydra/hydra_logging=none",
        "hydra/job_logging=none",
    ]
    if any("_target_" in option for option in options):
        raise ConfigError(f"--launcher {name}: _target_ is refused: a configuration is data and cannot run code")
    try:
        return compose(overrides=[*ours, *options], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"--launcher {name}: {first_line(error)}") from error
