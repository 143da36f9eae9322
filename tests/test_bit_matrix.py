"""The bit matrix, each command in a process of its own: its quick diagonal as a test of portable arithmetic, and that
it finds what is not portable.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "bits.json"
CHEAP = "tissue_linear"
LIMIT = 900  # seconds after which a process hangs


def matrix(*words: str) -> subprocess.CompletedProcess[str]:
    """`scripts/bit_matrix.py`, among nothing of the variables that the tests run with."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XLA_", "JAX_", "PJRT_"))}
    command = [sys.executable, str(ROOT / "scripts" / "bit_matrix.py"), *words]
    return subprocess.run(command, env=kept, capture_output=True, text=True, timeout=LIMIT, check=False)


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


@pytest.mark.slow
def test_every_configuration_gives_the_recorded_bits_in_two_environments() -> None:
    done = matrix("--quick", "--compare", str(GOLDEN), "--json")
    assert done.returncode == 0, done.stderr
    ran = [case for row in document(done)["rows"] for case in row["cells"]]
    assert sorted(ran) == sorted(2 * list(document(done)["hashes"]))
    assert "attention" in ran
    assert set(ran) >= {path.stem for path in (ROOT / "conf").glob("*.yaml")} - {"base"}


@pytest.mark.slow
def test_stock_jax_gives_several_hashes_and_must() -> None:
    several = matrix("--stock", "--rows", "default", "SSE4_2", "--cases", CHEAP, "--json")
    assert several.returncode == 0, several.stderr
    assert len(document(several)["hashes"][CHEAP]) == 2
    one = matrix("--stock", "--rows", "default", "--cases", CHEAP)
    assert one.returncode == 1
    assert "stock JAX gives several hashes in 0 of 1 columns" in one.stderr


@pytest.mark.slow
def test_what_is_not_portable_is_found() -> None:
    done = matrix("--stock-in", "no fusion", "--rows", "default", "no fusion", "--cases", CHEAP, "--json")
    assert done.returncode == 1
    assert f"{CHEAP} differs on no fusion, from prepare" in done.stderr
    assert len(document(done)["hashes"][CHEAP]) == 2
    fusions = {row["row"]: row["facts"]["fusions"] for row in document(done)["rows"]}
    assert fusions["default"] > 0 == fusions["no fusion"]


@pytest.mark.slow
def test_bits_are_recorded_with_who_gave_them_and_compared(tmp_path: Path) -> None:
    file, picked = tmp_path / "bits.json", ("--rows", "default", "--cases", CHEAP)
    assert matrix(*picked, "--record", str(file)).returncode == 0
    ((version, recorded),) = json.loads(file.read_text()).items()
    (machine,) = recorded[CHEAP]["seen"]
    assert machine.endswith(f" cpu, jax {version}")
    file.write_text(json.dumps({version: {CHEAP: {**recorded[CHEAP], "bits": "0" * 64}}}))
    done = matrix(*picked, "--compare", str(file))
    assert done.returncode == 1
    assert f"{CHEAP} differs on default, from what is recorded" in done.stderr


@pytest.mark.slow
def test_an_environment_that_fails_is_no_agreement() -> None:
    done = matrix("--rows", "default", "--cases", CHEAP, "--python", "broken=/bin/false", "--json")
    assert done.returncode == 1
    assert "broken failed:\nexit status [1]" in done.stderr


@pytest.mark.parametrize("count", range(1, 13))
def test_the_diagonal_has_every_case_twice(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from matrix.rows import diagonal

    cases = [str(number) for number in range(count)]
    plan = diagonal(cases)
    assert all(len(set(chosen)) == len(chosen) for chosen in plan.values())
    assert sorted(case for chosen in plan.values() for case in chosen) == sorted(2 * cases)
