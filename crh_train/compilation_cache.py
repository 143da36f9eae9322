"""Compiled code on disk: what was compiled once need not be compiled again in the same environment.

JAX asks a cache for the code of a program by a key of its own, and gives it what it had to compile. Its own cache, a
folder of files, is not used: it does not check what it reads, writes where a reader can see half a file, and is bounded
only with another package. JAX's key covers the program, the compiler's options and flags, and jaxlib's version, but not
the number of threads, for which XLA writes other code; so here an environment has a folder, and an entry says in the
SHA-256 at its beginning for which environment and key it is. What is not exactly that is removed and compiled again.

Whoever can write to the folder decides what runs: only the user may. The sums find accidents, not an attacker.
"""

import contextlib
import functools
import hashlib
import logging
import os
import platform
import secrets
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from crh_train import cores
from crh_train.config import RuntimeConfig
from crh_train.digest import digest_bytes, digest_json
from crh_train.environment import THREAD_VARIABLES, cache_folder, thread_count
from crh_train.stop_signals import held

LIMIT_BYTES = 2 << 30
"""Of all environments together; what was not used for longest goes first."""

_FORMAT = 1
_RECOUNT_BYTES = 64 << 20  # written by one process before it looks again at what others wrote meanwhile
_SUM_BYTES = hashlib.sha256().digest_size
_VARIABLES = ("JAX_", "XLA_", "PJRT_", "NVIDIA_", "CUDA_", "TF_", "OMP_", "LIBTPU_")  # that JAX, XLA or a driver read
_PACKAGES = ("jax", "nvidia", "libtpu")  # whose code compiles, or is called by what was compiled
_OF_THE_MOMENT = ("processor", "cpu MHz", "bogomips", "BogoMIPS", "physical id", "siblings", "core id", "cpu cores",
                  "apicid", "initial apicid")  # fmt: skip

log = logging.getLogger(__name__)


def use(environ: Mapping[str, str], runtime: RuntimeConfig) -> None:
    """Let JAX take compiled code from the user's cache folder and leave it there; where that cannot be, say so once.

    Comes after `environment.configure` and before anything is compiled. Does nothing where the user gave JAX a cache
    (`JAX_COMPILATION_CACHE_DIR`), and where several processes make the run: a process that compiles while another one
    need not could wait for it in vain.
    """
    with held():  # a signal while JAX's extension modules are imported would end the process where it stands
        import jax

    if not runtime.compilation_cache:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    given, enabled = (
        jax.config.values[f"jax_{name}"] for name in ("compilation_cache_dir", "enable_compilation_cache")
    )
    if given is not None or not enabled or runtime.processes > 1:
        return
    folder = cache_folder(environ)
    if folder is None:
        log.warning("compiled code is not kept: there is no home folder; set XDG_CACHE_HOME to a folder of yours")
        return
    try:
        cache = CompiledCode(folder / "compiled", digest_json(described(environ, Path("/proc/cpuinfo"))), LIMIT_BYTES)
    except OSError as error:
        log.warning("compiled code is not kept in %s: %s", folder / "compiled", error.strerror)
        return
    # JAX has no public way to give it a cache. Were this name to lose its meaning, JAX would be without any, because
    # `jax_compilation_cache_dir` is not set; it would never read a file that was not checked.
    from jax._src import compilation_cache

    compilation_cache._cache = cache  # type: ignore[assignment]  # it has the two methods that are called
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def described(environ: Mapping[str, str], cpuinfo: Path) -> dict[str, Any]:
    """All that compiled code depends on beside the program, as JSON: processor, counts, variables, software.

    Too much of it costs a compilation, too little could cost bits: XLA runs code of another processor after a mere
    line in its log. `environ` has the settings of `environment.configure`.
    """
    variables = {name: value for name, value in environ.items() if name.startswith(_VARIABLES)}
    return {
        "format": _FORMAT,
        "processor": _processor(cpuinfo),
        "threads": thread_count(environ),
        "processors": [cores.available(), os.cpu_count()],
        "variables": {name: value for name, value in variables.items() if name not in THREAD_VARIABLES},
        "python": sys.version,
        # RECORD has the hash of each installed file: a jaxlib that was built otherwise can have the same version.
        "packages": sorted(
            [each.name, each.version, digest_bytes((each.read_text("RECORD") or "").encode())]
            for each in distributions()
            if each.name.startswith(_PACKAGES)
        ),
    }


