"""Saving and loading a checkpoint next to safetensors and a plain write and read; and the stall that training sees.

    python scripts/bench/checkpoint.py [--megabytes 400] [--rounds 9] [--folder .]

All that is compared alternates within a round, in one process and on one disk; ratios are those of the medians to the
plain operation's. The page cache is warm before each read. What `safetensors` does not do is said beside it.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from crh_train import checkpoint, checkpoint_file
from crh_train.checkpoint import Checkpoint
from crh_train.chronicle import genesis
from crh_train.chronicle_writer import ChronicleWriter
from crh_train.digest import digest_bytes, digest_json
from crh_train.run_folder import Identity, RunFolder, StoredProgram
from crh_train.run_store import RunStore
from crh_train.saving import BackgroundSaver
from crh_train.state import HostState
from crh_train.types import StepRecord

ARRAYS = 100
STEP_SECONDS = 0.05
STEPS, SAVE_EVERY = 119, 20
"""Five saves, and as many steps after each: a second, in which a save is done unless the disk is slow."""


def make_arrays(megabytes: int) -> dict[str, np.ndarray]:
    """Gaussian float32 arrays of mixed sizes."""
    random = np.random.default_rng(0)
    shares = random.exponential(size=ARRAYS)
    sizes = np.maximum(shares / shares.sum() * megabytes * 2**20 / 4, 1).astype(int)
    return {f"array/{i:03d}": random.standard_normal(size, np.float32) for i, size in enumerate(sizes)}


# --- saving and loading --------------------------------------------------------------------------------------------


def plain_write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with path.open("wb", buffering=0) as stream:
        for array in arrays.values():
            left = array.view(np.uint8).data
            while left:
                left = left[stream.write(left) :]
        os.fsync(stream.fileno())


def safetensors_synced(path: Path, arrays: dict[str, np.ndarray]) -> None:
    safetensors.numpy.save_file(arrays, path)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def plain_read_into(path: Path) -> None:
    memory = np.empty(path.stat().st_size, np.uint8)
    with path.open("rb", buffering=0) as stream:
        if stream.readinto(memory.data) != memory.size:
            raise OSError(f"{path}: cut while it was read")


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(folder: Path, arrays: dict[str, np.ndarray], rounds: int) -> None:
    state = make_checkpoint(arrays)
    plain, tensors = folder / "plain", folder / "safetensors"
    ours = folder / f"e00000-s00000000-{checkpoint.checkpoint_hash(state)}.chk"
    saving: dict[str, tuple[Path, Callable[[], Any]]] = {
        "plain write + fsync": (plain, lambda: plain_write(plain, arrays)),
        "crh-train: hashed, synced": (ours, lambda: checkpoint.write(folder, state)),
        "safetensors: neither": (tensors, lambda: safetensors.numpy.save_file(arrays, tensors)),
        "safetensors + fsync": (tensors, lambda: safetensors_synced(tensors, arrays)),
    }
    loading: dict[str, tuple[Path, Callable[[], Any]]] = {
        "plain read": (plain, plain.read_bytes),
        "plain read into np.empty": (plain, lambda: plain_read_into(plain)),
        "crh-train: verified": (ours, lambda: checkpoint.read(ours)),
        "crh-train: verified, not kept": (ours, lambda: checkpoint_file.check(ours)),
        "safetensors: not verified": (tensors, lambda: safetensors.numpy.load_file(tensors)),
    }
    times: dict[str, list[float]] = {name: [] for name in (*saving, *loading)}
    for number in range(1 + rounds):
        for name, (path, work) in rotated(saving, number):
            path.unlink(missing_ok=True)
            os.sync()  # or the next one pays for giving the old file's blocks back
            times[name].append(seconds(work))
        for name, (path, work) in rotated(loading, number):
            with path.open("rb") as stream:
                while stream.read(1 << 20):
                    pass
            times[name].append(seconds(work))
    for title, names in (("save", saving), ("load, page cache warm", loading)):
        print(f"{title:<32}{'median':>9}   {'range':<17}{'ratio':>5}")
        reference = statistics.median(times[next(iter(names))][1:])
        for name in names:
            taken = times[name][1:]  # the first round warms up
            median = statistics.median(taken)
            print(
                f"  {name:<30}{median * 1e3:>6.0f} ms   {min(taken) * 1e3:>4.0f} to {max(taken) * 1e3:>4.0f} ms"
                f"{median / reference:>8.2f}"
            )


def rotated(named: Mapping[str, Any], number: int) -> list[tuple[str, Any]]:
    """So that none of them is always the first of its round."""
    items = list(named.items())
    return items[number % len(items) :] + items[: number % len(items)]


def make_checkpoint(arrays: Mapping[str, np.ndarray]) -> Checkpoint:
    """A third of the arrays is the model's, as with Adam."""
    host = make_state(arrays)
    return Checkpoint(
        model_state=host.model_state,
        optimizer_state=host.optimizer_state,
        rng_state=host.rng_state,
        step=0,
        epoch_index=0,
        config_hash="0" * 64,
        dataset_state="0" * 64,
        run_hash="0" * 64,
        seed=0,
        chronicle_offset=genesis("0" * 64),
        previous=None,
    )


