"""Which files a configuration is composed of: those that Hydra opens, and no others; each vetted, all bounded."""

import os
from pathlib import Path

import pytest
from test_compose import DEFAULTS, PACKAGED, TINY, own, refusal

from crh_train.compose import compose
from crh_train.configuration_files import MAX_FILES, MAX_INTERPOLATIONS, opened
from crh_train.plain_yaml import MAX_BYTES, MAX_NODES

WITH_X = DEFAULTS.replace("  - base\n", "  - base\n  - x\n")
BOMB = "a: &a [1]\nb: *a\n"
GLOBAL = "# @package _global_\n"


def refused(folder: Path, *overrides: str, **files: str) -> str:
    return refusal("mine", *overrides, folders=own(folder, **files)).removeprefix(f"{folder}/conf/")


def names(folder: Path, **picks: str) -> set[str]:
    return set(opened("mine", picks, [folder / "conf", *PACKAGED])[0])


# --- which files ---------------------------------------------------------------------------------------------------


def test_only_the_files_that_the_defaults_lists_lead_to_are_opened(tmp_path: Path) -> None:
    own(tmp_path, mine=DEFAULTS, other=BOMB, model__other=BOMB, loss__mse=TINY)
    assert len(names(tmp_path)) == 11
    assert names(tmp_path) - names(tmp_path, model="cnn") == {"model/unet"}
    assert names(tmp_path, model="cnn") - names(tmp_path) == {"model/cnn"}


def test_a_choice_that_is_overridden_is_not_opened(tmp_path: Path) -> None:
    folders = own(tmp_path, mine=DEFAULTS, model__unet=BOMB)
    assert compose("mine", ["model=cnn"], folders).model.name == "cnn"


@pytest.mark.parametrize(
    ("files", "model", "epochs"),
    [
        ({"mine": "defaults:\n  - mri_step\n  - override model: unet\n  - _self_\nengine: {epochs: 5}\n"}, "unet", 5),
        ({"mine": "defaults:\n  - mri_step\n  - override /model: unet\n"}, "unet", 10),
        ({"mine": "defaults:\n  - mri_step\n"}, "cnn", 10),
        (
            {
                "mine": "defaults:\n  - theirs\n  - override model: mlp\n",
                "theirs": "defaults:\n  - mri_step\n  - override model: unet\n",
            },
            "mlp",
            10,
        ),
        (
            {
                "mine": "defaults:\n  - mri_step\n  - experiment: a/b\n",
                "experiment/a/b": GLOBAL + "defaults:\n  - override /model: unet\n  - _self_\nengine:\n  epochs: 5\n",
            },
            "unet",
            5,
        ),
        (
            {
                "mine": DEFAULTS.replace("unet", "tiny"),
                "model/tiny": "defaults:\n  - small\n  - size\n  - _self_\n" + TINY,
                "model/small": "hidden: 1\n",
                "model/size": "layers: 1\n",
            },
            "mlp",
            10,
        ),
        ({"mine": DEFAULTS.replace("- base", "- base.yaml\n  - optional user: me")}, "unet", 10),
        ({"mine": DEFAULTS.replace("- base", "- /base\n  - optional user: me"), "user/me": "{}\n"}, "unet", 10),
        ({"mine": "\ufeff" + GLOBAL + DEFAULTS}, "unet", 10),
    ],
    ids=range(9),
)
def test_defaults_lists_mean_what_they_mean_to_hydra(
    tmp_path: Path, files: dict[str, str], model: str, epochs: int
) -> None:
    if "user/me" in files:  # a section that no schema has: opened, and then refused by its name
        assert refused(tmp_path, **files).startswith("unknown key 'user'")
        return
    config = compose("mine", [], own(tmp_path, **files))
    assert (config.model.name, config.engine.epochs) == (model, epochs)


def test_a_link_to_a_file_of_ones_own_is_followed_and_what_it_leads_to_is_vetted(tmp_path: Path) -> None:
    folders = own(tmp_path, model__tiny=TINY)
    (tmp_path / "elsewhere").write_text(DEFAULTS)
    (tmp_path / "conf" / "mine.yaml").symlink_to("../elsewhere")
    assert compose("mine", [], folders).model.name == "unet"
    (tmp_path / "elsewhere").write_text(DEFAULTS + BOMB)
    assert "anchors and aliases are refused" in refusal("mine", folders=folders)


