"""Feeds hostile bytes to a reader until time is up, and stops at the first input on which it breaks its promise:

    python scripts/fuzz.py checkpoint|chronicle [--minutes 10] [--memory 256] [--seed 0]

to return a value that is written back as the same bytes, or to raise its one documented error with a message of one
line, within the memory (MB, of the whole process). Guided by coverage where atheris is installed, else at random.
"""

import argparse
import contextlib
import importlib.util
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MODULES = {"checkpoint": "fuzzing.checkpoints", "chronicle": "fuzzing.chronicles"}
MAX_BYTES = 1 << 20
RECENT = 400
"""Inputs that are changed further."""


class Fuzzed(NamedTuple):
    executions: int
    accepted: int
    refused: int
    reasons: int  # different beginnings of messages


def peak() -> int:
    """MB that this process has taken at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="crh-fuzz-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def at_random(name: str, seed: int, until: float, executions: int, memory: int) -> Fuzzed:
    """So many executions, or until `time.monotonic()` is `until`."""
    from fuzzing.target import Violation, change_bytes

    target = importlib.import_module(MODULES[name]).TARGET
    generator, pool, reasons = random.Random(seed), list(target.seeds), set()
    done = accepted = 0
    with scratch() as folder:
        while done < executions and time.monotonic() < until:
            data = generator.choice(pool)
            for _ in range(generator.randint(0, 3)):
                data = target.mutate(data, generator, lambda data: change_bytes(data, generator))[:MAX_BYTES]
            try:
                message = target.run(data, folder)
                if peak() > memory:
                    raise Violation(f"expected at most {memory} MB, found {peak()}")
            except Exception:
                kept = Path(tempfile.gettempdir(), f"fuzz-{name}-{seed}-{done}")
                kept.write_bytes(data)
                print(f"violated by {kept}, {len(data)} bytes, beginning {data[:200]!r}", file=sys.stderr)
                raise
            done += 1
            accepted += message is None
            reason = None if message is None else "".join(each for each in message if not each.isdigit())[:60]
            if reason not in reasons:
                reasons.add(reason)
                pool = [*target.seeds, *pool[len(target.seeds) :][-RECENT:], data]
    return Fuzzed(done, accepted, done - accepted, len(reasons - {None}))


def guided(name: str, seed: int, seconds: int, memory: int) -> None:
    """Ends the process, with the fuzzer's own report."""
    import atheris

    with atheris.instrument_imports(include=["crh_train"]):
        target = importlib.import_module(MODULES[name]).TARGET
    with scratch() as folder, tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(target.seeds):
            Path(corpus, f"{number}").write_bytes(data)

        def mutate(data: bytes, max_size: int, seed: int) -> bytes:
            return target.mutate(data, random.Random(seed), lambda data: atheris.Mutate(data, max_size))[:max_size]

        options = (
            *(f"-max_total_time={seconds}", f"-rss_limit_mb={memory}", f"-max_len={MAX_BYTES}", f"-seed={seed + 1}"),
            *("-print_final_stats=1", "-timeout=10", f"-artifact_prefix={tempfile.gettempdir()}/fuzz-{name}-"),
        )
        atheris.Setup([sys.argv[0], *options, corpus], lambda data: target.run(data, folder), custom_mutator=mutate)
        atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=MODULES)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--memory", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if importlib.util.find_spec("atheris") is not None:
        guided(given.target, given.seed, round(given.minutes * 60), given.memory)
        return
    importlib.import_module(MODULES[given.target])
    print(f"atheris is not installed: at random. Imports take {peak()} MB")
    done = at_random(given.target, given.seed, time.monotonic() + given.minutes * 60, sys.maxsize, given.memory)
    print(
        f"{done.executions} executions, {done.accepted} accepted, {done.refused} refused for {done.reasons} reasons; "
        f"peak {peak()} MB"
    )


if __name__ == "__main__":
    main()
