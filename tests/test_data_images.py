"""Pictures become samples as the table says; what does not fit together is named, all of it at once."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from command_line import crh, refused, trains_and_replays
from image_samples import images_folder, write_picture, write_table
from training_samples import configured

from crh_train.config import ImagesConfig
from crh_train.data import dataset, images, manifest, preparation
from crh_train.data.manifest import changed_files, dataset_state
from crh_train.data.volume import Source
from crh_train.errors import ConfigError, DataError, DataProblems

CONFIG: ImagesConfig = dataclasses.replace(configured(data="images").data, shape=[24, 24])
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 24, 24), np.uint8)
MASK = dataclasses.replace(CONFIG, classes=["0", "100", "200"])


def opened(folder: Path, config: ImagesConfig = CONFIG, **fields: Any) -> Source:
    return images.open_source(dataclasses.replace(config, **fields), folder)


def load(source: Source, config: ImagesConfig = CONFIG, **fields: Any) -> dict[str, tuple[np.ndarray, Any]]:
    """Image and label of each sample by its id."""
    config = dataclasses.replace(config, **fields)
    prepare = jax.jit(preparation.make(config, source.classes))
    loaded = dataset.load(
        source, config, manifest.build(source, config), prepare=prepare, cache_folder=None, identity=""
    )
    found = {}
    for split in (loaded.train, loaded.validation):
        for number, name in enumerate(split.ids):
            found[name] = (split.images[number], None if split.labels is None else split.labels[number])
    return dict(sorted(found.items()))


def grey_folder(folder: Path, *columns: str, header: str = "file,label") -> Path:
    """A PNG `a` to `f` for each of `columns`, the rest of its row."""
    for name, picture, _ in zip("abcdef", GREY, columns, strict=False):
        write_picture(folder / f"{name}.png", picture)
    write_table(folder, header, *(f"{name}.png,{row}" for name, row in zip("abcdef", columns, strict=False)))
    return folder


def problems(folder: Path, config: ImagesConfig = CONFIG, **fields: Any) -> Sequence[str]:
    with pytest.raises(DataProblems) as raised:
        opened(folder, config, **fields)
    return [problem.removeprefix(f"{folder}/") for problem in raised.value.problems]


def test_a_picture_stands_in_its_sample_as_it_stands_in_its_file(tmp_path: Path) -> None:
    found = load(opened(grey_folder(tmp_path, *"xyx")))
    for number, name in enumerate("abc"):
        image, label = found[f"{name}.png/axial/000"]
        np.testing.assert_array_equal(image, GREY[number][None].astype(np.float32) / np.float32(255))
        assert label == (number == 1)


def test_every_format_gives_the_same_sample(tmp_path: Path) -> None:
    names = ("a.png", "b.tif", "c.npy", "d.npz")
    for name in names:
        write_picture(tmp_path / name, GREY[0])
    found = load(opened(tmp_path, table=None), table=None)
    assert list(found) == [f"{name}/axial/000" for name in names]
    assert len({image.tobytes() for image, _ in found.values()}) == 1
    assert all(label is None for _, label in found.values())


def test_the_slices_of_a_stack_are_samples_in_order_with_its_class(tmp_path: Path) -> None:
    stacks = RNG.random((2, 3, 24, 24), np.float32)
    write_picture(tmp_path / "a.npy", stacks[0])
    write_picture(tmp_path / "b.npy", stacks[1])
    write_table(tmp_path, "file,label", "a.npy,no", "b.npy,yes")
    source = opened(tmp_path)
    assert source.labelled == "case"
    found = load(source)
    for number, name in enumerate("ab"):
        for place in range(3):
            image, label = found[f"{name}.npy/axial/{place:03d}"]
            np.testing.assert_array_equal(image[0], stacks[number, place])
            assert label == number


def test_colour_has_three_channels(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (2, 20, 24, 3), np.uint8)
    write_picture(tmp_path / "a.png", pixels[0])
    write_picture(tmp_path / "b.tif", pixels[1])
    source = opened(tmp_path, table=None, shape=[20, 24])
    assert source.channels == 3
    image, _ = load(source, table=None, shape=[20, 24])["b.tif/axial/000"]
    np.testing.assert_array_equal(image, pixels[1][None].astype(np.float32) / np.float32(255))


def test_a_mask_gives_each_pixel_the_number_of_its_value(tmp_path: Path) -> None:
    images_folder(tmp_path, "mask")
    source = opened(tmp_path, MASK)
    assert (source.classes, source.labelled, source.class_names) == (3, "pixel", ("0", "100", "200"))
    from crh_train.data import pictures

    for name, (_, label) in load(source, MASK).items():
        path = tmp_path / "masks" / f"{name.split('/')[1][0]}.png"
        np.testing.assert_array_equal(label[0] * 100, pictures.read_pixels(path.read_bytes(), path)[0])


def test_a_target_is_the_second_channel(tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "a.png", GREY[0])
    write_picture(tmp_path / "in" / "b.png", GREY[1])
    write_picture(tmp_path / "out" / "a.png", GREY[2])
    write_picture(tmp_path / "out" / "b.npy", GREY[3])
    write_table(tmp_path, "file,target", "in/a.png,out/a.png", "in/b.png,out/b.npy")
    source = opened(tmp_path)
    assert (source.channels, source.classes) == (2, 0)
    for (image, _), pair in zip(load(source).values(), ((0, 2), (1, 3)), strict=True):
        for channel, number in enumerate(pair):
            np.testing.assert_array_equal(image[0, ..., channel], GREY[number].astype(np.float32) / np.float32(255))


@pytest.mark.parametrize(
    ("labels", "names"),
    [("bab", ("a", "b")), (("10", "9", "-1"), ("-1", "9", "10")), (("1", "x", "10"), ("1", "10", "x"))],
)
def test_labels_are_numbered_in_their_sorted_order(
    tmp_path: Path, labels: Sequence[str], names: tuple[str, ...]
) -> None:
    source = opened(grey_folder(tmp_path, *labels))
    assert source.class_names == names
    assert [int(label) for _, label in load(source).values()] == [names.index(label) for label in labels]
    assert manifest.build(source, CONFIG)["preprocessing"]["class_names"] == list(names)


def test_classes_give_the_labels_another_order(tmp_path: Path) -> None:
    source = opened(grey_folder(tmp_path, *"bab"), classes=["b", "a", "c"])
    assert source.classes == 3
    assert [int(label) for _, label in load(source, classes=["b", "a", "c"]).values()] == [0, 1, 0]


@pytest.mark.parametrize("kind", ["label", "mask", "target", "none"])
def test_what_the_manifest_says(tmp_path: Path, kind: str) -> None:
    config = MASK if kind == "mask" else dataclasses.replace(CONFIG, table=None if kind == "none" else "labels.csv")
    source = images.open_source(config, images_folder(tmp_path, kind))
    document = manifest.build(source, config)
    first = document["volumes"][1]
    assert (first["id"], first["intensities"]) == ("pictures/1.tif", [0, 65535])
    assert first["original"] == {"shape": [24, 24, 1], "spacing": [1.0, 1.0, 1.0]}
    assert document["files"][0]["name"] == ("pictures/0.png" if kind == "none" else "labels.csv")
    if kind == "none":
        assert first["patient"] == "pictures/1.tif"
        return
    assert (first["patient"], first["metadata"]) == ("p0", {"site": "north"})
    assert ("label" in first) == (kind == "label")
    sides: dict[str, set[str]] = {}
    for volume, segment in zip(source.volumes, source.segments, strict=True):
        sides.setdefault(volume.facts["patient"], set()).add(segment.split)
    assert [len(side) for side in sides.values()] == [1, 1, 1, 1]
    # A change in nothing but the table is another state of the data, and is named.
    table = tmp_path / "labels.csv"
    table.write_text(table.read_text().replace("south", "west"))
    after = manifest.build(images.open_source(config, tmp_path), config)
    assert dataset_state(after) != dataset_state(document)
    assert [change.split(":")[0] for change in changed_files(document, after)] == ["labels.csv changed"]


def test_pictures_of_other_sizes_are_cropped_padded_or_fitted(tmp_path: Path) -> None:
    wide, small = np.full((10, 48), 255, np.uint8), np.full((4, 4), 255, np.uint8)
    write_picture(tmp_path / "a.png", wide)
    write_picture(tmp_path / "b.png", small)
    source = opened(tmp_path, table=None)
    assert len({volume.shape for volume in source.volumes}) == 1  # so that one program prepares them all
    for resize, sizes in ((False, [(10, 24), (4, 4)]), (True, [(5, 24), (24, 24)])):
        source = opened(tmp_path, table=None, resize=resize)
        for (image, _), (rows, columns) in zip(load(source, table=None, resize=resize).values(), sizes, strict=True):
            assert image.sum() == (image == 1).sum() == rows * columns
            assert image[0].any(axis=1).sum() == rows


def test_a_mask_is_resized_with_its_picture(tmp_path: Path) -> None:
    halves = np.repeat(np.uint8([[0, 1]]), 6, axis=0).repeat(6, axis=1)
    for name in "ab":
        write_picture(tmp_path / f"{name}.png", halves * 255)
        write_picture(tmp_path / "masks" / f"{name}.png", halves)
    write_table(tmp_path, "file,mask", "a.png,masks/a.png", "b.png,masks/b.png")
    fields: dict[str, Any] = {"classes": ["0", "1"], "resize": True}
    image, label = load(opened(tmp_path, **fields), **fields)["a.png/axial/000"]
    assert label[0, 6:18, 12:].all()
    assert label.sum() == 144
    np.testing.assert_array_equal(image[0] > 0.5, label[0] == 1)


def test_a_window_scales_every_picture_alike(tmp_path: Path) -> None:
    for name, number in (("a", 100), ("b", 900)):
        write_picture(tmp_path / f"{name}.npy", np.full((24, 24), number, np.int16))
    fields: dict[str, Any] = {"table": None, "window": [0.0, 400.0]}
    source = opened(tmp_path, **fields)
    assert source.volumes[0].facts["intensities"] == [0.0, 400.0]
    assert [image.max() for image, _ in load(source, **fields).values()] == [0.25, 1.0]
    with pytest.raises(DataError, match=r"a.npy: int16 from 100 to 100 .* set data.window"):
        load(opened(tmp_path, table=None), table=None)


def test_everything_that_does_not_fit_together_is_named_at_once(tmp_path: Path) -> None:
    grey_folder(tmp_path, "x", "y", "z", "", "x", "y")
    write_table(tmp_path, "file,label", "a.png,x", "b.png,y", "c.png,z", "d.png,", "missing.png,x", "../out.png,y")
    write_picture(tmp_path / "e.png", RNG.integers(0, 9, (24, 24, 3), np.uint8))
    (tmp_path / "b.png").write_bytes(b"no picture")
    with (tmp_path / "labels.csv").open("a") as table:
        table.write("e.png,x\n")
    found = problems(tmp_path, classes=["x", "y"])
    expected = [
        "labels.csv: ../out.png: no .png, .tif, .tiff, .npy, .npz file '../out.png'",
        "labels.csv: d.png: the label is empty",
        "labels.csv: missing.png: no .png, .tif, .tiff, .npy, .npz file 'missing.png'",
        "f.png: no row of labels.csv names it",
        "labels.csv: c.png: the label 'z' is none of data.classes=['x', 'y']",
        "b.png: expected a PNG or TIFF file, found other bytes",
        "e.png: is in colour, a.png is grey",
    ]
    assert len(found) == len(expected)
    for problem, beginning in zip(found, expected, strict=True):
        assert problem.startswith(beginning)


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.JPEG", "a.bmp", "a.gif", "a.webp", "a.jp2", "a.dcm", "deep/a.nii", "a.b.nii.gz"]
)
def test_without_a_table_pictures_that_are_not_read_are_named(tmp_path: Path, name: str) -> None:
    grey_folder(tmp_path, *"xy")
    for other in ("notes.txt", name):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_bytes(b"a picture")
    (found,) = problems(tmp_path, table=None)
    suffix = ".nii.gz" if name.endswith(".gz") else Path(name).suffix.lower()
    assert found == (
        f"{name}: {suffix} is not read; expected PNG, TIFF, NPY or NPZ; convert it losslessly, or move it away"
    )
    assert len(opened(tmp_path).volumes) == 2  # where the table says what there is


def test_names_from_the_folder_on_may_begin_with_a_dot(tmp_path: Path) -> None:
    grey_folder(tmp_path, *"xy")
    expected = manifest.build(opened(tmp_path), CONFIG)["volumes"]
    write_table(tmp_path, "file,label", "./a.png,x", ".//b.png,y")
    assert manifest.build(opened(tmp_path), CONFIG)["volumes"] == expected
    write_table(tmp_path, "file,label", "./a.png,x", "b.png,y", "a.png,x")
    assert problems(tmp_path) == ["labels.csv: a.png: a second row of a.png; remove one"]


def test_files_that_are_not_there_are_named_before_their_labels_are_missed(tmp_path: Path) -> None:
    grey_folder(tmp_path, *"xy")
    for kind, values in (("label", "xy"), ("mask", ("m.png", "m.png"))):
        names = [f"{tmp_path}/{name}.png" for name in "ab"]
        write_table(tmp_path, f"file,{kind}", *(f"{n},{value}" for n, value in zip(names, values, strict=True)))
        found = problems(tmp_path)
        for name in names:
            says = f"labels.csv: {name}: no .png, .tif, .tiff, .npy, .npz file '{name}' in {tmp_path}; name it from"
            assert sum(problem.startswith(says) for problem in found) == 1
        assert not [problem for problem in found if "different classes" in problem]


def test_blanks_make_no_class_of_their_own(tmp_path: Path) -> None:
    source = opened(grey_folder(tmp_path, "x, p", " y ,q ", "y ,p", header="file, label, patient"))
    assert source.class_names == ("x", "y")
    assert [volume.facts["patient"] for volume in source.volumes] == ["p", "q", "p"]


@pytest.mark.parametrize("column", ["Patient", "patient_id", "PatientID", "subject", "subject_id", "participant_id"])
def test_a_patient_by_another_name_is_refused(tmp_path: Path, column: str) -> None:
    grey_folder(tmp_path, "x,p", "y,q", "x,p", header=f"file,label,{column}")
    with pytest.raises(DataError, match=rf"labels\.csv: write patient instead of {column}.* give it another name"):
        opened(tmp_path)
    grey_folder(tmp_path, "x,p,1", "y,q,2", "x,p,3", header=f"file,label,patient,{column}")
    assert [volume.facts["patient"] for volume in opened(tmp_path).volumes] == ["p", "q", "p"]


@pytest.mark.parametrize(
    ("header", "says"),
    [("File,label", "write file instead of File"), ("file,LABEL", "write label instead of LABEL"),
     ("file,Mask_", "write mask instead of Mask_"), ("file,tar-get", "write target instead of tar-get")],
)  # fmt: skip
def test_a_column_that_is_nearly_a_known_one_is_refused(tmp_path: Path, header: str, says: str) -> None:
    grey_folder(tmp_path, *"xy", header=header)
    with pytest.raises(DataError, match=rf"labels\.csv: {says}"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["file,label", "a.png,x", "a.png,y"], r"file a.png stands there twice"),
        (["name,label", "a.png,x"], r"expected a column file, found name, label"),
        (["file,label,mask", "a.png,x,b.png"], r"has columns label and mask"),
        (["file,label", "a.png,x,y"], r"line 2 has 3 values for 2 columns"),
        (["file,patient", "a.png,", "b.png,p"], r"a.png: the patient is empty"),
        (["file,label", "a.png,x", "b.png,x"], r"at least two different classes, got x"),
        (["file,target", "a.png,c.npy", "b.png,c.npy"], r"a.png: is \[1, 24, 24\], its target c.npy is \[1, 20, 24\]"),
        (["file,target", "a.png,d.png", "b.png,d.png"], r"d.png: is in colour; save a target as grey"),
        (["file,patient", "a.png,p", "b.png,p", "c.npy,p", "d.png,p"], r"d.png: is in colour, a.png is grey"),
    ],
)
def test_a_table_that_cannot_be_is_refused(tmp_path: Path, lines: Sequence[str], says: str) -> None:
    grey_folder(tmp_path, *"xy")
    write_picture(tmp_path / "c.npy", GREY[0, :20])
    write_picture(tmp_path / "d.png", RNG.integers(0, 9, (24, 24, 3), np.uint8))
    write_table(tmp_path, *lines)
    with pytest.raises((DataError, ConfigError)) as raised:
        opened(tmp_path)
    found = raised.value.problems if isinstance(raised.value, DataProblems) else [str(raised.value)]
    assert any(pytest.RaisesExc(Exception, match=says).matches(Exception(problem)) for problem in found), found


def test_masks_need_the_values_of_their_classes(tmp_path: Path) -> None:
    images_folder(tmp_path, "mask")
    with pytest.raises(ConfigError, match=r"data.classes must list .*; .*masks/0.png has 0, 100, 200"):
        opened(tmp_path)
    with pytest.raises(ConfigError, match=r"values of the masks' pixels, such as \[0,255\], got \['0', 'x'\]"):
        opened(tmp_path, classes=["0", "x"])
    source = opened(tmp_path, classes=["0", "100"])
    with pytest.raises(DataError, match=r"masks/0.png: pixels have the values 200, which are none of data.classes="):
        source.volumes[0].read()


def test_a_file_that_changes_while_it_is_in_use_is_named(tmp_path: Path) -> None:
    source = opened(grey_folder(tmp_path, *"xy"))
    write_picture(tmp_path / "a.png", GREY[5])
    with pytest.raises(DataError, match=r"a.png: changed while it was in use"):
        source.volumes[0].read()


def test_a_folder_or_choice_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"add runtime.data_root=FOLDER"):
        images.open_source(CONFIG, None)
    with pytest.raises(DataError, match="must be a folder"):
        opened(tmp_path / "none")
    grey_folder(tmp_path, "x,p", "y,p", header="file,label,patient")
    with pytest.raises(DataError, match="it holds 2 of 1"):
        opened(tmp_path)
    for fields, says in (
        ({"axis": "coronal"}, "data.axis=axial, not coronal"),
        ({"downsample": 2}, "data.downsample=1, not 2"),
        ({"table": None, "classes": ["a", "b"]}, "neither a column label nor mask"),
        ({"table": "../labels.csv"}, r"data.table=../labels.csv must lie in"),
    ):
        with pytest.raises(ConfigError, match=says):
            opened(tmp_path, **fields)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"other.csv: cannot be read"):
        opened(tmp_path, table="other.csv")


@pytest.mark.slow
def test_it_trains_and_replays_to_the_same_bits_unless_the_table_changed(tmp_path: Path, env: dict[str, str]) -> None:
    images_folder(tmp_path / "data", "target")
    small = ("data.shape=[16,16]", "augmentation=none", "model.channels=4", "model.layers=2", "engine.batch_size=4")
    rest = ("engine.epochs=1", "runtime.progress=false", f"runtime.data_root={tmp_path / 'data'}")
    words = ("conf=mri_step", "data=images", "task=paired", "scheduler.milestones=[1]", *small, *rest)
    run = trains_and_replays(words, env, tmp_path)
    assert len(list(run.path.rglob("prepare_*"))) == 1
    table = tmp_path / "data" / "labels.csv"
    table.write_text(table.read_text().replace("south", "west"))
    assert "labels.csv changed" in refused(crh("replay", run.name, env=env, cwd=tmp_path), 3)
