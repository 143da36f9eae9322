"""Test modules as programs: what one of them prints, as JSON, in a process of its own under other variables, and the
golden files that it writes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

FLAGS = ("--xla_cpu_max_isa=SSE4_2", "--xla_backend_optimization_level=0")
"""Each makes other code: of fewer instructions to choose from, and not optimised."""


def said(program: str, *words: str, **variables: str) -> Any:
    done = subprocess.run(
        [sys.executable, program, *words], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def said_on_four_devices(program: str) -> Any:
    """What `program` gives to `print_from_all_devices`."""
    devices, found = said(program, XLA_FLAGS="--xla_force_host_platform_device_count=4", JAX_PLATFORMS="cpu")
    assert devices == 4
    return found


def print_from_all_devices(found: Any) -> None:
    print(json.dumps([len(jax.devices()), found]))


def write_or_print(hashes: Any, golden: Path) -> None:
    text = json.dumps(hashes, indent=2) + "\n"
    if sys.argv[1:] == ["--write"]:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    else:
        print(text, end="")
