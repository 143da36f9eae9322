r"""Checkpoints: all that a run needs to go on, in one write-once file named by its hash. NumPy only, and no pickle:
reading one never runs code.

Format 1 of `.chk`; integers are little-endian:

     8 bytes  magic, `CRHCHK\r\n`: a transfer that rewrites line ends breaks it
     4 bytes  format version, 1
     8 bytes  length of the header
    32 bytes  SHA-256 of the header
        …     header
        …     payload

1. A checkpoint MUST be a regular file that ends where its payload ends.
2. The header MUST be at most 16 MiB of msgpack: a map of exactly the fields of `CheckpointHeader`, keys sorted, every
   value in its shortest encoding, without ext types; that is, packing what was unpacked gives the same bytes. No list
   but `arrays` is longer than 32, and `arrays` not than 16,384.
3. `arrays` lists the arrays, each a map `{dtype, name, offset, section, sha256, shape, size}`, by section (`model`,
   then `optimizer`) and then by name, strictly increasing. The first offset is 0, each next one is where the array
   before ends, and the last array ends where the payload does. `size` MUST be the shape times the size of the dtype,
   and the dtype one of `DTYPES`.
4. `sha256` holds the SHA-256 of each piece of 4 MiB (the last may be shorter) of the array, 32 bytes each, in order.
5. Elements are stored little-endian, in C order.
6. The file's name MUST be `e<epoch_index>-s<step>-<hash>.chk`, the numbers padded to 5 and 8 digits.

The hash of a checkpoint, SHA256(model + optimizer + RNG + config), is the SHA-256 of the canonical JSON (RFC 8785) of

    {"config": config_hash, "model": [[name, dtype, shape, sha256], …], "optimizer": [the same, …],
     "rng": {"epoch_index": …, "rng_state": […], "step": …}}

with `sha256` as in 4, in hexadecimal. The counters belong to the RNG because every random number is drawn from
(`rng_state`, counter). It leaves out `previous` and `chronicle_offset`, so that one state has one hash; and because it
is made of the pieces' hashes, an auditor who holds it can check the header alone, or one piece of one array.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from crh_train import checkpoint_file, filesystem
from crh_train.checkpoint_file import sha256, with_prefix
from crh_train.checkpoint_header import (
    DIGEST_BYTES,
    DTYPES,
    PIECE_BYTES,
    SECTIONS,
    ArrayEntry,
    CheckpointHeader,
    dtype_named,
    pack,
    piece_count,
    unpack,
)
from crh_train.chronicle import ChronicleOffset
from crh_train.cores import thread_pool
from crh_train.digest import little_endian
from crh_train.errors import CorruptCheckpoint


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A run's whole state after a step, and where it belongs."""

    model_state: Mapping[str, np.ndarray]  # by parameter name
    optimizer_state: Mapping[str, np.ndarray]  # by path in the optimizer's state
    rng_state: np.ndarray  # uint32 [n], the root key's words
    step: int  # optimizer steps done
    epoch_index: int  # epochs finished
    config_hash: str
    dataset_state: str
    run_hash: str
    seed: int
    chronicle_offset: ChronicleOffset  # the chronicle's end after this step
    previous: str | None  # the hash of the checkpoint before this one; None for a run's first


def checkpoint_hash(checkpoint: Checkpoint) -> str:
    """SHA256(model + optimizer + RNG + config), 64 hexadecimal digits; its bytes stand in the module's docstring."""
    payload = _payload(checkpoint)
    with thread_pool() as pool:
        return _header(checkpoint, payload, pool.map(sha256, _pieces(payload))).hash


class Arrays(Protocol):
    """What a state is made of; `Checkpoint` and `state.HostState` have it."""

    @property
    def model_state(self) -> Mapping[str, np.ndarray]: ...
    @property
    def optimizer_state(self) -> Mapping[str, np.ndarray]: ...
    @property
    def rng_state(self) -> np.ndarray: ...


def named_arrays(state: Arrays) -> dict[str, np.ndarray]:
    """Every array of a state under a name for people: model, optimizer, root key; each section by name."""
    sections = (("model", state.model_state), ("optimizer", state.optimizer_state))
    arrays = {f"{section} {name}": found[name] for section, found in sections for name in sorted(found)}
    return {**arrays, "root key": state.rng_state}


