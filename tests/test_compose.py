"""From files and the command line to a typed configuration: what composes, what is refused, and in which words."""

import dataclasses
import functools
import itertools
from pathlib import Path

import pytest

from crh_train.compose import (
    choices,
    compose,
    override_runtime,
    packaged_conf,
    parse,
    search_path,
)
from crh_train.config import PARTS, RunConfig
from crh_train.errors import ConfigError

PACKAGED = [packaged_conf()]
CONFIGURATIONS = [
    "chromatic",
    "fastmri_unet",
    "mri_cosine",
    "mri_denoise",
    "mri_step",
    "mri_superres",
    "temporal",
    "tissue_3d",
    "tissue_linear",
]

DEFAULTS = """defaults:
  - base
  - data: mni152
  - task: reconstruction
  - tokenizer: intensity
  - augmentation: none
  - model: unet
  - loss: mse
  - optimizer: adam
  - scheduler: cosine_annealing
  - determinism: portable
  - _self_
"""
TINY = "name: mlp\ninitialisation: xavier\nresidual: false\nhidden: 3\nlayers: 2\nactivation: relu\n"


@functools.cache
def composed(name: str, *overrides: str) -> RunConfig:
    return compose(name, overrides, PACKAGED)


def own(folder: Path, **files: str) -> list[Path]:
    """The search path of a user whose `./conf` holds `files`; `__` in a name stands for a folder."""
    for name, text in files.items():
        path = folder / "conf" / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return search_path(folder)


def refusal(name: str, *overrides: str, folders: list[Path] = PACKAGED) -> str:
    with pytest.raises(ConfigError) as raised:
        compose(name, overrides, folders)
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- what composes -------------------------------------------------------------------------------------------------


def test_the_packaged_configurations_are_the_ones_promised() -> None:
    assert choices(PACKAGED) == CONFIGURATIONS


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_configuration_composes(name: str) -> None:
    assert composed(name).engine.epochs >= 1


def test_between_them_the_configurations_use_every_loss_optimizer_and_scheduler() -> None:
    for group in ("loss", "optimizer", "scheduler"):
        assert {getattr(composed(name), group).name for name in CONFIGURATIONS} == set(PARTS[group])


@pytest.mark.parametrize("number", range(max(len(choices(PACKAGED, group)) for group in PARTS)))
def test_every_choice_of_every_group_composes_from_the_command_line(number: int) -> None:
    names = {group: choices(PACKAGED, group) for group in PARTS}
    picks = {group: known[number % len(known)] for group, known in names.items()}
    config = composed("mri_step", *(f"{group}={pick}" for group, pick in picks.items()))
    for group, pick in picks.items():
        assert getattr(config, group).name == ("standard" if pick == "none" else pick)


def test_an_override_changes_its_key_and_nothing_else() -> None:
    config = composed("mri_step", "data.shape=[48, 56]", "engine.learning_rate=1e-5", "model.residual=false")
    assert (config.data.shape, config.engine.learning_rate, config.model.residual) == ([48, 56], 1e-5, False)
    assert config.optimizer == composed("mri_step").optimizer


def test_the_keys_of_a_choice_are_those_of_the_part_picked_beside_them() -> None:
    config = composed("mri_step", "model=unet", "model.pools=2")
    assert (config.model.name, config.model.pools) == ("unet", 2)


def test_a_whole_number_is_a_float_where_a_float_is_meant() -> None:
    value = composed("mri_step", "tokenizer.mean=1").tokenizer.mean
    assert (value, type(value)) == (1.0, float)


def test_an_interpolation_within_the_configuration_is_resolved() -> None:
    assert composed("mri_step", "engine.epochs=${engine.batch_size}").engine.epochs == 8


@pytest.mark.parametrize("written", ["t/Studie_Müller (2)", '"t/Studie_Müller (2)"', "'t/Studie_Müller (2)'"])
def test_a_value_is_the_same_with_quotes_and_without(written: str) -> None:
    assert composed("mri_step", f"runtime.data_root={written}").runtime.data_root == "t/Studie_Müller (2)"
    assert composed("mri_step", "runtime.data_root=./~/x").runtime.data_root == "./~/x"


def test_a_choice_may_be_named_with_any_letters(tmp_path: Path) -> None:
    folders = own(tmp_path, mine=DEFAULTS, model__Müller=TINY)
    assert compose("mine", ["model=Müller"], folders).model.hidden == 3


def test_composing_changes_nothing_for_the_next_one() -> None:
    before = compose("mri_step", [], PACKAGED)
    compose("mri_step", ["engine.epochs=3", "model=unet"], PACKAGED)
    assert compose("mri_step", [], PACKAGED) == before


