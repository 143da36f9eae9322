"""The study that the README's walk begins with is the one that its hashes are of."""

import subprocess
import sys
from pathlib import Path

from crh_train.assemble import identify
from crh_train.compose import compose, packaged_conf
from crh_train.data.sources import open_source

ROOT = Path(__file__).parents[1]


def test_the_walk_in_the_readme_begins_with_this_study(tmp_path: Path) -> None:
    study, noisy = tmp_path / "study", tmp_path / "noisy"
    subprocess.run([sys.executable, ROOT / "scripts" / "example_study.py", study, noisy], check=True)
    words = ["data=dicom", f"runtime.data_root={study}", "data.shape=[120,104]", "engine.epochs=10"]
    config = compose("mri_denoise", words, [packaged_conf()])
    run_hash = identify(config, open_source(config)).run_hash
    assert f"run             {run_hash[:16]}  (finished)" in (ROOT / "README.md").read_text()
    assert len(list(noisy.iterdir())) == len(list((study / "exam0").iterdir()))
