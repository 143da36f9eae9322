"""Compiled code on disk: never that of another environment, never with a bit changed, and never what a run stops at."""

import errno
import hashlib
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crh_train import compilation_cache
from crh_train.compilation_cache import CompiledCode, described
from crh_train.environment import settings

HERE, THERE = "0" * 64, "1" * 64
LIMIT = 1 << 20
KEY, CODE = "jit_step-0123", bytes(range(40))

CPU = """processor\t: {core}
vendor_id\t: GenuineIntel
model name\t: Xeon
stepping\t: 7
microcode\t: {microcode}
cpu MHz\t\t: 2100.{core}
core id\t\t: {core}
flags\t\t: fpu sse2 avx2 fma {flags}

"""

Damage = Callable[[bytes], bytes]
DAMAGES: Mapping[str, Damage] = {
    "empty": lambda entry: b"",
    "half a sum": lambda entry: entry[:16],
    "a sum alone": lambda entry: entry[:32],
    "cut by one byte": lambda entry: entry[:-1],
    "cut in half": lambda entry: entry[: len(entry) // 2],
    "a byte more": lambda entry: entry + b"\0",
    "zeros": lambda entry: bytes(len(entry)),
    "a page of zeros": lambda entry: entry[:48] + bytes(4096) + entry[48 + 4096 :],
    "a flipped bit in the sum": lambda entry: flipped(entry, 77),
    "a flipped bit in the middle": lambda entry: flipped(entry, len(entry) * 4),
    "a flipped last bit": lambda entry: flipped(entry, len(entry) * 8 - 1),
    "without its sum": lambda entry: entry[32:],
}


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def cache(tmp_path: Path) -> CompiledCode:
    return CompiledCode(tmp_path / "compiled", HERE, LIMIT)


@pytest.fixture
def entry(cache: CompiledCode, tmp_path: Path) -> Path:
    """The one file of `cache`, which has `CODE` under `KEY`."""
    cache.put(KEY, CODE)
    (path,) = files(tmp_path)
    return path


# --- the environment -----------------------------------------------------------------------------------------------


def machine(folder: Path, flags: str = "avx512f amx_int8", microcode: str = "0x1", odd_core: str | None = None) -> Path:
    path = folder / "cpuinfo"
    cores = [flags, flags if odd_core is None else odd_core]
    path.write_text("".join(CPU.format(core=i, flags=each, microcode=microcode) for i, each in enumerate(cores)))
    return path


def environment_of(folder: Path, threads: int = 2, devices: int = 1, environ: Any = (), **cpu: Any) -> dict[str, Any]:
    given = {"HOME": "/home", **dict(environ)}
    return described({**given, **settings(given, threads, devices)}, machine(folder, **cpu))


@pytest.mark.parametrize(
    "other",
    [
        {"threads": 3},
        {"devices": 2},
        {"environ": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"}},
        {"environ": {"XLA_FLAGS": "--xla_backend_optimization_level=0"}},
        {"environ": {"JAX_DEFAULT_DTYPE_BITS": "32"}},
        {"environ": {"CUDA_VISIBLE_DEVICES": "1"}},
        {"flags": ""},
        {"flags": "avx512f"},
        {"odd_core": "avx512f"},
        {"microcode": "0x2"},
    ],
    ids=str,
)
def test_another_environment_has_another_folder(tmp_path: Path, other: dict[str, Any]) -> None:
    assert environment_of(tmp_path, **other) != environment_of(tmp_path)


def test_the_same_environment_has_the_same_folder(tmp_path: Path) -> None:
    again = environment_of(tmp_path, environ={"HOME": "/elsewhere", "PATH": "/bin"})
    assert again == environment_of(tmp_path)
    # A replay sets the number of threads that the run found: it may have the run's code.
    own = compilation_cache.cores.available()
    assert environment_of(tmp_path, threads=0) == environment_of(tmp_path, threads=own)
    more = {"NPROC": str(own + 1)}
    assert environment_of(tmp_path, threads=0, environ=more) != environment_of(tmp_path, threads=0)
    fast = machine(tmp_path).read_text().replace("2100.", "3700.")
    (tmp_path / "cpuinfo").write_text(fast)
    assert described({}, tmp_path / "cpuinfo") == described({}, machine(tmp_path))


def test_other_software_has_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed(NamedTuple):
        name: str
        version: str
        record: str | None

        def read_text(self, _name: str) -> str | None:
            return self.record

    def described_with(*packages: Installed) -> dict[str, Any]:
        monkeypatch.setattr(compilation_cache, "distributions", lambda: packages)
        return environment_of(tmp_path)

    found = environment_of(tmp_path)
    assert {"jax", "jaxlib"} <= {name for name, _, _ in found["packages"]}
    jaxlib = Installed("jaxlib", "0.10.2", "jaxlib/_jax.so,sha256=abc,1")
    cudnn = Installed("nvidia-cudnn-cu12", "9.8", None)
    usual = described_with(jaxlib, cudnn)
    assert described_with(cudnn, jaxlib, Installed("numpy", "2.0", None)) == usual
    assert described_with(jaxlib._replace(version="0.10.3"), cudnn) != usual
    assert described_with(jaxlib._replace(record="jaxlib/_jax.so,sha256=abd,1"), cudnn) != usual
    assert described_with(jaxlib, cudnn._replace(version="9.9")) != usual
    assert described_with(jaxlib) != usual
    monkeypatch.setattr(sys, "version", "4.0")
    assert described_with(jaxlib, cudnn) != usual


def test_where_the_system_says_nothing_of_the_processor_the_machine_has_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = described({}, tmp_path / "none")
    monkeypatch.setattr("platform.node", lambda: "another")
    assert described({}, tmp_path / "none") != before


# --- entries -------------------------------------------------------------------------------------------------------


def test_what_was_put_is_got_and_nothing_else(cache: CompiledCode, tmp_path: Path) -> None:
    assert cache.get(KEY) is None
    cache.put(KEY, CODE)
    assert cache.get(KEY) == CODE
    assert cache.get(KEY + "0") is None
    assert CompiledCode(tmp_path / "compiled", HERE, LIMIT).get(KEY) == CODE
    assert CompiledCode(tmp_path / "compiled", THERE, LIMIT).get(KEY) is None
    cache.put(KEY, CODE[::-1])  # code that JAX could not load is replaced
    assert cache.get(KEY) == CODE[::-1]
    long = "jit_" + "/" * 5000
    cache.put(long, CODE)
    assert cache.get(long) == CODE


def test_every_flipped_bit_and_every_cut_is_found(
    cache: CompiledCode, entry: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = entry.read_bytes()
    wrong = [flipped(whole, bit) for bit in range(len(whole) * 8)]
    wrong += [whole[:length] for length in range(len(whole))] + [damage(whole) for damage in DAMAGES.values()]
    for damaged in wrong:
        caplog.clear()
        entry.write_bytes(damaged)
        assert cache.get(KEY) is None
        assert caplog.messages == [f"compiled code {entry} is damaged; it is removed and compiled again"]
        assert not entry.exists()
    cache.put(KEY, CODE)
    assert cache.get(KEY) == CODE


def test_an_entry_in_the_place_of_another_is_damaged(cache: CompiledCode, entry: Path, tmp_path: Path) -> None:
    content = entry.read_bytes()
    cache.put("other", CODE)
    (other,) = set(files(tmp_path)) - {entry}
    other.write_bytes(content)
    assert cache.get("other") is None
    there = CompiledCode(tmp_path / "compiled", THERE, LIMIT)
    there.put(KEY, CODE)
    assert there.get(KEY) == CODE
    (tmp_path / "compiled" / THERE / entry.name).write_bytes(content)
    assert there.get(KEY) is None
    assert cache.get(KEY) == CODE


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation_cache, "_RECOUNT_BYTES", 0)  # else a process counts what others write later
    root, size = tmp_path / "compiled", 32 + 68
    here, there = (CompiledCode(root, name, 10 * size) for name in (HERE, THERE))
    for number in range(8):
        (here if number % 2 else there).put(str(number), bytes(68))
        for path in files(root):  # the clock of a file system may stand still for milliseconds
            os.utime(path, ns=(path.stat().st_mtime_ns - 10**9,) * 2)
    used = [here.get("1"), there.get("2")]
    assert used == [bytes(68)] * 2
    here.put("big", bytes(500 - 32))
    kept = [here.get(key) for key in ("1", "3", "5", "7")] + [there.get(key) for key in ("0", "2", "4", "6")]
    assert [code is not None for code in kept] == [True, False, True, True, False, True, False, True]
    for number in range(100):
        here.put(f"more {number}", bytes(68))
        assert here.get(f"more {number}") == bytes(68)
        assert sum(path.stat().st_size for path in files(root)) <= 10 * size
    here.put("too big", bytes(10 * size))
    assert here.get("too big") is None
    assert here.get("more 99") is not None


def test_many_at_a_time_get_what_was_put_or_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = {str(number): hashlib.sha256(bytes([number])).digest() * 100 for number in range(20)}

    def work(seed: int) -> None:
        mine = CompiledCode(tmp_path / "compiled", HERE, 12 * 3300)  # not all of them have room
        for key in itertools.islice(itertools.cycle(values), seed, seed + 400):
            assert mine.get(key) in (None, values[key])
            mine.put(key, values[key])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(0, 20, 5)))
    assert caplog.messages == []
    assert not list(tmp_path.rglob(".writing-*"))


