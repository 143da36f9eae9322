"""The archived program: what a run executed, kept so that a replay needs none of the code that it was made from."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import TINY, copied, crh, document
from conftest import Made
from jax import export
from store_samples import flip

import crh_train
from crh_train.archive import PREDICT, differing, open_predict, open_program
from crh_train.checkpoint import read
from crh_train.compose import packaged_conf
from crh_train.distribution import placements
from crh_train.errors import CorruptRun, EnvironmentRefused
from crh_train.run_folder import StoredProgram
from crh_train.run_store import RunFolder
from crh_train.stored import stored_config
from crh_train.verification import verify_run

LOSS = "return _mean_square(prediction - target)"
ANOTHER_LOSS = "return 2.0 * _mean_square(prediction - target)"
THE_SAME_LOSS = "return 1.0 * _mean_square(prediction - target)"
FUNCTIONS = ["init", "order", "predict", "prepare_197_233_189", "step"]


@pytest.fixture(scope="module")
def program(finished: RunFolder) -> StoredProgram:
    return finished.program()


# --- what is kept --------------------------------------------------------------------------------------------------


def test_each_function_is_kept_for_every_platform_under_its_hash(finished: RunFolder, program: StoredProgram) -> None:
    assert sorted(program.files) == sorted(program.document["functions"]) == FUNCTIONS
    assert program.document["platforms"] == ["cpu", "cuda"]
    assert {session["program"] for session in finished.sessions()} == {program.digest}
    for data in program.files.values():
        assert export.deserialize(bytearray(data)).platforms == ("cpu", "cuda")


def test_whoever_has_jax_and_nothing_of_ours_can_call_them(finished: RunFolder, program: StoredProgram) -> None:
    calls = {name: export.deserialize(bytearray(data)).call for name, data in program.files.items()}
    first = read(finished.checkpoints()[0].path)
    names = {f"model/{name}" for name in first.model_state} | {f"optimizer/{name}" for name in first.optimizer_state}
    functions = program.document["functions"]
    state = calls["init"]({"key": first.rng_state})
    assert set(state) == names | {"rng", "step"}
    (described,) = functions["init"]["results"]
    assert {name: [str(array.dtype), list(array.shape)] for name, array in state.items()} == described
    assert functions["step"]["arguments"][0] == functions["step"]["results"][0] == described
    order = calls["order"]({"key": first.rng_state, "epoch": np.int32(0)})["order"]
    assert sorted(np.asarray(order).tolist()) == list(range(order.size))


def test_nothing_says_where_it_was_made(program: StoredProgram) -> None:
    for data in program.files.values():
        assert b".py" not in data
        assert str(Path(crh_train.__file__).parents[1]).encode() not in data


PRINT_DIGEST = f"""
import os
from pathlib import Path
from crh_train import environment
environment.configure(os.environ, threads=1, devices=1)
from crh_train import session
from crh_train.compose import compose, packaged_conf
config = compose("mri_step", {list(TINY[1:])!r}, [packaged_conf()])
print(session.program_of(session.open_config(config)).digest)
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """The package in another folder, one file of it edited: the environment in which it is the one imported."""

    def copy(env: dict[str, str], file: str = "", before: str = "", after: str = "") -> dict[str, str]:
        folder = tmp_path / "another place"
        shutil.copytree(Path(crh_train.__file__).parent, folder / "crh_train")
        shutil.copytree(packaged_conf(), folder / "crh_train" / "conf", dirs_exist_ok=True)
        if file:
            path = folder / "crh_train" / file
            assert path.read_text().count(before) == 1
            path.write_text(path.read_text().replace(before, after))
        return {**env, "PYTHONPATH": str(folder)}

    return copy