# --- the user's own folder -----------------------------------------------------------------------------------------


def test_without_a_folder_of_the_users_only_the_packaged_one_is_searched(tmp_path: Path) -> None:
    assert search_path(tmp_path) == PACKAGED


def test_the_users_own_configuration_comes_first_and_takes_its_parts_from_the_package(tmp_path: Path) -> None:
    folders = own(tmp_path, mri_step=DEFAULTS + "engine:\n  epochs: 77\n")
    assert folders == [tmp_path / "conf", *PACKAGED]
    config = compose("mri_step", [], folders)
    assert (config.engine.epochs, config.engine.batch_size, config.model.name) == (77, 8, "unet")


def test_the_users_own_choice_comes_first(tmp_path: Path) -> None:
    folders = own(tmp_path, mine=DEFAULTS, model__unet=TINY)
    assert compose("mine", [], folders).model.name == "mlp"


def test_a_packaged_configuration_is_found_beside_the_users_own_and_takes_the_users_choices(tmp_path: Path) -> None:
    folders = own(tmp_path, mine=DEFAULTS, model__tiny=TINY, model__cnn=TINY)
    assert choices(folders) == sorted([*CONFIGURATIONS, "mine"])
    assert compose("mri_step", [], folders).model.hidden == 3
    assert compose("mri_step", ["model=tiny"], folders).model.hidden == 3
    assert compose("mri_step", ["model=unet"], folders).model.pools == 3


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folders = own(tmp_path / "o'brien, [x] = y", mine=DEFAULTS, model__tiny=TINY)
    assert compose("mine", ["model=tiny"], folders).model.hidden == 3


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        # keys
        (["engine.epoch=3"], "unknown key 'engine.epoch': did you mean 'engine.epochs'?"),
        (["engin.epochs=3"], "unknown key 'engin.epochs': did you mean 'engine'?"),
        (["model.kernl=3"], "unknown key 'model.kernl': did you mean 'model.kernel'?"),
        (["loss=mse", "loss.edge_weight=1"], "unknown key 'loss.edge_weight': known: loss.name"),
        (["engine.epochs.x=3"], "unknown key 'engine.epochs.x': 'engine.epochs' has no keys"),
        (["hydra.verbose=true"], "unknown key 'hydra.verbose': known: augmentation, "),
        (["engine=3"], "'engine' is a section, not a value; its keys: seed, epochs, "),
        (["engine._target_=os.system"], "unknown key 'engine._target_': "),
        # choices
        (["model=unett"], "model=unett is unknown: did you mean 'unet'?"),
        (["model=transformer"], "model=transformer is unknown: known: cnn, gru, mlp, unet"),
        (["model=[cnn]"], "model=['cnn'] is unknown: "),
        (["model=null"], "model=None is unknown: "),
        (["data.axis=axiall"], "data.axis='axiall' is unknown: did you mean 'axial'?"),
        # types and ranges
        (["engine.epochs=abc"], "engine.epochs='abc': Value 'abc' of type 'str' could not be converted to Integer"),
        (["engine.epochs=???"], "engine.epochs has no value; add engine.epochs=VALUE"),
        (["data.shape=[48,4.5]"], "data.shape=[48, 4.5]: Value '4.5' of type 'float'"),
        (["runtime.data_root=2024_01"], "runtime.data_root=202401 must be text; quote it: "),
        (["engine.epochs=0"], "engine.epochs must be at least 1, got 0"),
        (["engine.learning_rate=nan"], "engine.learning_rate must be a finite float32 number, got nan"),
        # code, and what reaches outside
        (["runtime.data_root=${oc.env:HOME}"], "the command line: 'runtime.data_root=${oc.env:HOME}' is refused: "),
        (["tokenizer.mean=${oc.decode:1}"], "the command line: 'tokenizer.mean=${oc.decode:1}' is refused: "),
        (["engine.epochs=${engine.batchsize}"], "conf=mri_step: Interpolation key 'engine.batchsize' not found"),
        # grammar
        (["+x=1"], "'+x=1' adds or deletes a key; "),
        (["++engine.epochs=1"], "'++engine.epochs=1' adds or deletes a key; "),
        (["~model"], "'~model' adds or deletes a key; "),
        (["engine.epochs"], "cannot read 'engine.epochs' as KEY=VALUE: missing EQUAL"),
        (["engine.epochs=[1"], "cannot read 'engine.epochs=[1' as KEY=VALUE: "),
        (["a\nb=1"], "cannot read 'a\\nb=1' as KEY=VALUE: "),
        (["engine.seed=1,2"], "'engine.seed=1,2' gives several values; add -m to run each of them"),
        (["engine.seed=range(3)"], "'engine.seed=range(3)' gives several values; add -m"),
        (["model=cnn,mlp"], "'model=cnn,mlp' gives several values; add -m"),
        (
            ["runtime.data_root=t/a,b"],
            "'runtime.data_root=t/a,b' gives several values; add -m to run each of them; "
            """for one text write 'runtime.data_root="t/a,b"'""",
        ),
        (["model=ü"], "model=ü is unknown: known: cnn, gru, mlp, unet"),
        (["engine.epochs=3ü"], "engine.epochs='3ü': Value '3ü' of type 'str' could not be converted to Integer"),
        (["engine=ü"], "'engine' is a section, not a value"),
        # what no shell expands
        (
            ["runtime.data_root=~/a b"],
            "runtime.data_root='~/a b' begins with '~', which stands for a home folder only where a shell expands it; "
            'write runtime.data_root="$HOME/a b", or ./~/a b for a folder of that name',
        ),
        (['runtime.cache="~"'], "runtime.cache='~' begins with '~'"),
        (["runtime.cache=~mona/x"], "runtime.cache='~mona/x' begins with '~'"),
    ],
    ids=lambda value: value[-1].replace("\n", "") if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_that_names_the_key_and_the_nearest_valid_name(overrides: list[str], says: str) -> None:
    assert refusal("mri_step", *overrides).startswith(says)


