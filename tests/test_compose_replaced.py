"""A part picked in place of the configuration's own: what becomes of the values that its files set for that one."""

from pathlib import Path

import pytest
import yaml
from test_compose import DEFAULTS, PACKAGED, TINY, composed, own, refusal

from crh_train.compose import choices, compose
from crh_train.config import PARTS
from crh_train.configuration_files import opened, without

POOLS = DEFAULTS + "model:\n  pools: 2\n  channels: 8\n"


@pytest.mark.parametrize(
    ("name", "group", "pick"),
    [
        ("fastmri_unet", "model", "cnn"),
        ("fastmri_unet", "scheduler", "cosine_annealing"),
        ("tissue_3d", "augmentation", "none"),  # of which some keys have the same name and another type
        ("temporal", "tokenizer", "chromatic"),
    ],
)
def test_a_part_that_cannot_take_the_values_of_the_one_it_replaces_comes_as_it_is(
    name: str, group: str, pick: str
) -> None:
    as_it_is = composed("mri_step", f"{group}={pick}")
    replaced = composed(name, f"{group}={pick}")
    assert getattr(replaced, group) == getattr(as_it_is, group)
    others = [part for part in (*PARTS, "engine", "runtime", "diagnostics") if part != group]
    assert all(getattr(replaced, part) == getattr(composed(name), part) for part in others)


def test_a_part_that_can_take_them_all_takes_them() -> None:
    assert composed("tissue_3d", "data=dicom").data.slices == 8
    assert composed("tissue_linear", "model=unet").model.residual is False
    unet = composed("fastmri_unet", "model=unet3d").model
    assert (unet.name, unet.channels, unet.pools) == ("unet3d", 32, 4)


@pytest.mark.parametrize("name", ["fastmri_unet", "temporal", "tissue_3d", "tissue_linear"])
def test_every_choice_can_stand_for_another_in_a_configuration_that_sets_values_of_its_own(name: str) -> None:
    for group in PARTS:
        for pick in choices(PACKAGED, group):
            part = getattr(composed(name, f"{group}={pick}"), group)
            assert part.name == ("standard" if pick == "none" else pick)


def test_the_configurations_own_choice_given_again_changes_nothing() -> None:
    assert composed("fastmri_unet", "model=unet", "scheduler=step_decay") == composed("fastmri_unet")


def test_keys_of_the_new_part_are_changed_beside_it_and_those_of_the_old_one_are_unknown() -> None:
    assert composed("fastmri_unet", "model=cnn", "model.layers=2").model.layers == 2
    assert refusal("fastmri_unet", "model=cnn", "model.pools=2").startswith("unknown key 'model.pools': ")
    assert refusal("fastmri_unet", "model=cnn", "model.layers=x").startswith("model.layers='x': ")
    assert refusal("fastmri_unet", "model=unet", "model.pools=x").startswith("model.pools='x': ")


@pytest.mark.parametrize(
    "files",
    [
        {"mine": POOLS},
        {"mine": POOLS + "engine:\n  epochs: 3\n"},
        {"mine": DEFAULTS + "model:  # of the U-Net\n\n  # how deep\n  pools: 2\n\n# next\nengine:\n  epochs: 3\n"},
        {"mine": POOLS.replace("\n", "\r\n") + "engine:\r\n  epochs: 3\r\n"},
        {"mine": DEFAULTS + "model: {pools: 2,\n  channels: 8}\nengine: {epochs: 3}\n"},
        {"mine": DEFAULTS + "'model': {pools: 2}  # flow\n"},
        {"mine": yaml.dump(yaml.safe_load(POOLS), default_flow_style=True)},
        {"mine": "defaults:\n  - theirs\n  - _self_\nengine:\n  epochs: 3\n", "theirs": POOLS},
        {
            "mine": DEFAULTS.replace("- _self_", "- setup/deep").replace("- base\n", "- base\n  - _self_\n"),
            "setup__deep": "# @package _global_\nmodel:\n  pools: 2\n",
        },
    ],
    ids=["last", "before another", "comments", "CRLF", "flow", "quoted", "all flow", "in turn", "by a group"],
)
def test_they_fall_away_however_and_wherever_they_are_written(tmp_path: Path, files: dict[str, str]) -> None:
    folders = own(tmp_path, **files)
    before, after = compose("mine", [], folders), compose("mine", ["model=cnn"], folders)
    assert before.model.pools == 2
    assert after.model == composed("mri_step").model
    assert after.engine == before.engine


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"mine": DEFAULTS + "model:\n  pols: 2\n"}, "unknown key 'model.pols': "),
        ({"mine": DEFAULTS + "model:\n  pools: two\n"}, "unknown key 'model.pools': "),
        ({"mine": POOLS, "model__cnn": TINY + "pools: 2\n"}, "unknown key 'model.pools': "),
        ({"mine": POOLS + "engine: {epochs: '${model.pools}'}\n"}, "conf=mine: Interpolation key 'model.pools' not "),
    ],
    ids=["a typing mistake", "a wrong value", "the choice itself", "a value that others use"],
)
def test_what_is_wrong_in_the_files_is_not_dropped_in_silence(tmp_path: Path, files: dict[str, str], says: str) -> None:
    assert refusal("mine", "model=cnn", folders=own(tmp_path, **files)).startswith(says)


def test_a_file_without_sections_keeps_every_other_byte(tmp_path: Path) -> None:
    folders = own(tmp_path, mine=POOLS + "\nengine: {epochs: 3}  # few\n")
    files, _ = opened("mine", {}, folders)
    emptied = without(files, ["model"])
    assert emptied["mine"] == DEFAULTS + "model:\n  {}\nengine: {epochs: 3}  # few\n"
    assert {**emptied, "mine": ""} == {**files, "mine": ""}
