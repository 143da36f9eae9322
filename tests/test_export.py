"""`crh-train export`: what TensorBoard itself reads of the file is what the run holds, and same run is same bytes."""

import os
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from command_line import append, contents, copied, crh, document, refused
from conftest import Made
from store_samples import flip
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from crh_train import checkpoint
from crh_train.chronicle import LINES_NAME
from crh_train.exports import TARGETS
from crh_train.exports import safetensors as weights
from crh_train.exports.contents import SERIES
from crh_train.exports.tensorboard import export
from crh_train.run_store import RunFolder
from crh_train.run_summary import run_document


def read(folder: Path) -> EventAccumulator:
    """What TensorBoard knows of a folder of event files, all of it."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return accumulator.Reload()


@pytest.fixture
def exported(finished: RunFolder, tmp_path: Path) -> Path:
    return Path(export(finished, str(tmp_path / "logs")).path)


def test_every_number_of_the_chronicle_is_read_back(finished: RunFolder, exported: Path) -> None:
    found, records = read(exported.parent), finished.chronicle()
    for name in SERIES:
        scalars = found.Scalars(f"train/{name}")
        assert [scalar.step for scalar in scalars] == [record.step for record in records]
        assert [scalar.wall_time for scalar in scalars] == [record.timestamp for record in records]
        values = np.array([scalar.value for scalar in scalars], np.float32)
        assert values.tobytes() == np.array([getattr(record, name) for record in records], np.float32).tobytes()


def test_the_result_the_picture_and_the_identity_are_read_back(finished: RunFolder, exported: Path) -> None:
    found, run = read(exported.parent), run_document(finished)
    measured = {name: value for name, value in run["validation"].items() if value is not None}
    assert set(found.Tags()["scalars"]) == {f"held_out/{name}" for name in measured} | {f"train/{s}" for s in SERIES}
    for name, value in measured.items():
        (scalar,) = found.Scalars(f"held_out/{name}")
        assert (scalar.step, scalar.value) == (run["steps"], np.float32(value))
    (image,) = found.Images("cases")
    assert image.encoded_image_string == (finished.path / "reports" / "cases.png").read_bytes()
    assert (image.width, image.height) == (1600, image.height)
    (text,) = found.Tensors("run/text_summary")
    said = text.tensor_proto.string_val[0].decode()
    for value in (run["run_hash"], run["config_hash"], run["dataset_state"], run["chronicle_head"], run["conf"]):
        assert value in said


def test_the_configuration_is_read_back_as_hparams(finished: RunFolder, exported: Path) -> None:
    metadata = read(exported.parent).summary_metadata
    start = HParamsPluginData.FromString(metadata["_hparams_/session_start_info"].plugin_data.content)
    settings = {
        name: getattr(value, value.WhichOneof("kind")) for name, value in start.session_start_info.hparams.items()
    }
    config = finished.config_document()["config"]
    assert settings["engine.epochs"] == config["engine"]["epochs"] == 3
    assert settings["engine.seed"] == 0
    assert settings["model.name"] == config["model"]["name"]
    assert settings["data.shape"] == "[48, 48]"
    experiment = HParamsPluginData.FromString(metadata["_hparams_/experiment"].plugin_data.content).experiment
    assert {info.name for info in experiment.hparam_infos} == set(settings)
    assert "held_out/psnr" in {info.name.tag for info in experiment.metric_infos}


def test_the_same_run_gives_the_same_bytes_in_any_process(
    finished: RunFolder, exported: Path, env: dict[str, str], tmp_path: Path
) -> None:
    before = contents(finished.path)
    for seed in "01":
        words = ["export", finished.name, "--to", "tensorboard", "-o", tmp_path / f"logs{seed}", "--json"]
        said = crh(*words, env={**env, "PYTHONHASHSEED": seed}, cwd=finished.path.parents[1])
        assert (said.returncode, said.stderr) == (0, "")
        path = Path(document(said)["path"])
        assert path == tmp_path / f"logs{seed}" / finished.name / f"events.out.tfevents.0.{finished.name}"
        assert path.read_bytes() == exported.read_bytes()
        assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert contents(finished.path) == before


def test_a_run_without_an_end_is_exported_as_far_as_it_is(interrupted: Made, tmp_path: Path) -> None:
    stopped = copied(interrupted.run("term-stopped"), tmp_path / "runs")
    append(stopped, b'{"epoch":1,"batch":', b"")  # a line that is being written
    found = read(Path(export(stopped, str(tmp_path / "logs")).path).parent)
    assert [scalar.step for scalar in found.Scalars("train/loss")] == list(range(1, 10))
    assert set(found.Tags()["scalars"]) == {f"train/{name}" for name in SERIES}
    assert found.Tags()["images"] == []


def test_exporting_again_takes_the_place_of_the_older_file(
    finished: RunFolder, interrupted: Made, tmp_path: Path
) -> None:
    stopped = interrupted.run("term-stopped")
    assert stopped.name == finished.name
    first = export(stopped, str(tmp_path)).path
    assert export(finished, str(tmp_path)).path == first
    events = list(EventFileLoader(first).Load())
    assert events[0].file_version == "brain.Event:2"
    assert sum(event.step == 1 for event in events) == 1


def test_what_cannot_be_exported_leaves_nothing_behind(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    words = ["export", store.name, "-o", "logs", "--to"]
    assert refused(crh(*words, "visdom", env=env, cwd=tmp_path), 2) == (
        f"--to visdom is unknown; expected one of: {', '.join(sorted(TARGETS))}; nothing was written"
    )
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "tensorboardX.py").write_text("raise ImportError('as if it were not there')\n")
    without = {**env, "PYTHONPATH": f"{absent}{os.pathsep}{env['PYTHONPATH']}"}
    said = refused(crh(*words, "tensorboard", env=without, cwd=tmp_path), 2)
    assert said == "--to tensorboard needs the package tensorboardX: pip install 'crh-train[tb]'; nothing was written"
    flip(store.path / LINES_NAME, 900)
    assert "chronicle.jsonl line 7" in refused(crh(*words, "tensorboard", env=env, cwd=tmp_path), 3)
    assert not (tmp_path / "logs").exists()


def test_a_person_is_told_the_file_and_what_to_do_with_it(
    finished: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    for name in ("jax", "jaxlib", "optax"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')\n")
    bare = {**env, "PYTHONPATH": f"{tmp_path}{os.pathsep}{env['PYTHONPATH']}"}
    logs = tmp_path / "logs"
    said = crh("export", finished.name, "--to", "tensorboard", "-o", logs, env=bare, cwd=finished.path.parents[1])
    assert (said.returncode, said.stderr) == (0, "")
    assert f"steps     {len(finished.chronicle())}\n" in said.stdout
    assert said.stdout.endswith(f"next: tensorboard --logdir {logs}\n")


# --- safetensors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [None, "1"])
def test_the_package_safetensors_reads_back_every_weight(
    finished: RunFolder, which: str | None, tmp_path: Path
) -> None:
    stored = finished.checkpoints()[-1 if which is None else 0]
    path = weights.export(finished, str(tmp_path / "weights.safetensors"), which).path
    expected, found = checkpoint.read(stored.path).model_state, safetensors.numpy.load_file(path)
    assert list(found) == sorted(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (np.float32, array.shape)
        assert found[name].tobytes() == array.tobytes()
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata() == {
            "format": "crh-train",
            "run_hash": finished.run_hash,
            "checkpoint_hash": stored.name.hash,
            "config_hash": finished.run_document()["config_hash"],
        }


def test_the_same_weights_are_the_same_bytes(finished: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    for name in ("jax", "jaxlib", "optax"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')\n")
    bare = {**env, "PYTHONPATH": f"{tmp_path}{os.pathsep}{env['PYTHONPATH']}"}
    words = ["export", finished.name, "--to", "safetensors", "-o", tmp_path / "logs", "--checkpoint", "last"]
    said = crh(*words, env=bare, cwd=finished.path.parents[1])
    assert (said.returncode, said.stderr) == (0, "")
    path = tmp_path / "logs" / f"{finished.name}-e00003.safetensors"
    assert f"file        {path}\n" in said.stdout
    again = weights.export(finished, str(tmp_path / "again.safetensors")).path
    assert path.read_bytes() == Path(again).read_bytes()
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


def test_a_damaged_checkpoint_and_an_odd_wish_export_nothing(
    store: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    words = ["export", store.name, "-o", "out", "--to"]
    said = refused(crh(*words, "tensorboard", "--checkpoint", "1", env=env, cwd=tmp_path), 2)
    assert said == "--to tensorboard writes the whole run; --checkpoint is for --to safetensors"
    flip(store.checkpoints()[0].path, -9)
    assert "checkpoints/e00001" in refused(crh(*words, "safetensors", "--checkpoint", "1", env=env, cwd=tmp_path), 3)
    assert not (tmp_path / "out").exists()
