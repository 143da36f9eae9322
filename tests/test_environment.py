"""What must be set before JAX starts, what is refused, and what the fingerprint of machine and software tells apart."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from training_samples import outputs, start_python

from crh_train import environment
from crh_train.environment import (
    VARIABLES,
    XLA_FLAGS,
    cache_folder,
    configure,
    differences,
    fingerprint_digest,
    settings,
    thread_count,
)
from crh_train.errors import EnvironmentRefused

OURS = [f"{name}={value}" for name, value in XLA_FLAGS.items()]


def refusal(environ: dict[str, str], devices: int = 1) -> str:
    with pytest.raises(EnvironmentRefused) as raised:
        settings(environ, threads=0, devices=devices)
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- settings ------------------------------------------------------------------------------------------------------


def test_an_empty_environment_gets_every_flag_and_variable() -> None:
    assert settings({}, threads=0, devices=1) == {"XLA_FLAGS": " ".join(OURS), **VARIABLES}


def test_the_flags_are_the_ones_that_determinism_needs() -> None:
    assert "--xla_gpu_deterministic_ops=true" in OURS
    assert "--xla_gpu_exclude_nondeterministic_ops=true" in OURS
    assert "--xla_gpu_autotune_level=0" in OURS
    assert "--xla_cpu_enable_fast_math=false" in OURS


def test_the_users_flags_stay_as_they_are_in_front() -> None:
    user = "--xla_dump_to=/tmp/x  --xla_gpu_deterministic_ops --xla_cpu_enable_fast_math=0"
    found = settings({"XLA_FLAGS": user}, threads=0, devices=1)["XLA_FLAGS"].split()
    assert found[:3] == user.split()
    assert found[3:] == ["--xla_gpu_exclude_nondeterministic_ops=true", "--xla_gpu_autotune_level=0"]


def test_settings_twice_change_nothing_more() -> None:
    once = settings({"XLA_FLAGS": "--xla_dump_to=/tmp/x"}, threads=3, devices=2)
    assert settings(once, threads=3, devices=2) == once


def test_threads_and_devices_are_set_where_they_are_asked_for() -> None:
    found = settings({"PJRT_NPROC": "9"}, threads=3, devices=4)
    assert found["PJRT_NPROC"] == "3"
    assert found["XLA_FLAGS"].split()[-1] == "--xla_force_host_platform_device_count=4"
    left_alone = settings({"PJRT_NPROC": "9"}, threads=0, devices=1)
    assert "PJRT_NPROC" not in left_alone
    assert "device_count" not in left_alone["XLA_FLAGS"]


@pytest.mark.parametrize(("name", "value"), XLA_FLAGS.items())
def test_a_flag_that_contradicts_ours_is_refused_by_name(name: str, value: str) -> None:
    other = {"true": "false", "false": "true", "0": "4"}[value]
    said = refusal({"XLA_FLAGS": f"--xla_dump_to=/tmp/x {name}={other}"})
    assert said == f"XLA_FLAGS has {name}={other}, which breaks determinism; remove it ({name}={value})"


def test_a_flag_given_twice_is_refused_for_either() -> None:
    name = "--xla_gpu_deterministic_ops"
    assert f"has {name}=false" in refusal({"XLA_FLAGS": f"{name}=true {name}=false"})
    assert f"has {name}=false" in refusal({"XLA_FLAGS": f"{name}=false {name}=true"})


def test_a_bare_flag_means_true() -> None:
    assert "--xla_cpu_enable_fast_math, which breaks" in refusal({"XLA_FLAGS": "--xla_cpu_enable_fast_math"})


@pytest.mark.parametrize("word", ["/etc/flags", "stray", "-xla_cpu_enable_fast_math=true", "'--xla_dump_to=x'"])
def test_what_makes_xla_stop_reading_its_flags_is_refused(word: str) -> None:
    """After such a word XLA ignores the rest, ours included, or takes the whole for a file's name."""
    assert refusal({"XLA_FLAGS": f"--xla_dump_to=x {word}"}).startswith(f"XLA_FLAGS has {word!r}, expected only --NAME")


@pytest.mark.parametrize(("name", "value"), VARIABLES.items())
def test_a_variable_that_contradicts_ours_is_refused_by_name(name: str, value: str) -> None:
    other = {"0": "1", "1": "0"}[value] if value in "01" else "bfloat16"
    assert refusal({name: other}) == f"{name}={other} breaks determinism; unset it, or set {name}={value}"


@pytest.mark.parametrize(("name", "value"), [("JAX_ENABLE_X64", "False"), ("JAX_DEFAULT_MATMUL_PRECISION", "HIGHEST")])
def test_a_variable_that_says_the_same_in_other_words_is_accepted(name: str, value: str) -> None:
    assert settings({name: value}, threads=0, devices=1)[name] == VARIABLES[name]