@pytest.mark.parametrize("name", ["base", "model/unet", "../conf/mri_step", ""])
def test_only_a_configuration_can_be_run(name: str) -> None:
    assert refusal(name).startswith(f"conf={name} is unknown: ")


def test_a_mistyped_configuration_is_answered_with_the_nearest_one() -> None:
    assert refusal("mri_cosin") == "conf=mri_cosin is unknown: did you mean 'mri_cosine'?"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (DEFAULTS.replace("unet", "unett"), "conf=mine: model=unett is unknown: did you mean 'unet'?"),
        (DEFAULTS.replace("  - model: unet\n", ""), "the configuration has no 'model'; add '- model: CHOICE' to its"),
        (DEFAULTS.replace("  - base\n", ""), "the configuration has no 'engine'; add '- base' to its defaults list"),
        (DEFAULTS + "engine:\n  epoch: 3\n", "unknown key 'engine.epoch': did you mean 'epochs'?"),
        (DEFAULTS + "engin:\n  epochs: 3\n", "unknown key 'engin': did you mean 'engine'?"),
        (DEFAULTS + "engine: [1]\n", "conf=mine: In 'mine': ConfigTypeError raised while composing config: Cannot"),
        (DEFAULTS + "engine:\n  _target_: os.system\n", "engine._target_ is refused: a configuration is data"),
        (DEFAULTS + "_target_: os.system\n", "_target_ is refused: a configuration is data and cannot run code"),
        (
            DEFAULTS + "runtime:\n  cache: ${oc.env:HOME}\n",
            "mine.yaml, line 14: '${oc.env:HOME}' is refused: resolvers reach",
        ),
        (
            DEFAULTS + "runtime:\n  cache: oc.env\n  data_root: ${${runtime.cache}:HOME}\n",
            "mine.yaml, line 15: '${${runtime.cache}:HOME}' is refused: ",
        ),
        (DEFAULTS + "data:\n  shape: ['${oc.env:HOME}', 3]\n", "mine.yaml, line 14: '${oc.env:HOME}' is refused: "),
        (DEFAULTS + "engine:\n  epochs: !!python/object/apply:os.getpid []\n", "mine.yaml, line 14: the tag "),
        (DEFAULTS + "engine:\n  epochs: 3\n  epochs: 4\n", "mine.yaml, line 15: expected each key once, "),
        (DEFAULTS + "engine: [\n", "mine.yaml, line 14: expected YAML: expected the node content"),
        (DEFAULTS + "# \0\n", "mine.yaml, line 13: expected text, found '\\x00'; remove it"),
        (DEFAULTS + "engine: " + "{a: " * 1000 + "1" + "}" * 1000, "mine.yaml, line 13: expected at most 16 levels, "),
        ("- a\n", "mine.yaml, line 1: expected keys and values at the top level"),
        ("", "mine.yaml: expected keys and values, found none; "),
        ("engine: {}\n", "the configuration has no 'data'; add '- data: CHOICE' to its defaults list"),
        (DEFAULTS.replace("  - _self_\n", "engine: {}\n"), "mine.yaml: expected '- _self_' in the defaults list, "),
    ],
    ids=itertools.count(),
)
def test_a_file_that_is_no_configuration_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    assert refusal("mine", folders=own(tmp_path, mine=text)).removeprefix(f"{tmp_path}/conf/").startswith(says)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    folders = own(tmp_path, mine=DEFAULTS)
    (tmp_path / "conf" / "mine.yaml").write_bytes(DEFAULTS.encode() + b"# \xe9\n")
    assert refusal("mine", folders=folders).endswith(
        "mine.yaml, line 13: expected UTF-8, found other bytes; save the file as UTF-8"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TINY.replace("hidden: 3\n", ""), "model.hidden is missing; every choice is written out in conf/model/*.yaml"),
        (TINY + "heads: 3\n", "unknown key 'model.heads': "),
        (
            TINY.replace("name: mlp\n", ""),
            "model.name is missing: it says which model this is (mlp, cnn, unet, unet3d, gru)",
        ),
    ],
    ids=["a field missing", "a field too many", "no name"],
)
def test_a_choice_that_is_not_what_its_schema_says_is_refused(tmp_path: Path, text: str, says: str) -> None:
    assert refusal("mine", "model=tiny", folders=own(tmp_path, mine=DEFAULTS, model__tiny=text)).startswith(says)


