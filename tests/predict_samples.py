"""Runs to predict with, each made once, and predicting in this process."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from command_line import copied, made_once, only_run
from layout_samples import write_nnunet

from crh_train import checkpoint, session
from crh_train.checkpoint_reference import find
from crh_train.compose import compose, packaged_conf
from crh_train.inference import model, prediction
from crh_train.inference.prediction import Written
from crh_train.run_folder import RunFolder
from crh_train.run_store import RunStore
from crh_train.stored import stored_config

SMALL = ("model=cnn", "model.channels=4", "model.layers=2", "engine.epochs=1", "determinism=native")


def train(folder: Path, name: str, *words: str) -> RunFolder:
    """A run of one epoch in this process."""
    config = compose(name, [*SMALL, "runtime.progress=false", f"runtime.cache={folder / 'cache'}", *words],
                     [packaged_conf()])  # fmt: skip
    return session.run(config, name, [], RunStore(folder / "runs")).folder


def predict(run: RunFolder | Path, inputs: Sequence[Path], out: Path, force: bool = False) -> list[Written]:
    """What `crh-train predict` does, in this process."""
    named = find(str(run.path) if isinstance(run, RunFolder) else str(run), None, Path("runs"))
    return prediction.run(model.load(named, stored_config(named.folder, [])), inputs, out, force)


def zeroed(run: RunFolder, folder: Path) -> Path:
    """Of a residual network, which then changes nothing."""
    return changed(run, folder, np.zeros_like)


def changed(run: RunFolder, folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A checkpoint of other weights, in a copy of the run."""
    copy = copied(run, folder / "changed")
    found = checkpoint.read(copy.checkpoints()[-1].path)
    weights = {name: change(array) for name, array in found.model_state.items()}
    return copy.save_checkpoint(dataclasses.replace(found, model_state=weights)).path


def denoising(shared: Path) -> RunFolder:
    root = made_once(shared / "predict-one-channel", write_nnunet)
    words = ("data=nnunet", f"runtime.data_root={root}", "data.shape=[40,40]", "engine.batch_size=8")
    made = made_once(shared / "predict-denoising", lambda folder: train(folder, "mri_denoise", *words))
    return only_run(made / "runs")


def segmenting(shared: Path) -> RunFolder:
    root = made_once(shared / "predict-two-channels", lambda folder: write_nnunet(folder, channels=2))
    words = ("task=segmentation", "data=nnunet", f"runtime.data_root={root}", "data.shape=[24,40]",
             "data.spacing=[6,7,8]", "data.slices=3", "data.stride=2", "data.axis=coronal", "data.downsample=2",
             "engine.batch_size=8")  # fmt: skip
    made = made_once(shared / "predict-segmenting", lambda folder: train(folder, "tissue_linear", *words))
    return only_run(made / "runs")
