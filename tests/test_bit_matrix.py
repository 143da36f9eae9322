"""The bit matrix: its quick diagonal as a test of portable arithmetic, and that it finds what is not portable.

Each environment is measured in processes of its own. Where only what is made of a measurement is the subject, several
tests look at one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import made_once

from crh_train.compose import choices, compose, packaged_conf

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "bits.json"
CHEAP = "tissue_linear"
LIMIT = 900  # seconds after which a process hangs
ORDER = (CHEAP, "chromatic", "tissue_3d", "mri_cosine", "temporal", "attention", "mri_step")
"""The first is in every environment. The U-Net is the one for eight devices, and what is quick to compile for two
processes, which do so twice.
"""
IN_FULL_ONLY = {"mri_denoise", "mri_superres"}  # the models of mri_step and mri_cosine; `make matrix` runs them too


def matrix(*words: str) -> subprocess.CompletedProcess[str]:
    """`scripts/bit_matrix.py`, among nothing of the variables that the tests run with."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XLA_", "JAX_", "PJRT_"))}
    command = [sys.executable, str(ROOT / "scripts" / "bit_matrix.py"), *words]
    return subprocess.run(command, env=kept, capture_output=True, text=True, timeout=LIMIT, check=False)


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


@pytest.mark.slow
def test_every_configuration_gives_the_recorded_bits_in_a_foreign_environment() -> None:
    """What is recorded was the same in all environments of `make matrix`."""
    done = matrix("--quick", "--cases", *ORDER, "--compare", str(GOLDEN), "--json")
    assert done.returncode == 0, done.stderr
    ran = [case for row in document(done)["rows"] for case in row["cells"]]
    assert sorted(ran) == sorted([*document(done)["hashes"], *4 * [CHEAP]])
    assert "attention" in ran
    conf = [packaged_conf()]
    without_a_folder = {name for name in choices(conf) if compose(name, [], conf).data.name == "mni152"}
    assert set(ran) >= without_a_folder - IN_FULL_ONLY


@pytest.mark.slow
def test_stock_jax_gives_several_hashes_and_must() -> None:
    several = matrix("--stock", "--rows", "default", "SSE4_2", "--cases", CHEAP, "--json")
    assert several.returncode == 0, several.stderr
    assert len(document(several)["hashes"][CHEAP]) == 2


@pytest.mark.slow
def test_what_is_not_portable_is_found(measured_once: dict[str, Any]) -> None:
    assert measured_once["status"] == 1
    assert f"{CHEAP} differs on no fusion, from prepare" in measured_once["said"]
    assert len(measured_once["hashes"][CHEAP]) == 2
    fusions = {row["row"]: row["facts"]["fusions"] for row in measured_once["rows"]}
    assert fusions["default"] > 0 == fusions["no fusion"]


@pytest.fixture(scope="module")
def measured_once(shared: Path) -> dict[str, Any]:
    """What one command found of one case, which was portable in one environment and stock JAX in another."""

    def make(folder: Path) -> None:
        done = matrix("--stock-in", "no fusion", "--rows", "default", "no fusion", "--cases", CHEAP, "--json")
        found = {**document(done), "status": done.returncode, "said": done.stderr}
        (folder / "found.json").write_text(json.dumps(found))

    found: dict[str, Any] = json.loads((made_once(shared / "matrix", make) / "found.json").read_text())
    return found


@pytest.fixture
def matrix_again(measured_once: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command in this process, to which the environment `default` gives what it gave before; none is traced."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import bit_matrix
    from matrix.rows import Cell, Measured

    (row,) = [each for each in measured_once["rows"] if each["row"] == "default"]
    default = Measured(**{**row, "cells": {case: Cell(**cell) for case, cell in row["cells"].items()}})
    measure = bit_matrix.measure

    def measured(row: Any, *rest: Any) -> Any:
        return default if row.name == default.row else measure(row, *rest)

    def main(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["bit_matrix.py", "--rows", "default", "--cases", CHEAP, *words])
        status: int = bit_matrix.main()
        return status

    monkeypatch.setattr(bit_matrix, "measure", measured)
    monkeypatch.setattr("matrix.cases.write", lambda *_: None)
    monkeypatch.setattr(os, "environ", dict(os.environ))  # it sets variables
    return main


@pytest.mark.slow
def test_bits_are_recorded_with_who_gave_them_and_compared(
    matrix_again: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = tmp_path / "recorded.json"
    assert matrix_again("--record", str(recorded)) == 0
    ((version, found),) = json.loads(recorded.read_text()).items()
    (machine,) = found[CHEAP]["seen"]
    assert machine.endswith(f" cpu, jax {version}")
    assert matrix_again("--compare", str(recorded)) == 0
    assert "one hash in each column" in capsys.readouterr().err
    file = tmp_path / "bits.json"
    file.write_text(json.dumps({version: {CHEAP: {**found[CHEAP], "bits": "0" * 64}}}))
    assert matrix_again("--compare", str(file)) == 1
    assert f"{CHEAP} differs on default, from what is recorded" in capsys.readouterr().err


@pytest.mark.slow
def test_an_environment_that_fails_is_no_agreement(
    matrix_again: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert matrix_again() == 0
    assert matrix_again("--python", "broken=/bin/false", "--json") == 1
    assert "broken failed:\nexit status [1]" in capsys.readouterr().err


@pytest.mark.slow
def test_one_hash_of_stock_jax_is_a_failure(
    matrix_again: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever gave it: the matrix of stock JAX shows that several can be seen, or nothing."""
    assert matrix_again("--stock") == 1
    assert "stock JAX gives several hashes in 0 of 1 columns" in capsys.readouterr().err


@pytest.mark.parametrize("count", range(1, 13))
def test_the_diagonal_has_every_case_and_the_first_one_everywhere(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from matrix.rows import QUICK, diagonal

    first, *others = [str(number) for number in range(count)]
    plan = diagonal([first, *others])
    assert all(plan[name][0] == first for name in QUICK)
    assert sorted(case for chosen in plan.values() for case in chosen[1:]) == sorted(others)


def test_a_diagonal_that_is_compared_with_nothing_is_refused() -> None:
    done = matrix("--quick")
    assert done.returncode == 2
    assert "--quick runs most cases once, so it shows something only with --compare FILE" in done.stderr