# --- runtime -------------------------------------------------------------------------------------------------------


RECORDED = {"devices": 1, "threads": 2, "checkpoint_every": 1, "progress": True, "data_root": None, "cache": None}


def test_where_and_how_a_stored_run_goes_on_can_be_changed() -> None:
    changed = override_runtime(RECORDED, ["runtime.threads=4", "runtime.data_root='a, b'", "runtime.progress=false"])
    assert changed == {**RECORDED, "threads": 4, "data_root": "a, b", "progress": False}
    assert override_runtime(RECORDED, ["runtime.data_root=Müller (2)"])["data_root"] == "Müller (2)"
    assert override_runtime(RECORDED, []) == RECORDED
    assert (RECORDED["threads"], RECORDED["data_root"]) == (2, None), "what was recorded stays"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("engine.epochs=3", "'engine.epochs=3' would make another run; only runtime.KEY=VALUE can change here"),
        ("model=cnn", "'model=cnn' would make another run; "),
        ("runtime.thread=3", "unknown key 'runtime.thread': did you mean 'runtime.threads'?"),
        ("runtime=3", "'runtime' is a section, not a value; its keys: devices, "),
        ("+runtime.x=3", "'+runtime.x=3' adds or deletes a key; "),
        ("runtime.threads=1,2", "'runtime.threads=1,2' gives several values; "),
    ],
)
def test_what_a_stored_run_is_cannot_be_changed(override: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        override_runtime(RECORDED, [override])
    assert str(raised.value).startswith(says)


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        ("engine", "epochs", 3.0, "engine.epochs=3.0: Value '3.0' of type 'float' could not be converted to Integer"),
        ("engine", "epochs", True, "engine.epochs=True: Value 'True' of type 'bool' could not be converted to Integer"),
        ("engine", "epochs", "", "engine.epochs='': Value '' of type 'str' could not be converted to Integer"),
        ("engine", "epochs", None, "engine.epochs=None: field 'epochs' is not Optional"),
        ("engine", "learning_rate", [1.0], "engine.learning_rate=[1.0]: "),
        ("augmentation", "flip_rows", "maybe", "augmentation.flip_rows='maybe': Value 'maybe' is not a valid bool"),
        ("data", "shape", 48, "data.shape=48: Invalid value assigned: int is not a ListConfig, list or tuple."),
        ("data", "shape", [48, None], "data.shape=[48, None]: Invalid type assigned: NoneType is not a subclass of"),
        ("data", "axis", None, "data.axis=None: field 'axis' is not Optional"),
        ("runtime", "cache", True, "runtime.cache=True must be text; quote it: "),
        ("model", "name", "resnet", "model.name='resnet' is unknown: did you mean 'unet'?"),
        ("model", "name", ["cnn"], "model.name=['cnn'] must be text, one of: mlp, cnn, unet, unet3d, gru"),
        ("engine", "seed", 2**32, "engine.seed must be at most 4294967295, got 4294967296"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_key(section: str, key: str, value: object, says: str) -> None:
    document = dataclasses.asdict(composed("mri_step"))
    document[section][key] = value
    with pytest.raises(ConfigError) as raised:
        parse(document)
    assert str(raised.value).startswith(says)
    assert "\n" not in str(raised.value)


def test_a_document_with_a_key_that_no_configuration_has_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^unknown key 'modle': did you mean 'model'\?$"):
        parse({"modle": {}})