@pytest.mark.parametrize("name", ["mine", "model/tiny"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "loop", "nowhere", "large"])
def test_only_a_small_regular_file_is_read(tmp_path: Path, name: str, kind: str) -> None:
    folders = own(tmp_path, mine=DEFAULTS.replace("unet", "tiny"), model__tiny=TINY)
    path = tmp_path / "conf" / f"{name}.yaml"
    path.unlink()
    make = {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "loop": lambda: path.symlink_to(path.name),
        "nowhere": lambda: path.symlink_to("nowhere"),
        "large": lambda: path.write_bytes(b"#" * (MAX_BYTES + 1)),
    }
    make[kind]()
    says = "cannot be opened: " if kind in ("loop", "nowhere") else "expected "
    assert says in refusal("mine", folders=folders)


def test_a_file_that_changes_while_it_is_vetted_is_composed_as_it_was_vetted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crh_train import configuration_files

    read = configuration_files._read

    def changing(path: Path) -> bytes:
        data = read(path)
        if path.parent == tmp_path / "conf":
            path.write_text(BOMB)
        return data

    folders = own(tmp_path, mine=WITH_X.replace("- x", "- x\n  - /x"), x=GLOBAL + "engine: {epochs: 7}\n")
    monkeypatch.setattr(configuration_files, "_read", changing)
    assert compose("mine", [], folders).engine.epochs == 7


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        *[
            "../x",
            "a/../x",
            "//x",
            "a//x",
            "x/",
            "/",
            ".",
            "..",
            "''",
            "'a\\b'",
            "pkg://x",
            "file:///x",
            "x@a",
            "x@_global_",
        ],
        *["'???'", "7", "~", "[a]", "2024-01-01", "${x}", "a/${x}", "{a: b, c: d}", "{}", "{a: [b, c]}", "{a: 7}"],
        *[
            "{a: ~}",
            "{a: '???'}",
            "{a: {b: c}}",
            "{a: ../x}",
            "{a: /x}",
            "{a: ''}",
            "{a: x@y}",
            "{a: '${x}'}",
            "{'': x}",
        ],
        *["{/: x}", "{../a: x}", "{true: x}", "{7: x}", "{a@b: x}", "{'a:b': x}", "{'${a}': x}", "{other a: x}"],
        *["{override hydra/launcher: basic}", "{hydra: x}", "{/hydra/output: x}", "{override override a: x}"],
    ],
)
def test_a_name_that_is_not_plain_is_refused_in_a_defaults_list(tmp_path: Path, entry: str) -> None:
    if entry == "''" or "''" in entry:
        assert "in the defaults list is refused" in refused(tmp_path, mine=WITH_X.replace("- x", f"- {entry}"))
        return
    for files in (
        {"mine": WITH_X.replace("- x", f"- {entry}")},
        {"mine": WITH_X, "x": f"defaults:\n  - {entry}\n"},
    ):
        assert " in the defaults list is refused; expected '- GROUP: CHOICE' or '- FILE'" in refused(tmp_path, **files)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"mine": WITH_X}, "conf=mine: '- x' in a defaults list is unknown: known: base, "),
        (
            {"mine": WITH_X.replace("- x", "- /etc/passwd")},
            "conf=mine: etc=passwd is unknown: there is no folder conf/etc",
        ),
        ({"mine": WITH_X, "x": BOMB}, "x.yaml, line 1: anchors and aliases are refused; "),
        ({"mine": WITH_X, "x": "defaults: [{y: z}]\n", "y__z": BOMB}, "y/z.yaml, line 1: anchors and aliases are"),
        ({"mine": "defaults: {base: x}\n"}, "mine.yaml: expected a list as 'defaults', found {'base': 'x'}"),
        ({"mine": "defaults:\n"}, "mine.yaml: expected a list as 'defaults', found None"),
        ({"mine": "defaults: ${x}\nx: [base]\n"}, "mine.yaml: expected a list as 'defaults', found '${x}'"),
        ({"mine": DEFAULTS + "  - _self_\n"}, "conf=mine: Duplicate _self_ defined in mine"),
        ({"mine": DEFAULTS + "  - override x: y\n"}, "conf=mine: In 'mine': Could not override 'x'. No match"),
        ({"mine": DEFAULTS + "hydra: {searchpath: [/etc]}\n"}, "mine.yaml: the section 'hydra' is refused"),
        ({"mine": WITH_X, "x": "hydra: {job: {env_copy: [NONE]}}\n"}, "x.yaml: the section 'hydra' is refused"),
        ({"mine": "# @package hydra\n" + DEFAULTS}, "mine.yaml: the header '@package hydra' is refused; "),
        ({"mine": WITH_X, "x": "# @package hydra.job\nenv_copy: [NONE]\n"}, "x.yaml: the header '@package hydra.job'"),
        ({"mine": WITH_X, "x": "#@package  _global_.hydra\na: 1\n"}, "x.yaml: the header '@package  _global_.hydra'"),
        ({"mine": "# @package a b\n" + DEFAULTS}, "mine.yaml: the header '@package a b' is refused; "),
        ({"mine": "\n # @package " + "a." * 200 + "a\n" + DEFAULTS}, "mine.yaml: the header '@package a.a.a"),
        ({"mine": DEFAULTS + "engine: {epochs: 0b_}\n"}, "mine.yaml: a value cannot be read: invalid literal"),
        ({"mine": DEFAULTS + "engine: {epochs: =}\n"}, "mine.yaml: a value cannot be read: could not determine"),
        ({"mine": DEFAULTS + "engine: {epochs: 2024-13-45}\n"}, "mine.yaml: a value cannot be read: month must"),
        # too much
        ({"mine": WITH_X.replace("- x", "- mine")}, "conf=mine: "),
        ({"mine": WITH_X, "x": "defaults: [/mine]\n"}, "conf=mine: "),
        ({"mine": WITH_X.replace("  - x\n", "  - base\n" * 1000)}, "conf=mine: "),
        ({"mine": WITH_X, "x": f"a: [{'1,' * (MAX_NODES - 40)}]\n"}, "conf=mine: "),
        ({"mine": WITH_X + "a: '" + "${b}" * 9 + "'\n", "x": "a: '" + "${b}" * 8 + "'\n"}, "conf=mine: "),
    ],
    ids=range(24),
)
def test_what_would_reach_further_is_refused(tmp_path: Path, files: dict[str, str], says: str) -> None:
    message = refused(tmp_path, **files)
    assert message.startswith(says)
    assert says != "conf=mine: " or "in all, found more" in message