def make_state(arrays: Mapping[str, np.ndarray]) -> HostState:
    names = sorted(arrays)
    model, optimizer = ({name: arrays[name] for name in part} for part in (names[: ARRAYS // 3], names[ARRAYS // 3 :]))
    return HostState(model, optimizer, np.array([0, 7], np.uint32), 0)


# --- the stall -----------------------------------------------------------------------------------------------------


def stalls(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """By how much the step that saves is longer than a usual one, and how late all steps until the next save are, that
    one included. A step either waits, as for an accelerator, or does a fixed work on one core."""
    print(f"\n{'stall':<56}{'first save':>12}{'later saves':>13}{'late in all':>13}")
    for number, (kind, step) in enumerate((("an accelerator's", waiting_step), ("one core's", computing_step()))):
        usual = statistics.median(loop(step, lambda _: None))
        for name, make in (("waiting", blocking), ("in the background", background)):
            taken = make(make_run(folder, 2 * number + (make is background)), arrays, step)
            begins = range(SAVE_EVERY - 1, STEPS, SAVE_EVERY)
            stalled = [taken[begin] - usual for begin in begins]
            late = [sum(taken[begin : begin + SAVE_EVERY]) - usual * SAVE_EVERY for begin in begins]
            print(
                f"  {f'{name}, {kind} steps of {usual * 1e3:.0f} ms':<54}{stalled[0] * 1e3:>9.0f} ms"
                f"{statistics.median(stalled[1:]) * 1e3:>10.0f} ms{statistics.median(late[1:]) * 1e3:>10.0f} ms"
            )


def waiting_step() -> None:
    time.sleep(STEP_SECONDS)


def computing_step() -> Callable[[], None]:
    """One operation, as a compiled step is: a loop in Python would keep the interpreter from the saving thread."""
    values = np.full(1 << 20, 0.5, np.float32)
    values = np.tile(values, max(1, round(STEP_SECONDS / min(seconds(lambda: np.tanh(values)) for _ in range(20)))))
    result = np.empty_like(values)
    return lambda: np.tanh(values, out=result)


def loop(step: Callable[[], None], after: Callable[[int], object]) -> Sequence[float]:
    """Seconds that each step took, with what came after it."""

    def both(number: int) -> None:
        step()
        after(number)

    return [seconds(lambda number=number: both(number)) for number in range(1, STEPS + 1)]


def record(step: int) -> StepRecord:
    zero = np.float32(0)
    return StepRecord(step, 0, step - 1, zero, zero, zero, zero, np.zeros(0, np.float32))


def blocking(run: tuple[RunFolder, Identity], arrays: Mapping[str, np.ndarray], step: Callable[[], None]) -> Any:
    folder, _ = run
    state = make_checkpoint(arrays)
    with ChronicleWriter(folder.path, genesis(folder.run_hash)) as writer:

        def after(number: int) -> None:
            writer.append(record(number), float(number))
            if number % SAVE_EVERY == 0:
                writer.flush()
                writer.sync()
                next(iter(arrays.values()))[0] = number  # or the next file would be the same one
                folder.save_checkpoint(state)

        return loop(step, after)


def background(run: tuple[RunFolder, Identity], arrays: Mapping[str, np.ndarray], step: Callable[[], None]) -> Any:
    folder, identity = run
    state = make_state(arrays)
    with (
        ChronicleWriter(folder.path, genesis(folder.run_hash)) as writer,
        BackgroundSaver(
            folder, identity, writer, steps_per_epoch=STEPS, previous=None, keep=None, saved=lambda _: None
        ) as saver,
    ):

        def after(number: int) -> None:
            line = record(number)
            writer.append(line, float(number))
            saver.after_step(line)
            if number % SAVE_EVERY == 0:
                saver.save(state._replace(step=number))

        return loop(step, after)


def make_run(folder: Path, seed: int) -> tuple[RunFolder, Identity]:
    config, manifest, data = {"name": "bench"}, {"files": []}, b"nothing"
    run = {
        "config_hash": digest_json(config),
        "dataset_state": digest_json(manifest),
        "seed": seed,
        "semantics_version": 1,
    }
    program = StoredProgram(
        {"functions": {"step": {"sha256": digest_bytes(data)}}, "steps_per_epoch": 1}, {"step": data}
    )
    identity = Identity(config, manifest, run)
    return RunStore(folder / "runs").create(run, config, manifest, {"program": program.digest}, program), identity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to measure")
    given = parser.parse_args()
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{given.megabytes} MiB in {ARRAYS} float32 arrays, {cores} cores, load {load:.1f}, {given.rounds} rounds")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=given.folder) as name:
        arrays = make_arrays(given.megabytes)
        compare(Path(name), arrays, given.rounds)
        stalls(Path(name), arrays)


if __name__ == "__main__":
    main()
