"""A small model on small synthetic images, and fresh Python processes, for the tests of what trains."""

import functools
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import crh_train
from crh_train import metrics, tokenizer
from crh_train.config import PARTS, AugmentationConfig, IntensityTokenizerConfig, MlpConfig, MseConfig, RunConfig
from crh_train.data import augmentation
from crh_train.engine import StepParts
from crh_train.loss_functions import make_mse
from crh_train.models import mlp
from crh_train.types import Batch, Task

ROWS, COLUMNS = 8, 8
IMAGES = np.random.default_rng(0).random((12, 1, ROWS, COLUMNS), np.float32)
STEPS_PER_EPOCH = 3
BATCH_SIZE = 4
AUGMENTATION = AugmentationConfig(
    name="standard", flip_rows=True, flip_columns=True, rotate_90=False, intensity_scale=0.2, noise=0.1
)
INTENSITY = IntensityTokenizerConfig(name="intensity", mean=0.0, scale=1.0, patch=2)


def learning_rate(step):
    """Another one at each step."""
    return 0.05 / (1 + step).astype(jnp.float32)


def make_parts(rule: optax.GradientTransformation | None = None) -> StepParts:
    """Twice the image from the image, by a perceptron over patches, augmented."""
    tokens = tokenizer.make_intensity(INTENSITY)
    model = MlpConfig(name="mlp", initialisation="kaiming", residual=False, hidden=6, layers=2, activation="tanh")
    return StepParts(
        augment=augmentation.make(AUGMENTATION, (ROWS, COLUMNS)),
        task=Task(lambda image, label: (image, 2 * image), classes=0),
        tokenizer=tokens,
        model=mlp.make(model, tokens.channels, tokens.channels),
        loss=make_mse(MseConfig(name="mse")),
        coherence=metrics.coherence_cosine,
        optimizer=optax.adam(learning_rate) if rule is None else rule,
        learning_rate=learning_rate,
    )


def load(done: int) -> Batch:
    """The batch of the step after `done` steps: another third of the images at each step of an epoch."""
    first = done % STEPS_PER_EPOCH * BATCH_SIZE
    chosen = np.arange(first, first + BATCH_SIZE, dtype=np.int32)
    return Batch(jnp.asarray(IMAGES[chosen]), None, jnp.asarray(chosen))


def written(group: str, name: str) -> dict[str, Any]:
    """What `conf/` writes out for a choice."""
    from omegaconf import OmegaConf

    from crh_train.compose import packaged_conf

    return OmegaConf.to_container(OmegaConf.load(packaged_conf() / group / f"{name}.yaml"))  # type: ignore[return-value]


@functools.cache
def configured(**picks: str) -> RunConfig:
    """The first choice of every group but for `picks`, as `conf/` writes them, without Hydra."""
    from crh_train.compose import parse

    first = {group: next(iter(PARTS[group])) for group in PARTS}
    parts = {group: written(group, name) for group, name in {**first, "augmentation": "none", **picks}.items()}
    return parse({**written("", "base"), **parts})


def start_python(
    code: str, folders: Sequence[Path] = (), argv: Sequence[str] = (), **variables: str
) -> subprocess.Popen[str]:
    """A fresh interpreter that runs `code` with `argv`, warnings as errors, with the tests and `folders` on its path.

    Of the variables that decide how JAX runs it sees `variables` and no others.
    """
    paths = [str(Path(__file__).parent), str(Path(crh_train.__file__).parents[1]), *map(str, folders)]
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("XLA_", "JAX_", "PJRT_", "NPROC"))
    }
    environ: Mapping[str, str] = {**kept, "PYTHONPATH": os.pathsep.join(paths), **variables}
    words = [sys.executable, "-W", "error", "-c", code, *argv]
    return subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """What the process printed on standard output; it must have ended well."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def outputs(*processes: subprocess.Popen[str]) -> list[str]:
    """What each of several processes printed, run at the same time."""
    return [finish(process) for process in processes]
