"""Every configuration in `conf/` trains on real data, replays to the same bits and verifies, in fresh processes; but
for those on a user's own data, which `test_data_fastmri.py` and its neighbours try.

All is done by code that is not optimised, which is compiled much sooner, and once; `test_bit_matrix.py` has the bits of
XLA's usual code.
"""

import json
from pathlib import Path

import pytest
from command_line import NOT_OPTIMISED, SMALL, crh, document, only_run

from crh_train.compose import choices, compose, packaged_conf
from crh_train.config import PARTS

CONF = packaged_conf()
NAMES = choices([CONF])
SMALLER = {
    "cnn": ["model.channels=4"],
    "gru": ["model.hidden=16"],
    "mlp": ["model.hidden=16"],
    "unet": ["model.channels=4", "model.pools=1"],
    "unet3d": [
        "model.channels=2",
        "model.pools=1",
        "model.slice_pools=1",
        "augmentation.patch=[4,16,16]",
        "data.stride=1",
    ],
}
EPOCHS = 2


def overrides(name: str) -> list[str]:
    """Small data and a small model; the slab held out is wide enough for a sequence of slices."""
    model = compose(name, [], [CONF]).model.name
    return [*SMALL, "data.validation=[0.4,0.6]", f"engine.epochs={EPOCHS}", *SMALLER[model]]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if compose(name, [], [CONF]).data.name == "mni152"])
def test_trains_replays_and_verifies(name: str, env: dict[str, str], tmp_path: Path) -> None:
    quick = env | NOT_OPTIMISED
    said = crh("run", f"conf={name}", *overrides(name), "--json", env=quick, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    trained = document(said)
    assert (trained["status"], trained["epochs"]) == ("finished", EPOCHS)
    run = only_run(tmp_path / "runs")
    losses = [record.loss for record in run.chronicle()]
    assert len(losses) == trained["steps"] > EPOCHS
    assert len(set(losses)) > EPOCHS

    replayed = document(crh("replay", trained["run"], "--json", env=quick, cwd=tmp_path))
    assert replayed["identical"] is True
    assert replayed["promised"] is True
    assert replayed["steps_compared"] == trained["steps"]
    assert replayed["checkpoints_compared"] == EPOCHS
    assert replayed["final_state"] == trained["checkpoint_hash"]

    assert document(crh("verify", trained["run"], "--json", env=quick, cwd=tmp_path))["findings"] == []
    verified = crh("verify", trained["checkpoint"], "--json", env=quick, cwd=tmp_path)
    assert verified.returncode == 0
    assert document(verified)["newest_good_hash"] == trained["checkpoint_hash"]

    reports = run.path / "reports"
    assert json.loads((reports / "training_metrics.json").read_bytes())["steps"] == trained["steps"]
    pictures = [path.read_bytes()[:8] for path in (reports / "cases.png", reports / "curves.png")]
    assert pictures == [b"\x89PNG\r\n\x1a\n"] * 2


ELSEWHERE = {"task": {"classification"}}  # which needs a user's own data


@pytest.mark.parametrize("group", ["loss", "optimizer", "scheduler", "task", "tokenizer"])
def test_between_them_they_use_every_choice(group: str) -> None:
    assert {getattr(compose(name, [], [CONF]), group).name for name in NAMES} == set(PARTS[group]) - ELSEWHERE.get(
        group, set()
    )
