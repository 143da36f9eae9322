"""The command line in processes of its own: exit codes, one line a mistake, JSON, what it reads and leaves alone."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from command_line import COMMANDS, EPOCHS, STEPS_PER_EPOCH, TINY, contents, copied, crh, document, refused
from conftest import Made
from store_samples import flip

from crh_train.run_store import RunFolder

# --- mistakes: one line, exit code 2 -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["conf=mri_stp"], "conf=mri_stp is unknown: did you mean 'mri_step'?"),
        (["conf=mri_step", "engine.epoch=3"], "unknown key 'engine.epoch': did you mean 'engine.epochs'?"),
        (["conf=mri_step", "modle=cnn"], "did you mean 'model'?"),
        (["conf=mri_step", "model=unt"], "model=unt is unknown: did you mean 'unet'?"),
        (["conf=mri_step", "engine.epochs=many"], "engine.epochs='many'"),
        (["conf=mri_step", "engine.epochs=0"], "engine.epochs must be at least 1, got 0"),
        (["conf=mri_step", "engine.seed=0,1"], "'engine.seed=0,1' gives several values; add -m to run each of them"),
        (["conf=mri_step", "model.activation=relo"], "did you mean 'relu'?"),
        (["conf=mri_step", "mri_cosine"], "mri_cosine"),
        (["engine.epochs=3"], "give exactly one conf=NAME, one of: chromatic, fastmri_unet, mri_cosine, "),
        (["conf=mri_step", "data=nifti"], "add runtime.data_root=FOLDER"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(
    words: list[str], expected: str, env: dict[str, str], tmp_path: Path
) -> None:
    assert expected in refused(crh("run", *words, env=env, cwd=tmp_path), 2)
    assert not (tmp_path / "runs").exists()


def test_a_batch_that_does_not_fit_is_refused_before_anything_is_written(env: dict[str, str], tmp_path: Path) -> None:
    said = refused(crh("run", *TINY, "engine.batch_size=1000", env=env, cwd=tmp_path), 2)
    assert "engine.batch_size=1000 must be at most the number of training samples" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [[], ["train"], ["show"], ["run"], ["show", "a", "--no-such"]])
def test_wrong_usage_is_exit_code_2(words: list[str], env: dict[str, str], tmp_path: Path) -> None:
    said = crh(*words, env=env, cwd=tmp_path)
    assert said.returncode == 2
    assert "Usage: " in said.stdout + said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("command", ["show", "verify", "replay", "resume"])
def test_a_run_that_is_not_there(command: str, env: dict[str, str], tmp_path: Path) -> None:
    said = refused(crh(command, "abc", env=env, cwd=tmp_path), 2)
    assert said == "no run in runs begins with 'abc'; `crh-train list --runs runs` shows the 0 that there are"
    assert "1 to 64 hexadecimal digits, got 'xyz'" in refused(crh(command, "xyz", env=env, cwd=tmp_path), 2)


def test_any_unique_beginning_names_a_run(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    for name in (store.name[:1], store.name, store.run_hash, store.name.upper()):
        assert document(crh("show", name, "--json", env=env, cwd=tmp_path))["run_hash"] == store.run_hash
    other = store.name[:5] + ("0" if store.name[5] != "0" else "1") + store.name[6:]
    (tmp_path / "runs" / other).mkdir()
    said = refused(crh("show", store.name[:5], env=env, cwd=tmp_path), 2)
    assert said == (
        f"'{store.name[:5]}' is the beginning of 2 runs: {', '.join(sorted([store.name, other]))}; give more digits"
    )
    assert crh("show", store.name[:6], env=env, cwd=tmp_path).returncode == 0


# --- JSON ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["run", "conf=nothing"], 2),
        (["run", *TINY, "engine.micro_batches=3"], 2),
        (["run", "-m", "conf=mri_step", "engine.epochs=="], 2),
        (["replay", "abc"], 2),
        (["resume", "abc"], 2),
        (["show", "abc"], 2),
        (["verify", "abc"], 2),
        (["verify", "nothing.chk"], 3),
        (["run", "conf=mri_step", "data=nifti", "runtime.data_root=nothing"], 3),
    ],
)
def test_an_error_is_one_json_document_too(words: list[str], code: int, env: dict[str, str], tmp_path: Path) -> None:
    said = crh(*words, "--json", env=env, cwd=tmp_path)
    found = document(said)
    assert (said.returncode, said.stderr) == (code, "")
    assert sorted(found) == ["error", "exit_code", "message"]
    assert found["exit_code"] == code
    assert "\n" not in found["message"]


@pytest.mark.parametrize("words", [["list"], ["show", "HASH"], ["verify", "HASH"], ["run", *TINY], ["resume", "HASH"]])
def test_a_result_is_one_json_document(words: list[str], finished: RunFolder, env: dict[str, str]) -> None:
    named = [finished.name if word == "HASH" else word for word in words]
    said = crh(*named, "--json", env={**env, "PYTHONIOENCODING": "ascii"}, cwd=finished.path.parents[1])
    assert (said.returncode, said.stderr) == (0, "")
    found = document(said)["runs"][0] if words == ["list"] else document(said)
    assert found["run_hash"] == finished.run_hash
    assert found["status"] == "finished"


def test_a_locale_without_the_signs_of_a_table_breaks_nothing(finished: RunFolder, env: dict[str, str]) -> None:
    for words in (["list"], ["show", finished.name], ["--help"]):
        said = crh(*words, env={**env, "PYTHONIOENCODING": "ascii"}, cwd=finished.path.parents[1])
        assert (said.returncode, said.stderr) == (0, "")


# --- what answers at once ------------------------------------------------------------------------------------------


def test_what_answers_at_once_does_not_import_jax(finished: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    for name in ("jax", "jaxlib", "optax"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')\n")
    bare = {**env, "PYTHONPATH": f"{tmp_path}{os.pathsep}{env['PYTHONPATH']}"}
    cwd = finished.path.parents[1]
    for words in (
        ["--help"],
        *([command, "--help"] for command in COMMANDS),
        ["list"],
        ["show", finished.name],
        ["verify", finished.name],
        ["verify", finished.checkpoints()[-1].path],
    ):
        said = crh(*words, env=bare, cwd=cwd)
        assert (said.returncode, said.stderr) == (0, ""), words
    assert crh("doctor", env=bare, cwd=cwd).stderr == "jax was imported\n"


def test_help_names_every_command_and_exit_code(env: dict[str, str], tmp_path: Path) -> None:
    said = crh("--help", env={**env, "COLUMNS": "200"}, cwd=tmp_path).stdout
    for command in COMMANDS:
        assert f" {command} " in said
    for code in ("0 done", "1 the check failed", "2 usage", "3 unreadable", "130 interrupted"):
        assert code in said


def completions(words: list[str], env: dict[str, str], cwd: Path) -> list[str]:
    """What the shell's completion asks for: the words as bash cuts them, the last one unfinished."""
    asked = {**env, "_CRH_TRAIN_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(["crh-train", *words])}
    program = Path(sys.executable).with_name("crh-train")
    said = crh(env={**asked, "COMP_CWORD": str(len(words))}, cwd=cwd, program=(str(program),))
    return said.stdout.splitlines()


def test_completion(finished: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    offered = completions(["run", ""], env, tmp_path)
    assert {"conf=mri_cosine", "model=unet", "optimizer=adam", "engine.epochs=", "runtime.threads="} <= set(offered)
    assert completions(["run", "conf=mri"], env, tmp_path) == [
        *("conf=mri_cosine", "conf=mri_denoise", "conf=mri_step", "conf=mri_superres")
    ]
    assert completions(["run", "conf", "=", "mri_c"], env, tmp_path) == ["mri_cosine"]  # bash cuts words at =
    assert completions(["run", "conf", "=", "mri_step", "model", "=", "u"], env, tmp_path) == ["unet", "unet3d"]
    assert completions(["run", "conf", "=", "mri_step", "mod"], env, tmp_path)[:2] == ["model=cnn", "model=gru"]
    assert completions(["show", finished.name[:3]], env, finished.path.parents[1]) == [finished.name]
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mine.yaml").write_text("defaults: [base]\n")
    assert "conf=mine" in completions(["run", "conf="], env, tmp_path)


# --- verify, list and show of what is damaged ----------------------------------------------------------------------


def place_of(run: RunFolder, name: str) -> Path:
    return run.checkpoints()[1].path if name == "checkpoint" else run.path / name


@pytest.mark.parametrize(
    "name",
    [
        "checkpoint",
        "chronicle.jsonl",
        "chronicle.chain",
        "run.json",
        "config.json",
        "manifest.json",
        "environment.json",
        "program.json",
        "program/step.exported",
        "program/order.exported",
        "reports/session_summary.md",
        "reports/cases.png",
        "reports/SHA256SUMS",
    ],
)
def test_one_flipped_bit_is_exit_code_1_and_named(
    name: str, store: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    path = place_of(store, name)
    data = path.read_bytes()
    flip(path, data.index(b'"loss":') + 9 if name == "chronicle.jsonl" else len(data) // 2, bit=2)
    said = crh("verify", store.name, env=env, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (1, "")
    damage = [line for line in said.stdout.splitlines() if line.startswith("damage: ")]
    # The middle of the chain and of the sums is a record of a line and of a report: those are what cannot be trusted.
    blamed = {"chronicle.chain": "chronicle.jsonl", "reports/SHA256SUMS": "reports/"}
    assert any(blamed.get(name, str(path.relative_to(store.path))) in line for line in damage)
    assert "verdict         DAMAGED\n" in said.stdout
    assert document(crh("verify", store.name, "--json", env=env, cwd=tmp_path))["ok"] is False


def test_a_checkpoint_alone(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    path = store.checkpoints()[-1].path
    good = crh("verify", path, env=env, cwd=tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert "verdict      good: every byte is what was written\n" in good.stdout
    flip(path, path.stat().st_size - 1)
    damaged = crh("verify", path, env=env, cwd=tmp_path)
    assert (damaged.returncode, damaged.stderr) == (1, "")
    assert damaged.stdout.startswith(f"damage: {path.name}: ")
    path.unlink()
    assert refused(crh("verify", path, env=env, cwd=tmp_path), 3) == (
        f"{path}: cannot be opened: No such file or directory"
    )
    path.mkdir()
    assert "expected a regular file" in refused(crh("verify", path, env=env, cwd=tmp_path), 3)


def test_a_missing_checkpoint_of_a_run_is_damage(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    store.checkpoints()[1].path.unlink()
    said = crh("verify", store.name, env=env, cwd=tmp_path)
    assert said.returncode == 1
    assert (
        f"damage: checkpoints/{store.checkpoints()[1].path.name}: states that the checkpoint before it" in said.stdout
    )


@pytest.mark.parametrize("damage", ["missing", "not json", "flipped"])
def test_a_damaged_run_does_not_hide_the_others(
    damage: str, store: RunFolder, swept: Made, env: dict[str, str], tmp_path: Path
) -> None:
    other = next(run for run in (swept.folder / "runs").iterdir() if run.name != store.name)
    shutil.copytree(other, tmp_path / "runs" / other.name)
    if damage == "flipped":
        flip(store.path / "config.json", 30)
    else:
        metrics = store.path / "reports" / "validation_metrics.json"
        metrics.unlink()
        if damage == "not json":
            metrics.write_text('{"metrics": 3}')
    listed = crh("list", "--json", env=env, cwd=tmp_path)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert {run["run"]: run["status"] for run in document(listed)["runs"]} == {
        store.name: "damaged",
        other.name: "finished",
    }
    said = crh("list", env=env, cwd=tmp_path).stdout
    assert said.endswith(f"next: crh-train verify {store.name}\n")
    refused(crh("show", store.name, env=env, cwd=tmp_path), 3)
    assert crh("show", other.name, env=env, cwd=tmp_path).returncode == 0
    assert crh("verify", store.name, env=env, cwd=tmp_path).returncode == 1


# --- what list and show say ----------------------------------------------------------------------------------------


def test_list_and_show_say_how_far_a_run_is(
    finished: RunFolder, interrupted: Made, env: dict[str, str], tmp_path: Path
) -> None:
    assert "no runs in runs\nnext: crh-train run conf=mri_cosine" in crh("list", env=env, cwd=tmp_path).stdout
    stopped = copied(interrupted.run("term-stopped"), tmp_path / "runs")
    (found,) = document(crh("list", "--json", env=env, cwd=tmp_path))["runs"]
    assert (found["status"], found["steps"], found["epochs"], found["validation"]) == ("unfinished", 9, 2, None)
    shown = crh("show", stopped.name, env=env, cwd=tmp_path).stdout
    assert f"next: crh-train resume {stopped.name}\n" in shown
    assert f"progress        9 steps, epoch 2 of {EPOCHS}\n" in shown
    found = document(crh("show", finished.name, "--json", env=env, cwd=finished.path.parents[1]))
    assert found["steps"] == EPOCHS * STEPS_PER_EPOCH
    assert found["checkpoint_hash"] == finished.checkpoints()[-1].name.hash
    assert found["overrides"] == list(TINY[1:])
    measured = json.loads((finished.path / "reports" / "validation_metrics.json").read_bytes())["metrics"]
    assert found["validation"] == {name: entry["value"] for name, entry in measured.items()}


def test_reading_commands_change_nothing(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    before = contents(tmp_path)
    for words in (["list"], ["show", store.name], ["verify", store.name]):
        assert crh(*words, env=env, cwd=tmp_path).returncode == 0
    assert contents(tmp_path) == before