# --- writing -------------------------------------------------------------------------------------------------------


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Publish `checkpoint` in `folder` under its own name; when this returns, it survives a loss of power.

    The same checkpoint gives the same bytes; where its file is there already, nothing changes. The chronicle MUST
    have been synced up to `chronicle_offset` before.

    Raises:
      CorruptCheckpoint: the name is taken by other bytes, or `checkpoint` holds what the format cannot.
      StorageFailed: the disk refused; nothing was published.
    """
    payload = _payload(checkpoint)
    try:
        blank = pack(_header(checkpoint, payload, (bytes(DIGEST_BYTES) for _ in _pieces(payload))))
        unpack(blank)
    except (ValueError, OverflowError) as error:
        raise CorruptCheckpoint(f"checkpoint at step {checkpoint.step} cannot be stored: {error}") from error
    with thread_pool() as pool, filesystem.NewFile(folder) as file:
        hashes = pool.map(sha256, _pieces(payload))  # runs while the payload is being written
        file.write(bytes(len(with_prefix(blank))))
        for piece in _pieces(payload):
            file.write(piece)
        header = _header(checkpoint, payload, hashes)
        packed = pack(header)
        file.write_at_start(with_prefix(packed))
        path = folder / header.file_name
        if not file.publish(path.name):
            if not _holds(path, packed):
                raise CorruptCheckpoint(f"{path}: is there already, with other bytes; move it away and resume the run")
            filesystem.fsync_folder(folder)  # a crash may have come between its rename and its folder's sync
    return path


def _holds(path: Path, packed: bytes) -> bool:
    """Whether the file at `path` is whole and has this header, and so every byte of the payload too."""
    try:
        return pack(checkpoint_file.check(path)) == packed
    except CorruptCheckpoint:
        return False


_Payload = Sequence[tuple[str, str, np.ndarray]]


def _payload(checkpoint: Checkpoint) -> _Payload:
    """Section, name and little-endian array, in the order of the payload."""
    sections = zip(SECTIONS, (checkpoint.model_state, checkpoint.optimizer_state), strict=True)
    ordered = [(section, name, arrays[name]) for section, arrays in sections for name in sorted(arrays)]
    for section, name, array in ordered:
        if array.dtype.name not in DTYPES:
            raise CorruptCheckpoint(f"{section} array '{name}': expected one of {', '.join(DTYPES)}, got {array.dtype}")
    return [(section, name, little_endian(array)) for section, name, array in ordered]


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _pieces(payload: _Payload) -> Iterable[memoryview]:
    for _, _, array in payload:
        for begin in range(0, array.nbytes, PIECE_BYTES):
            yield _bytes(array)[begin : begin + PIECE_BYTES]


def _header(checkpoint: Checkpoint, payload: _Payload, hashes: Iterable[bytes]) -> CheckpointHeader:
    remaining = iter(hashes)
    entries: list[ArrayEntry] = []
    offset = 0
    for section, name, array in payload:
        entries.append(
            ArrayEntry(
                dtype=array.dtype.name,
                name=name,
                offset=offset,
                section=section,
                sha256=b"".join(next(remaining) for _ in range(piece_count(array.nbytes))),
                shape=array.shape,
                size=array.nbytes,
            )
        )
        offset += array.nbytes
    if checkpoint.rng_state.dtype != np.uint32 or checkpoint.rng_state.ndim != 1:
        raise CorruptCheckpoint(
            f"rng_state: expected uint32 [n], got {checkpoint.rng_state.dtype}{checkpoint.rng_state.shape}"
        )
    return CheckpointHeader(
        arrays=entries,
        chronicle_offset=checkpoint.chronicle_offset,
        config_hash=checkpoint.config_hash,
        dataset_state=checkpoint.dataset_state,
        epoch_index=checkpoint.epoch_index,
        previous=checkpoint.previous,
        rng_state=checkpoint.rng_state.tolist(),
        run_hash=checkpoint.run_hash,
        seed=checkpoint.seed,
        step=checkpoint.step,
    )


# --- reading -------------------------------------------------------------------------------------------------------


def read(path: Path) -> Checkpoint:
    """The checkpoint at `path`, every byte of it checked; arrays are read-only.

    Raises `CorruptCheckpoint` naming the file and the place in it.
    """
    header, payload = checkpoint_file.read(path)
    states: dict[str, dict[str, np.ndarray]] = {section: {} for section in SECTIONS}
    for entry, buffer in zip(header.arrays, payload, strict=True):
        array = buffer.view(dtype_named(entry.dtype)).reshape(entry.shape)
        array.flags.writeable = False
        states[entry.section][entry.name] = array
    return Checkpoint(
        model_state=states["model"],
        optimizer_state=states["optimizer"],
        rng_state=np.asarray(header.rng_state, np.uint32),
        step=header.step,
        epoch_index=header.epoch_index,
        config_hash=header.config_hash,
        dataset_state=header.dataset_state,
        run_hash=header.run_hash,
        seed=header.seed,
        chronicle_offset=header.chronicle_offset,
        previous=header.previous,
    )
