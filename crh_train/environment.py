"""What surrounds a run: the variables that make JAX deterministic, and the fingerprint of machine and software.

`configure` is called before JAX starts; importing this module does not import JAX. Under native determinism the same
fingerprint promises the same bits and another one promises nothing: XLA's results depend on the instruction set, on
the number of threads and of devices, and on its own version.
"""

import platform
import re
import sys
from collections.abc import Mapping, MutableMapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crh_train import cores
from crh_train.digest import digest_json
from crh_train.errors import EnvironmentRefused

XLA_FLAGS: Mapping[str, str] = {
    "--xla_gpu_deterministic_ops": "true",  # no atomic additions whose order varies
    "--xla_gpu_exclude_nondeterministic_ops": "true",  # and fail to compile where there is no other way
    "--xla_gpu_autotune_level": "0",  # a timing must not choose the kernel, and with it the bits
    "--xla_cpu_enable_fast_math": "false",
}
"""Flags that every run has. A user's flag that says otherwise is refused."""

VARIABLES: Mapping[str, str] = {
    "JAX_ENABLE_X64": "0",
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",  # float32 products in float32, not TF32 or bfloat16
    "JAX_DEFAULT_PRNG_IMPL": "threefry2x32",
    "JAX_THREEFRY_PARTITIONABLE": "1",
    "JAX_DISABLE_JIT": "0",
    "NVIDIA_TF32_OVERRIDE": "0",
}
"""Variables that every run has. A user's value that says otherwise is refused."""

THREAD_VARIABLES = ("PJRT_NPROC", "NPROC")
"""In the order in which XLA's CPU client asks for them; see `thread_count`."""

_SAME = {"0": "0", "false": "0", "off": "0", "1": "1", "true": "1", "on": "1"}
_DEVICE_FLAG = "--xla_force_host_platform_device_count"
_INTEGER = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)
_FEATURES = ("sse", "ssse", "avx", "fma", "f16c", "amx", "bmi", "asimd", "sve", "bf16", "i8mm", "fp16")


def settings(environ: Mapping[str, str], threads: int, devices: int) -> dict[str, str]:
    """The variables to set on top of `environ`, keeping what the user put into `XLA_FLAGS`.

    `threads` 0 leaves the number of threads to XLA; `devices` are those of this process. Raises `EnvironmentRefused`
    naming a flag or a variable of the user's that contradicts ours.
    """
    user_flags = environ["XLA_FLAGS"].split() if "XLA_FLAGS" in environ else []
    ours = dict(XLA_FLAGS)
    if devices > 1:
        ours[_DEVICE_FLAG] = str(devices)
    for flag in user_flags:
        if not flag.startswith("--"):  # XLA ends its reading there, or takes the whole for the name of a file
            raise EnvironmentRefused(
                f"XLA_FLAGS has {flag!r}, expected only --NAME=VALUE separated by blanks; remove it"
            )
        name, _, value = flag.partition("=")
        if name == _DEVICE_FLAG and value != str(devices):
            raise EnvironmentRefused(f"XLA_FLAGS has {flag}; remove it and give runtime.devices={value} instead")
        if name in ours and _normal(value or "true") != _normal(ours[name]):
            raise EnvironmentRefused(f"XLA_FLAGS has {flag}, which breaks determinism; remove it ({name}={ours[name]})")
    given = {flag.partition("=")[0] for flag in user_flags}
    flags = [*user_flags, *(f"{name}={value}" for name, value in ours.items() if name not in given)]
    for name, value in VARIABLES.items():
        if name in environ and _normal(environ[name]) != _normal(value):
            raise EnvironmentRefused(f"{name}={environ[name]} breaks determinism; unset it, or set {name}={value}")
    changes = {"XLA_FLAGS": " ".join(flags), **VARIABLES}
    if threads:
        changes[THREAD_VARIABLES[0]] = str(threads)
    return changes


def configure(environ: MutableMapping[str, str], threads: int, devices: int) -> None:
    """Put `settings` into `environ`. Must come before JAX is imported; raises `EnvironmentRefused` if it does not."""
    changes = settings(environ, threads, devices)
    if "jax" in sys.modules and any(environ.get(name) != value for name, value in changes.items()):
        raise EnvironmentRefused("JAX was imported before its deterministic settings; call configure() first")
    environ.update(changes)


def thread_count(environ: Mapping[str, str]) -> int:
    """Threads that XLA's CPU client uses for one operation. As it does, passes over a variable that is no integer."""
    for name in THREAD_VARIABLES:
        if name in environ and _INTEGER.fullmatch(environ[name]):
            return int(environ[name])
    return cores.available()


def cache_folder(environ: Mapping[str, str]) -> Path | None:
    """`$XDG_CACHE_HOME/crh-train`, or `~/.cache/crh-train`; None where the user has no home folder."""
    if "XDG_CACHE_HOME" in environ and Path(environ["XDG_CACHE_HOME"]).is_absolute():  # another one means nothing
        return Path(environ["XDG_CACHE_HOME"]) / "crh-train"
    try:
        return Path.home() / ".cache" / "crh-train"
    except RuntimeError:
        return None


def fingerprint(environ: Mapping[str, str], devices: int) -> dict[str, Any]:
    """All that changes bits under native determinism, as JSON. Starts JAX; `devices` is how many the run uses."""
    import jax
    from jax.extend.backend import get_backend

    device = jax.devices()[0]
    return {
        "cpu": _cpu(Path("/proc/cpuinfo")),
        "threads": thread_count(environ),
        "devices": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": devices,
            "processes": jax.process_count(),
            "runtime": get_backend().platform_version,
        },
        "software": {name: version(name) for name in ("jax", "jaxlib", "numpy", "optax")},
        "xla_flags": environ["XLA_FLAGS"].split() if "XLA_FLAGS" in environ else [],
    }


def fingerprint_digest(found: Mapping[str, Any]) -> str:
    return digest_json(found)


def differences(recorded: Mapping[str, Any], found: Mapping[str, Any], path: str = "") -> list[str]:
    """In words, each entry in which two fingerprints differ; empty where the same bits are promised."""
    lines = []
    for key in sorted({*recorded, *found}):
        where = f"{path}{key}"
        if key not in recorded or key not in found:
            lines.append(f"{where}: {'absent' if key not in recorded else 'present'} in the run, not so here")
        elif isinstance(recorded[key], dict) and isinstance(found[key], dict):
            lines += differences(recorded[key], found[key], f"{where}.")
        elif recorded[key] != found[key]:
            lines.append(f"{where}: {recorded[key]} in the run, {found[key]} here")
    return lines


def _normal(value: str) -> str:
    lowered = value.lower()
    return _SAME[lowered] if lowered in _SAME else lowered


def _cpu(cpuinfo: Path) -> dict[str, Any]:
    found = {"architecture": platform.machine(), "system": platform.system()}
    if not cpuinfo.exists():
        return {**found, "model": platform.processor(), "features": []}
    fields: dict[str, str] = {}
    for line in cpuinfo.read_text().splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())  # of the first core
    names = ("vendor_id", "cpu family", "model", "model name", "stepping", "CPU implementer", "CPU part")
    listed = next((fields[key] for key in ("flags", "Features") if key in fields), "")
    features = sorted(feature for feature in listed.split() if feature.startswith(_FEATURES))
    return {**found, "model": " ".join(fields[name] for name in names if name in fields), "features": features}