@pytest.mark.parametrize("failing", ["write", "replace"])
def test_a_full_disk_is_noted_once_and_leaves_no_half_entry(
    cache: CompiledCode, entry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str,
    caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if failing == "replace":
        monkeypatch.setattr(os, "replace", full)
    else:
        monkeypatch.setattr(cache, "_sum", lambda *_: full())
    cache.put("more", CODE)
    cache.put("more yet", CODE)
    assert caplog.messages == [f"compiled code is not kept in {entry.parent}: No space left on device"]
    monkeypatch.undo()
    assert files(tmp_path) == [entry]
    assert cache.get(KEY) == CODE


def test_a_folder_that_vanishes_stops_nobody(
    cache: CompiledCode, entry: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(entry.parents[1])
    assert cache.get(KEY) is None
    cache.put(KEY, CODE)
    assert caplog.messages == []


# --- whose folder --------------------------------------------------------------------------------------------------


def test_the_folder_is_made_for_the_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        CompiledCode(tmp_path / "compiled", HERE, LIMIT).put(KEY, CODE)
    finally:
        os.umask(before)
    made = [tmp_path / "compiled", tmp_path / "compiled" / HERE]
    assert [path.stat().st_mode & 0o777 for path in (*made, *files(tmp_path))] == [0o700, 0o700, 0o600]


@pytest.mark.parametrize("below", ["compiled", f"compiled/{HERE}"])
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, below: str, mode: int) -> None:
    CompiledCode(tmp_path / "compiled", HERE, LIMIT)
    (tmp_path / below).chmod(mode)
    with pytest.raises(PermissionError, match="others can write to it"):
        CompiledCode(tmp_path / "compiled", HERE, LIMIT)


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CompiledCode(tmp_path / "compiled", HERE, LIMIT)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError, match="others can write to it"):
        CompiledCode(tmp_path / "compiled", HERE, LIMIT)


def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "compiled").symlink_to(tmp_path / "real")
    with pytest.raises(NotADirectoryError):
        CompiledCode(tmp_path / "compiled", HERE, LIMIT)
