"""`diff` and `compare` in processes of their own, of real runs: what they say, how they exit, what they leave alone."""

import csv
import dataclasses
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import STEPS_PER_EPOCH, contents, copied, crh, document, refused
from conftest import Made
from forged_runs import rewritten, ulp_up

from crh_train.chronicle import ChronicleRecord
from crh_train.cli.diff import told
from crh_train.divergence import array_difference
from crh_train.document_difference import Entry
from crh_train.first_operation import Evaluated, FirstOperation
from crh_train.run_store import RunFolder


def bare(env: dict[str, str], folder: Path) -> dict[str, str]:
    """`env`, in which JAX cannot be imported."""
    for name in ("jax", "jaxlib", "optax"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')\n")
    return {**env, "PYTHONPATH": f"{folder}{os.pathsep}{env['PYTHONPATH']}"}


# --- diff ----------------------------------------------------------------------------------------------------------


def test_one_run_in_two_stores_is_identical(finished: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    copied(finished, tmp_path / "other")
    words = ("diff", finished.name[:6], finished.name[:6], "--runs", finished.path.parent, "--runs-b", "other")
    said = crh(*words, env=bare(env, tmp_path), cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    heading, run, *told = said.stdout.splitlines()
    assert (heading.split(), run.split()) == (["A", "B"], ["run", finished.name, finished.name])
    assert told == [
        "compared  18 steps, 3 checkpoints",
        "verdict   identical: no bit of chronicle and checkpoints differs",
        f"next: crh-train show {finished.name} --runs other",
    ]


def test_another_seed_is_told_and_nothing_else(
    finished: RunFolder, other_seed: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    before = contents(other_seed.path.parent)
    words = ("diff", finished.name, other_seed.name, "--runs", finished.path.parent, "--runs-b", other_seed.path.parent)
    said = crh(*words, "--json", env=bare(env, tmp_path), cwd=tmp_path)
    found = document(said)
    assert (said.returncode, said.stderr) == (1, "")
    assert found["configuration"] == [{"key": "engine.seed", "a": 0, "b": 1}]
    assert (found["data"], found["environment"], found["program"]) == ([], [], [])
    assert (found["chronicle"][0]["step"], found["chronicle"][0]["field"]) == (1, "loss")
    assert found["chronicle"][0]["a"] == str(finished.chronicle()[0].loss)
    assert found["state"]["step"] == STEPS_PER_EPOCH
    assert found["operation"] is None
    text = crh(*words, env=bare(env, tmp_path), cwd=tmp_path)
    assert text.returncode == 1
    assert [line.split() for line in text.stdout.splitlines() if "seed" in line] == [
        ["configuration", "engine.seed", "0", "1"]
    ]
    assert text.stdout.endswith(
        f"next: crh-train diff {finished.name} {other_seed.name} --runs {finished.path.parent} "
        f"--runs-b {other_seed.path.parent} --operation\n"
    )
    assert contents(other_seed.path.parent) == before


def test_an_operation_is_told_with_its_line_its_cause_and_what_it_gives() -> None:
    a = Evaluated(
        "mul", "crh_train/loss_functions.py:9 (mse)", "jvp()", ("%1", "0.5"), {}, ("float32[]",), ("x",), False
    )
    found = FirstOperation(
        kind="operation",
        begun_after=6,
        step=8,
        function="step",
        reproduced=(True, True),
        made_otherwise=((), ("step",)),
        number=457,
        a=a,
        b=a._replace(operands=("%1", "2.0"), digests=("y",)),
        causes=(Entry("operand 2", {"a": "0.5", "b": "2.0"}),),
        result=array_difference("result 1", np.float32(1)[None], np.float32(4)[None]),
    )
    assert told(found) == [
        ("operation", "in step 8, number 457 of step: mul at crh_train/loss_functions.py:9 (mse), jvp()"),
        ("is not", "operand 2: 0.5 in A, 2.0 in B"),
        ("gives", "result 1[0]: 1.0 in A, 4.0 in B (16777216 ulp)"),
        ("caution", "operations are today's code's; B was archived with another step"),
    ]
    same = dataclasses.replace(found, causes=(), b=a, made_otherwise=((), ()))
    assert told(same)[1] == ("is", "the same operation of the same operands: only how it was computed differs")


def test_another_seed_parts_in_the_root_key(
    finished: RunFolder, other_seed: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    words = ("diff", finished.name, other_seed.name, "--runs", finished.path.parent, "--runs-b", other_seed.path.parent)
    said = crh(*words, "--operation", env=env, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (1, "")
    assert "operation  none yet: before the first step the input differs\n" in said.stdout
    assert "input      root key[1]: 0 in A, 1 in B (1 of 2 elements)\n" in said.stdout


def test_a_record_that_no_program_gives_is_told_from_the_run_that_is_true(
    finished: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    def edit(record: ChronicleRecord) -> ChronicleRecord:
        return record._replace(loss=ulp_up(record.loss)) if record.step == STEPS_PER_EPOCH + 2 else record

    forged = rewritten(finished, tmp_path / "forged", edit_line=edit)
    words = ("diff", finished.name, finished.name, "--runs", finished.path.parent, "--runs-b", "forged", "--operation")
    said = crh(*words, env=env, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (1, "")
    step = STEPS_PER_EPOCH + 2
    assert f"parted     by step {step}; before it they share the checkpoint of step {STEPS_PER_EPOCH}\n" in said.stdout
    assert "operation  none: done again here, both give the same bits, which are not those of B\n" in said.stdout, (
        said.stdout
    )
    assert said.stdout.endswith(f"next: crh-train replay {forged.argument.replace(str(tmp_path) + '/', '')}\n")


def test_what_the_processes_refuse_is_one_error(
    finished: RunFolder, other_seed: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    words = ("diff", finished.name, other_seed.name, "--runs", finished.path.parent, "--runs-b", other_seed.path.parent)
    said = refused(crh(*words, "runtime.nothing=1", "--operation", env=env, cwd=tmp_path), 2)
    assert "unknown key 'runtime.nothing'" in said


# --- compare -------------------------------------------------------------------------------------------------------


def table(text: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_store_is_compared_over_seeds(swept: Made, env: dict[str, str], tmp_path: Path) -> None:
    words = ("compare", "--runs", swept.folder / "runs")
    said = crh(*words, env=bare(env, tmp_path), cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    heading, row, following = said.stdout.splitlines()
    assert heading.split() == ["seeds", "psnr", "ssim", "nmse", "mse", "loss"]
    assert row.split()[0] == "2"
    assert row.count(" ± ") == 5
    assert following.startswith("next: crh-train show ")
    found = document(crh(*words, "--json", env=bare(env, tmp_path), cwd=tmp_path))
    (group,) = found["groups"]
    assert (group["seeds"], found["parameters"], found["left_out"]) == ([0, 1], [], [])


def test_csv_has_every_digit_and_the_line_ends_of_rfc_4180(swept: Made, env: dict[str, str], tmp_path: Path) -> None:
    words = ("compare", "--runs", swept.folder / "runs", "--metric", "loss", "--metric", "f1")
    found = document(crh(*words, "--json", env=env, cwd=tmp_path))["groups"][0]["metrics"]["loss"]
    words = (sys.executable, "-m", "crh_train", *map(str, words), "--csv")
    said = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, check=True).stdout.decode()
    assert said.count("\n") == said.count("\r\n") == 2
    (row,) = table(said)
    assert row == {
        "seeds": "2",
        "loss_mean": repr(found["mean"]),
        "loss_sd": repr(found["sd"]),
        "f1_mean": "",
        "f1_sd": "",
    }


def test_runs_that_are_not_finished_or_damaged_are_left_out_and_named(
    store: RunFolder, interrupted: Made, env: dict[str, str], tmp_path: Path
) -> None:
    (store.path / "reports" / "validation_metrics.json").write_text("{")
    said = crh("compare", env=env, cwd=tmp_path)
    assert said.returncode == 0
    assert said.stderr.startswith(f"left out: {store.name}: ")
    assert said.stdout.splitlines()[0] == "no finished runs in runs"
    stopped = interrupted.run("term-stopped")
    told = refused(crh("compare", stopped.name, "--runs", stopped.path.parent, env=env, cwd=tmp_path), 2)
    assert told == f"run {stopped.name} is unfinished: only finished runs are compared; leave it out"


@pytest.mark.parametrize("words", [("--csv", "--json"), ("--metric", "pnsr"), ("--sort", "-pnsr")])
def test_what_cannot_be_compared_as_asked_is_one_error(
    words: tuple[str, ...], swept: Made, env: dict[str, str], tmp_path: Path
) -> None:
    said = crh("compare", "--runs", swept.folder / "runs", *words, env=env, cwd=tmp_path)
    assert said.returncode == 2