@pytest.mark.parametrize("devices", [1, 4])
def test_another_number_of_devices_is_refused_in_favour_of_the_key(devices: int) -> None:
    said = refusal({"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}, devices)
    assert said.endswith("remove it and give runtime.devices=2 instead")


def test_configuring_after_jax_was_imported_is_refused_unless_all_is_set() -> None:
    import jax  # noqa: F401 - it is what must come after

    with pytest.raises(EnvironmentRefused, match="JAX was imported before its deterministic settings"):
        configure({}, threads=0, devices=1)
    ready = settings({}, threads=2, devices=1)
    configure(ready, threads=2, devices=1)
    with pytest.raises(EnvironmentRefused, match="JAX was imported"):
        configure(ready, threads=3, devices=1)


# --- fingerprint ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "threads"),
    [
        ({"PJRT_NPROC": "3", "NPROC": "5"}, 3),
        ({"NPROC": "5"}, 5),
        ({"PJRT_NPROC": "many", "NPROC": " 5"}, 5),
        ({}, len(os.sched_getaffinity(0))),
        ({"PJRT_NPROC": "", "NPROC": ""}, len(os.sched_getaffinity(0))),
    ],
)
def test_threads_are_counted_as_xla_counts_them(environ: dict[str, str], threads: int) -> None:
    assert thread_count(environ) == threads


FINGERPRINT = """
import json, os, sys
from crh_train import environment

assert "jax" not in sys.modules
environment.configure(os.environ, threads={threads}, devices={devices})
found = environment.fingerprint(os.environ, {devices})
import jax

config = jax.config
print(json.dumps([found, config.jax_enable_x64, config.jax_default_matmul_precision, config.jax_default_prng_impl,
                  config.jax_threefry_partitionable, len(jax.devices())]))
"""


def test_fingerprints_differ_by_threads_devices_and_flags_and_by_nothing_else() -> None:
    usual = FINGERPRINT.format(threads=2, devices=1)
    processes = [
        start_python(usual, JAX_LOG_COMPILES="0"),
        start_python(usual),
        start_python(FINGERPRINT.format(threads=3, devices=1)),
        start_python(FINGERPRINT.format(threads=2, devices=2)),
        start_python(usual, XLA_FLAGS="--xla_backend_optimization_level=1"),
    ]
    answers = [json.loads(output) for output in outputs(*processes)]
    for _, *jax_settings, count in answers:
        assert jax_settings == [False, "highest", "threefry2x32", True]
        assert count in (1, 2)
    first, same, threads, devices, flags = (answer[0] for answer in answers)
    assert same == first
    assert fingerprint_digest(same) == fingerprint_digest(first)
    assert len({fingerprint_digest(each) for each in (first, threads, devices, flags)}) == 4
    assert differences(first, threads) == ["threads: 2 in the run, 3 here"]
    assert [line.split(":")[0] for line in differences(first, devices)] == ["devices.count", "xla_flags"]
    assert flags["xla_flags"] == ["--xla_backend_optimization_level=1", *OURS]
    assert first["software"].keys() == {"jax", "jaxlib", "numpy", "optax"}
    assert first["cpu"]["model"]
    assert first["cpu"]["features"]


CPUS = {
    "x86": (
        "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel\t\t: 85\nmodel name\t: Xeon\nstepping\t: 7\n"
        "flags\t\t: fpu avx2 avx512f fma sse4_2\n\nprocessor\t: 1\nmodel name\t: Other\n",
        "GenuineIntel 85 Xeon 7",
        ["avx2", "avx512f", "fma", "sse4_2"],
    ),
    "arm": (
        "processor\t: 0\nFeatures\t: fp asimd sve bf16 crc32\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n",
        "0x41 0xd40",
        ["asimd", "bf16", "sve"],
    ),
}


@pytest.mark.parametrize(("cpuinfo", "model", "features"), CPUS.values(), ids=CPUS)
def test_the_processor_is_its_model_and_its_instruction_set(
    tmp_path: Path, cpuinfo: str, model: str, features: list[str]
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    found = environment._cpu(tmp_path / "cpuinfo")
    assert (found["model"], found["features"]) == (model, features)


def test_a_machine_without_cpuinfo_still_has_a_fingerprint(tmp_path: Path) -> None:
    assert environment._cpu(tmp_path / "cpuinfo").keys() == {"architecture", "system", "model", "features"}


# --- differences ---------------------------------------------------------------------------------------------------

RECORDED: dict[str, Any] = {"threads": 2, "software": {"jax": "0.10.2", "numpy": "2.3"}, "xla_flags": ["--a=1"]}
OTHER: dict[str, Any] = {"threads": 4, "software": {"jax": "0.11.0", "optax": "0.2"}, "xla_flags": ["--a=1"]}


def test_the_same_fingerprint_differs_in_nothing() -> None:
    assert differences(RECORDED, json.loads(json.dumps(RECORDED))) == []


def test_each_difference_is_said_in_words() -> None:
    assert differences(RECORDED, OTHER) == [
        "software.jax: 0.10.2 in the run, 0.11.0 here",
        "software.numpy: present in the run, not so here",
        "software.optax: absent in the run, not so here",
        "threads: 2 in the run, 4 here",
    ]


def test_the_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder({"XDG_CACHE_HOME": "/caches"}) == Path("/caches/crh-train")
    for nothing in ({}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "relative"}):
        assert cache_folder(nothing) == tmp_path / ".cache" / "crh-train"


def test_who_has_no_home_has_no_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder({}) is None