def _processor(cpuinfo: Path) -> Any:
    """What tells processors apart, of every core; where the system does not say, the machine's name stands for it."""
    if not cpuinfo.exists():
        return [platform.machine(), platform.processor(), platform.node()]
    lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
    return sorted(
        {f"{name.strip()}: {value.strip()}" for name, _, value in lines if name.strip() not in _OF_THE_MOMENT}
    )


class CompiledCode:
    """The entries of one environment, as JAX's `get` and `put` want them. Many processes may use them at a time.

    Args:
      root: the folder of all environments, which is made where there is none.
      environment: the name of this one.
      limit: bytes of all environments together, exceeded by at most 64 MiB for each process that writes.

    Raises `OSError` where the folder cannot be used, or is not the user's alone.
    """

    def __init__(self, root: Path, environment: str, limit: int) -> None:
        root.parent.mkdir(parents=True, exist_ok=True)
        self._root = _own_folder(str(root), None)
        self._folder = _own_folder(environment, self._root)
        self._path = root / environment
        self._environment = environment
        self._limit = limit
        self._room = 0  # bytes that may be written before all are counted
        self._writes = True  # until it failed

    def get(self, key: str) -> bytes | None:
        """What was put under `key`; None where there is nothing, or not every byte of it."""
        name = _name(key)
        try:
            with open(name, "rb", opener=functools.partial(os.open, dir_fd=self._folder)) as stream:
                entry = stream.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("compiled code %s cannot be read: %s; it is compiled again", self._path / name, error.strerror)
            return None
        code = entry[_SUM_BYTES:]
        if entry[:_SUM_BYTES] != self._sum(key, code):
            log.warning("compiled code %s is damaged; it is removed and compiled again", self._path / name)
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._folder)
            return None
        with contextlib.suppress(OSError):  # a folder that can only be read is good to read
            os.utime(name, dir_fd=self._folder)
        return code

    def put(self, key: str, value: bytes) -> None:
        """Keep `value`, whole or not at all. After a failure, which is logged, nothing more is tried."""
        size = _SUM_BYTES + len(value)
        if not self._writes or size > self._limit:
            return
        try:
            if size > self._room:
                self._room = max(size, min(_RECOUNT_BYTES, _make_room(self._root, self._limit, size)))
            self._room -= size
            self._write(_name(key), self._sum(key, value) + value)
        except FileNotFoundError:
            return  # another process made room just then, or somebody removed the whole cache
        except OSError as error:
            self._writes = False
            log.warning("compiled code is not kept in %s: %s", self._path, error.strerror)

    def _write(self, name: str, entry: bytes) -> None:
        # Not synced: after a loss of power the sum tells what did not reach the disk.
        temporary = f".writing-{secrets.token_hex(8)}"
        try:
            with open(temporary, "xb", opener=functools.partial(os.open, mode=0o600, dir_fd=self._folder)) as stream:
                stream.write(entry)
            os.replace(temporary, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=self._folder)
            raise

    def _sum(self, key: str, code: bytes) -> bytes:
        hasher = hashlib.sha256(f"{self._environment}\n{key}\n".encode())
        hasher.update(code)
        return hasher.digest()


def _name(key: str) -> str:
    return digest_bytes(key.encode())  # JAX's has the name of a function in it, of any length


def _own_folder(name: str, parent: int | None) -> int:
    """Descriptor of a folder that only this user can write to, made where there is none; it stays this folder, whatever
    becomes of the name. Raises `OSError`."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        os.close(descriptor)
        raise PermissionError(
            0, "others can write to it, and what is in it is run; remove it, or chmod 700 if it is yours"
        )
    return descriptor


def _make_room(root: int, limit: int, size: int) -> int:
    """How many bytes may be written below `root`, at least `size`: where there is no room, what was not used for
    longest is removed, a quarter of all so that it need not be done again at once."""
    entries = []
    for folder, _, names, descriptor in os.fwalk(".", dir_fd=root):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # another process removed it
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                entries.append((found.st_mtime_ns, found.st_size, os.path.join(folder, name)))
    total = sum(length for _, length, _ in entries)
    if total + size <= limit:
        return limit - total
    for _, length, path in sorted(entries):
        if total <= min(limit * 3 // 4, limit - size):
            break
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path, dir_fd=root)
        total -= length
    return limit - total
