"""What cannot be predicted is refused, and nothing is written over."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from command_line import copied
from image_samples import write_fastmri
from layout_samples import LAS, PATIENTS, heads, save
from PIL import Image
from predict_samples import predict
from store_samples import flip

from crh_train import checkpoint
from crh_train.archive import PREDICT
from crh_train.digest import canonical_json, digest_json
from crh_train.errors import CorruptCheckpoint, DataError, UsageError
from crh_train.run_folder import RunFolder, environment_bytes


def without_predict(run: RunFolder) -> None:
    """As a run was before its program had the function."""
    document = json.loads((run.path / "program.json").read_bytes())
    del document["functions"][PREDICT]
    (run.path / "program.json").write_bytes(canonical_json(document))
    (run.path / "program" / f"{PREDICT}.exported").unlink()
    sessions = [{**each, "program": digest_json(document)} for each in run.sessions()]
    (run.path / "environment.json").write_bytes(environment_bytes(sessions))


REFUSED: dict[str, tuple[Callable[[RunFolder, Path], tuple[Any, Path]], type[Exception], str]] = {
    "unknown format": (lambda run, at: (run, _text(at / "a.txt")), DataError, "a.txt: of unknown format; expected"),
    "no file": (lambda run, at: (run, at / "none.nii"), UsageError, "no such file or folder"),
    "empty folder": (lambda run, at: (run, _made(at / "empty")), DataError, "a folder without files"),
    "colour": (lambda run, at: (run, _colour(at / "a.png")), DataError, "has 3 channels, the model takes 1"),
    "constant": (lambda run, at: (run, save(at / "a.nii", np.ones((4, 4, 4), "i2"))), DataError, "every voxel is 1"),
    "k-space": (lambda run, at: (run, _kspace(at / "a.h5")), DataError, "this is k-space; expected an image"),
    "lone checkpoint": (lambda run, at: (_lone(run, at), at), UsageError, "the program that its weights belong"),
    "damaged": (lambda run, at: (_damaged(run), at), CorruptCheckpoint, ""),
    "another run's": (lambda run, at: (_foreign(run), at), CorruptCheckpoint, "expected the run's run_hash"),
    "older": (lambda run, at: (_older(run), at), UsageError, "without predict; train it again, to the same bits"),
}  # fmt: skip


def _text(path: Path) -> Path:
    path.write_text("nothing")
    return path


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _colour(path: Path) -> Path:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    return path


def _kspace(path: Path) -> Path:
    write_fastmri(path, None)
    return path


def _lone(run: RunFolder, folder: Path) -> Path:
    return Path(shutil.copy(run.checkpoints()[-1].path, folder))


def _damaged(run: RunFolder) -> RunFolder:
    flip(run.checkpoints()[-1].path, -9)
    return run


def _foreign(run: RunFolder) -> Path:
    path = run.checkpoints()[-1].path
    found = checkpoint.read(path)
    path.unlink()  # its name, the hash of the state, says nothing of the run
    return run.save_checkpoint(dataclasses.replace(found, run_hash="ab" * 32)).path


def _older(run: RunFolder) -> RunFolder:
    without_predict(run)
    return run


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_predicted_is_refused_in_one_line(denoising: RunFolder, name: str, tmp_path: Path) -> None:
    prepare, error, message = REFUSED[name]
    reference, given = prepare(copied(denoising, tmp_path / "runs"), tmp_path)
    with pytest.raises(error) as caught:
        predict(reference, [given], _made(tmp_path / "out"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").iterdir())


def test_outputs_are_named_after_their_inputs_and_never_written_over(unchanged: Path, tmp_path: Path) -> None:
    image, _ = heads()[0]
    given = [save(tmp_path / "own" / f"{name}.nii.gz", image) for name in PATIENTS]
    predict(unchanged, given[:2], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ann.nii.gz", "bob.nii.gz"]
    with pytest.raises(UsageError, match=r"ann\.nii\.gz: is there already"):
        predict(unchanged, given, tmp_path / "out")
    assert not (tmp_path / "out" / "cyd.nii.gz").exists()
    with pytest.raises(UsageError, match="is an input"):
        predict(unchanged, given, tmp_path / "own", force=True)
    with pytest.raises(UsageError, match=r"expected a name that ends in \.nii\.gz or \.nii, as the input is"):
        predict(unchanged, given[:1], tmp_path / "out.png")
    with pytest.raises(UsageError, match="two inputs are named ann"):
        predict(unchanged, [given[0], given[0]], tmp_path / "twice")
    (tmp_path / "own" / "notes.png").write_bytes(b"")
    with pytest.raises(DataError, match="holds files of several formats"):
        predict(unchanged, [tmp_path / "own"], tmp_path / "mixed")


def test_a_channel_that_is_missing_is_named(segmenting: RunFolder, tmp_path: Path) -> None:
    path = save(tmp_path / "head_0001.nii.gz", heads()[0][0])
    with pytest.raises(DataError, match="the model takes 2 channels, head_0000 to head_0001; found 0001"):
        predict(segmenting, [path], tmp_path / "out.nii.gz")
    stacked = nibabel.Nifti1Image(np.stack([heads()[0][0], 2000 - heads()[0][0]], axis=-1), LAS)
    nibabel.save(stacked, tmp_path / "both.nii")
    (written,) = predict(segmenting, [tmp_path / "both.nii"], tmp_path / "out.nii")
    assert written.shape == stacked.shape[:3]