def test_files_are_counted_each_time_that_one_is_named(tmp_path: Path) -> None:
    """Else a few files that name one another make a tree of any size."""
    wide = {f"t{i}": GLOBAL + f"defaults: [{', '.join([f't{i + 1}'] * 4)}]\n" for i in range(12)}
    files = {"mine": WITH_X.replace("- x", "- t0"), **wide, "t12": "{}\n"}
    assert f"expected at most {MAX_FILES} files in all, found more" in refused(tmp_path, **files)


def test_the_most_interpolations_are_allowed_and_one_more_is_not(tmp_path: Path) -> None:
    folders = own(
        tmp_path, mine=DEFAULTS + "runtime: {cache: '" + "${engine.epochs}" * (MAX_INTERPOLATIONS - 1) + "'}\n"
    )
    one = "tokenizer.mean=${engine.epochs}"
    assert compose("mine", [one], folders).runtime.cache == "10" * (MAX_INTERPOLATIONS - 1)
    said = refusal("mine", one, "tokenizer.scale=${engine.epochs}", folders=folders)
    assert said == "conf=mine: expected at most 16 interpolations, found 17"


def test_a_choice_of_a_group_that_the_configuration_does_not_have_is_refused(tmp_path: Path) -> None:
    text = DEFAULTS.replace("  - model: unet\n", "")
    assert refused(tmp_path, "model=cnn", mine=text).startswith(
        "model=cnn: conf=mine has no 'model' in its defaults list"
    )
