"""JAX finds this plugin in the processes that have `tests/startup` on their path: what one process of a test session
compiled need not be compiled again in the same environment.

A process reads from the folder COMPILED or, where there is a folder COMPILING, writes to that. The one that writes
has ended before its folder gets the name under which others look for it, so none reads half a file.

Why no test passes because it was given the code of another environment: JAX names code by a hash of the program, of the
options that it is compiled with, of XLA_FLAGS and of its own version, but not by the number of threads, on which XLA's
code depends, and not by all of the number of devices. So each environment has a folder of its own, by the threads and
processors that XLA counts and by every variable that JAX and XLA read, as they are when JAX starts: after
`crh_train.environment` has set them. Processes that make one run together get none. What tests say of compiling and of
environments, they say in `compiling` (conftest.py), which is without this plugin.
"""

import hashlib
import json
import os
from pathlib import Path

import jax

from crh_train.environment import thread_count

PREFIXES = ("JAX_", "XLA_", "PJRT_", "NVIDIA_", "CUDA_", "TF_", "OMP_")
COUNTED = "PJRT_NPROC"  # by `thread_count`: a replay sets it to what a run found


def initialize() -> None:
    """Called once, when JAX makes its first device and before it compiles."""
    if jax.distributed.is_initialized():
        return
    folder, writes = _folder()
    if not (writes or folder.is_dir()):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")  # their folder would be part of the hash
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0 if writes else float("inf"))


def _folder() -> tuple[Path, bool]:
    variables = [item for item in sorted(os.environ.items()) if item[0].startswith(PREFIXES) and item[0] != COUNTED]
    counts = [thread_count(os.environ), len(os.sched_getaffinity(0)), os.cpu_count()]
    named = hashlib.sha256(json.dumps([counts, variables]).encode()).hexdigest()
    writes = "COMPILING" in os.environ
    return Path(os.environ["COMPILING" if writes else "COMPILED"], named), writes
