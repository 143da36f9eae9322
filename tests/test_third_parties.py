"""Parts that somebody else's package brings, by an entry point."""

from pathlib import Path

from test_compose import own
from training_samples import outputs, start_python

PLUGIN = """
from dataclasses import dataclass

import jax.numpy as jnp

from crh_train.types import Model


@dataclass(frozen=True, kw_only=True)
class Config:
    name: str
    gain: float


def make(config, in_channels, out_channels):
    def init(key):
        return {"gain": jnp.full((), config.gain)}

    return Model(init, lambda params, x: params["gain"] * x)
"""

USE_PLUGIN = """
import numpy as np
from pathlib import Path
from crh_train.compose import compose, search_path

words = ["model=scaled", "model.gain=2", "data.shape=[8,8]", "engine.batch_size=2", "determinism=native"]
config = compose("mri_step", words, search_path(Path.cwd()))
print(type(config.model).__name__, config.model)
from crh_train.data.dataset import PreparedSplit
from test_assemble import program_for

program = program_for(config, PreparedSplit(np.ones((2, 1, 8, 8), np.float32), None, ("a", "b")))
state, step_metrics = program.train_step(program.init(program.root), program.load(0))
print(program.leaf_names, int(state.step), bool(np.isfinite(step_metrics.loss)), float(state.params["gain"]) != 2)
"""

MISTAKES = """
from pathlib import Path
from crh_train.compose import compose, search_path
from crh_train.errors import ConfigError

for text in ("model=scaled model.gian=2", "model=scaled model.gain=x", "model=odd", "model=unwritten"):
    try:
        compose("mri_step", text.split(), search_path(Path.cwd()))
    except ConfigError as error:
        print(error)
"""


def test_a_third_party_adds_a_model_by_an_entry_point(tmp_path: Path) -> None:
    (tmp_path / "scaled_model.py").write_text(PLUGIN)
    (tmp_path / "odd_model.py").write_text("Config = dict\n")
    described = tmp_path / "scaled-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: scaled\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[crh_train.model]\nscaled = scaled_model\nodd = odd_model\n")
    own(tmp_path, model__scaled="name: scaled\ngain: 1.0\n", model__odd="name: odd\n", model__unwritten="name: scald\n")
    here = f"import os; os.chdir({str(tmp_path)!r})\n"
    used, refused = outputs(start_python(here + USE_PLUGIN, [tmp_path]), start_python(here + MISTAKES, [tmp_path]))
    assert used.splitlines() == ["Config Config(name='scaled', gain=2.0)", "('gain',) 1 True True"]
    assert refused.splitlines() == [
        "unknown key 'model.gian': did you mean 'model.gain'?",
        "model.gain='x': Value 'x' of type 'str' could not be converted to Float",
        "the installed model 'odd' has no dataclass `Config`",
        "model.name='scald' is unknown: did you mean 'scaled'?",
    ]
