"""The environments of the bit matrix, and how one of them is measured: by `worker.py`, in fresh processes."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crh_train.digest import digest_json
from crh_train.environment import settings

WORKER = Path(__file__).with_name("worker.py")
LIMIT = 3600  # seconds after which an environment hangs


class Row(NamedTuple):
    name: str
    threads: int = 0  # 0: as many as there are
    devices: int = 1  # in each process
    processes: int = 1
    flags: tuple[str, ...] = ()
    platform: str = "cpu"
    python: str = sys.executable


# Each merges operations, where alone a product and a sum may be contracted. What still makes fusions, of one operation
# each, is fusion-wrapper, without which there is no scatter.
_FUSION = "fusion,dot-library-rewriter,ynn-fusion,cpu_multi_output_fusion"
ROWS = (
    Row("default"),
    Row("1 thread", threads=1),
    Row("2 threads", threads=2),
    *(Row(isa, flags=(f"--xla_cpu_max_isa={isa}",)) for isa in ("SSE4_2", "AVX", "AVX2", "AVX512")),
    *(Row(f"{count} devices", devices=count) for count in (2, 4, 8)),
    Row("2 processes", processes=2),
    Row("level 0", flags=("--xla_backend_optimization_level=0",)),
    Row("no fusion", flags=(f"--xla_disable_hlo_passes={_FUSION}",)),
    Row("no algebra", flags=("--xla_disable_hlo_passes=algsimp",)),
    Row("fast math", flags=("--xla_cpu_enable_fast_math=true",)),  # after a run's own flag, which it overrules
)
CUDA = Row("cuda", platform="cuda")
QUICK = ("1 thread", "SSE4_2", "8 devices", "2 processes", "level 0")


class Cell(NamedTuple):
    bits: str  # SHA-256 over the stages
    stages: Mapping[str, str]  # in order
    seconds: float


class Measured(NamedTuple):
    """What an environment gave; no cells where it failed."""

    row: str
    facts: Mapping[str, Any]
    cells: Mapping[str, Cell]
    error: str


def diagonal(cases: Sequence[str]) -> dict[str, list[str]]:
    """Which cases each row of `QUICK` runs: the first case in every row, each other one in one row."""
    first, *others = cases
    plan = {name: [first] for name in QUICK}
    for index, case in enumerate(others):
        plan[QUICK[index % len(QUICK)]].append(case)
    return plan


def variables(environ: Mapping[str, str], row: Row) -> dict[str, str]:
    """The environment of a run, as `crh_train.environment` has it, with what is special in `row`."""
    foreign = ("XLA_", "JAX_", "PJRT_", "NPROC", "NVIDIA_TF32")
    kept = {name: value for name, value in environ.items() if not name.startswith(foreign)}
    ours = settings(kept, row.threads, row.devices)
    flags = " ".join([ours["XLA_FLAGS"], *row.flags])
    return {**kept, **ours, "XLA_FLAGS": flags, "JAX_PLATFORMS": row.platform}


def measure(row: Row, cases: Sequence[str], folder: Path) -> Measured:
    """Run `cases` of `folder` in the environment `row`; every one of its processes must give the same bits."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as scratch:
        results = [Path(scratch, f"{process}.json") for process in range(row.processes)]
        logs = [path.with_suffix(".log") for path in results]
        started = []
        for index, (result, log) in enumerate(zip(results, logs, strict=True)):
            group = ["--process", str(index), "--processes", str(row.processes), "--coordinator", address]
            words = [row.python, str(WORKER), str(folder), str(result), *group, "--cases", *cases]
            with log.open("wb") as stream:
                started.append(subprocess.Popen(words, env=variables(os.environ, row), stdout=stream, stderr=stream))
        try:
            codes = [process.wait(LIMIT) for process in started]
        except subprocess.TimeoutExpired:
            return Measured(row.name, {}, {}, f"it did not end within {LIMIT} s")
        finally:
            for process in started:
                process.kill()
        if any(codes):
            tails = ["\n".join(log.read_text(errors="replace").splitlines()[-30:]) for log in logs]
            return Measured(row.name, {}, {}, "\n".join([f"exit status {codes}", *tails]))
        documents = [json.loads(path.read_text()) for path in results]
    first = documents[0]
    if any(_bits(document) != _bits(first) for document in documents):
        return Measured(row.name, first["facts"], {}, f"its processes disagree: {[_bits(each) for each in documents]}")
    cells = {
        case: Cell(digest_json(found["stages"]), found["stages"], found["seconds"])
        for case, found in first["cases"].items()
    }
    return Measured(row.name, first["facts"], cells, "")


def _bits(document: Mapping[str, Any]) -> dict[str, Any]:
    return {case: found["stages"] for case, found in document["cases"].items()}