def test_the_same_configuration_gives_the_same_bytes_from_another_folder(
    program: StoredProgram, env: dict[str, str], elsewhere: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    moved = {**elsewhere(env), "PYTHONHASHSEED": "4711"}
    said = crh(env=moved, cwd=tmp_path, program=("-c", PRINT_DIGEST))
    assert said.stdout == f"{program.digest}\n", said.stderr


# --- replay and resume when the code has moved on ------------------------------------------------------------------

MOVED_ON = """
import sys

GONE = ("assemble", "determinism", "loss_functions", "models", "optimizer", "portable", "scheduler", "session", "task",
        "tokenizer", "validator", "data.augmentation", "data.kspace", "data.preparation")

class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.removeprefix("crh_train.") in GONE:
            raise SystemExit(f"{name} was imported")

sys.meta_path.insert(0, Gone())
from crh_train.cli import main
main()
"""


def test_a_run_replays_without_the_code_that_it_was_made_from(
    finished: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    words, cwd = ("replay", finished.name, f"runtime.cache={tmp_path}"), finished.path.parents[1]
    said = crh(*words, "--json", env=env, cwd=cwd, program=("-c", MOVED_ON))
    assert said.returncode == 0, said.stderr
    found = document(said)
    assert (found["identical"], found["program"], found["program_differs"]) == (True, "archived", [])
    assert found["final_state"] == finished.checkpoints()[-1].name.hash
    source = crh(*words, "--source", env=env, cwd=cwd, program=("-c", MOVED_ON))
    assert (source.returncode, source.stderr) == (1, "crh_train.session was imported\n")


def test_todays_code_that_makes_the_same_program_says_so(finished: RunFolder, env: dict[str, str]) -> None:
    said = crh("replay", finished.name, "--source", "--to", "1", env=env, cwd=finished.path.parents[1])
    assert (said.returncode, said.stderr) == (0, "")
    assert "program   today's code; it is the same as the archived one\n" in said.stdout


def test_a_changed_formula_is_found_and_the_archived_program_still_gives_the_bits(
    finished: RunFolder, env: dict[str, str], elsewhere: Callable[..., dict[str, str]]
) -> None:
    changed = elsewhere(env, "loss_functions.py", LOSS, ANOTHER_LOSS)
    words, cwd = ("replay", finished.name, "--to", "1"), finished.path.parents[1]
    assert crh(*words, env=changed, cwd=cwd).returncode == 0
    said = crh(*words, "--source", env=changed, cwd=cwd)
    assert said.returncode == 1, said.stderr
    assert "program   today's code; it differs from the archived one in: step\n" in said.stdout
    assert "promise   today's code makes another program (step): no bits are promised\n" in said.stdout
    assert "verdict   DIFFERENT\n" in said.stdout


def test_a_change_that_changes_no_bit_is_told_and_the_bits_decide(
    finished: RunFolder, env: dict[str, str], elsewhere: Callable[..., dict[str, str]]
) -> None:
    changed = elsewhere(env, "loss_functions.py", LOSS, THE_SAME_LOSS)
    said = crh("replay", finished.name, "--to", "1", "--source", "--json", env=changed, cwd=finished.path.parents[1])
    found = document(said)
    assert (said.returncode, found["identical"]) == (0, True)
    assert (found["promised"], found["program_differs"]) == (False, ["step"])


def test_an_interrupted_run_goes_on_by_its_own_program(
    finished: RunFolder,
    interrupted: Made,
    env: dict[str, str],
    elsewhere: Callable[..., dict[str, str]],
    tmp_path: Path,
) -> None:
    stopped = copied(interrupted.run("term-stopped"), tmp_path / "runs")
    said = crh("resume", stopped.name, env=elsewhere(env, "loss_functions.py", LOSS, ANOTHER_LOSS), cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    last, mine = (read(run.checkpoints()[-1].path) for run in (finished, stopped))
    assert {name: array.tobytes() for name, array in mine.model_state.items()} == {
        name: array.tobytes() for name, array in last.model_state.items()
    }
    assert len({session["program"] for session in stopped.sessions()}) == 1


# --- damage --------------------------------------------------------------------------------------------------------


def swap(folder: Path) -> None:
    one, other = folder / "program/init.exported", folder / "program/step.exported"
    one.rename(folder / "kept")
    other.rename(one)
    (folder / "kept").rename(other)


def another_program(folder: Path) -> None:
    """Consistent in itself, but not the one that the run's sessions name."""
    path = folder / "program.json"
    path.write_bytes(path.read_bytes().replace(b'"leaves":["', b'"leaves":["x'))


DAMAGE: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "swapped": (swap, {"program/init.exported", "program/step.exported"}),
    "cut": (
        lambda folder: os.truncate(folder / "program/order.exported", 100),
        {"program/order.exported"},
    ),
    "missing": (lambda folder: (folder / "program/step.exported").unlink(), {"program/step.exported"}),
    "another": (another_program, {"program.json"}),
    "no document": (lambda folder: (folder / "program.json").unlink(), {"program.json"}),
    "no folder": (lambda folder: shutil.rmtree(folder / "program"), {"program"}),
    **{
        f"flipped {name}": (
            lambda folder, name=name: flip(folder / f"program/{name}.exported", 40),
            {f"program/{name}.exported"},
        )
        for name in FUNCTIONS
    },
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_named(kind: str, finished: RunFolder, tmp_path: Path) -> None:
    run = copied(finished, tmp_path)
    damage, places = DAMAGE[kind]
    damage(run.path)
    report = verify_run(run)
    assert {finding.place for finding in report.findings} == places
    assert not report.ok
    with pytest.raises(CorruptRun):
        run.program()


def test_what_was_put_beside_it_is_told_and_harmless(finished: RunFolder, tmp_path: Path) -> None:
    run = copied(finished, tmp_path)
    (run.path / "program" / "mine.exported").touch()
    report = verify_run(run)
    assert [(finding.severity, finding.place) for finding in report.findings] == [("note", "program/mine.exported")]
    assert report.program_files_checked == len(FUNCTIONS)


def test_a_program_that_cannot_run_here_is_refused(finished: RunFolder, program: StoredProgram) -> None:
    placement, _ = placements(stored_config(finished, []).runtime)
    for changes, error, message in (
        ({"format": 2}, CorruptRun, "expected format 1, found 2"),
        ({"platforms": ["tpu"]}, EnvironmentRefused, "the program was made for tpu, this machine computes on cpu"),
    ):
        with pytest.raises(error, match=message):
            open_program(program._replace(document={**program.document, **changes}), placement)
    hostile = {**program.files, "step": program.files["step"] + b"custom_call xla_ffi_python_cpu_callback"}
    with pytest.raises(CorruptRun, match="program/step: it calls back into Python"):
        open_program(program._replace(files=hostile), placement)
    with pytest.raises(CorruptRun, match=r"program/step: jax .* cannot read it"):
        open_program(program._replace(files={**program.files, "step": b"nothing"}), placement)


def test_programs_differ_in_the_functions_that_differ(program: StoredProgram) -> None:
    assert differing(program, program) == []
    other = {name: data for name, data in program.files.items() if name != "order"} | {"init": b"another"}
    assert differing(program, program._replace(files=other)) == ["init", "order"]


def test_a_run_without_the_function_predict_differs_in_nothing(program: StoredProgram) -> None:
    older = StoredProgram(program.document, {name: data for name, data in program.files.items() if name != PREDICT})
    assert differing(older, program) == []
    assert differing(program, older) == [PREDICT]
    assert differing(older, StoredProgram({}, {**program.files, "step": b"another"})) == ["step"]


def test_predict_needs_no_other_function(finished: RunFolder, program: StoredProgram) -> None:
    weights = read(finished.checkpoints()[-1].path).model_state
    image = np.random.default_rng(0).random((1, 48, 48), np.float32)
    found = np.asarray(open_predict(program.document, program.files[PREDICT])(weights, image))
    assert (found.shape, found.dtype) == ((1, 48, 48), np.float32)
    assert program.document["functions"][PREDICT]["results"] == [{"image": ["float32", [1, 48, 48]]}]
    with pytest.raises(CorruptRun, match="expected format 1, found 2"):
        open_predict({**program.document, "format": 2}, program.files[PREDICT])
