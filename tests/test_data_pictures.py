"""Pixels come out of files bit for bit as they went in, or the file is refused by name."""

import contextlib
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from image_samples import write_picture
from PIL import Image, PngImagePlugin

from crh_train.data import pictures
from crh_train.errors import DataError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)
DEEP = RNG.integers(0, 2**16, (5, 7), np.uint16)
COLOUR = RNG.integers(0, 256, (5, 7, 3), np.uint8)
STACK = RNG.random((4, 5, 7))


def read(path: Path) -> np.ndarray:
    data = path.read_bytes()
    form = pictures.read_form(data, path)
    pixels = pictures.read_pixels(data, path)
    assert pixels.shape == ((*form[:3], 3) if form.channels == 3 else form[:3])
    assert pixels.dtype == np.dtype(form.dtype)
    return pixels


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".tif", ".tiff"])
@pytest.mark.parametrize("pixels", [GREY, DEEP, COLOUR], ids=["8 bits", "16 bits", "colour"])
def test_pictures_are_read_as_they_were_written(tmp_path: Path, suffix: str, pixels: np.ndarray) -> None:
    found = read(saved(Image.fromarray(pixels), tmp_path / f"p{suffix}"))
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found[0], pixels)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"])
@pytest.mark.parametrize("pixels", [GREY, DEEP, COLOUR], ids=["8 bits", "16 bits", "colour"])
def test_tiff_compressed_without_loss(tmp_path: Path, compression: str, pixels: np.ndarray) -> None:
    path = saved(Image.fromarray(pixels), tmp_path / "p.tif", compression=compression)
    np.testing.assert_array_equal(read(path)[0], pixels)


@pytest.mark.parametrize("pixels", [GREY, DEEP, COLOUR, STACK[0].astype(np.float32)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_other_programs(tmp_path: Path, pixels: np.ndarray, order: str) -> None:
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "p.tif", pixels, byteorder=order, photometric=photometric, tile=(16, 16))
    np.testing.assert_array_equal(read(tmp_path / "p.tif")[0], pixels)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">u2", np.float32, ">f8", bool])
def test_arrays_are_read_as_they_were_written(tmp_path: Path, suffix: str, dtype: Any) -> None:
    for number, array in enumerate((STACK, STACK[0], np.asfortranarray(STACK))):
        pixels = (array * 200).astype(dtype, order="K")
        found = read(write_picture(tmp_path / f"{number}{suffix}", pixels))
        np.testing.assert_array_equal(found if array.ndim == 3 else found[0], pixels)


def test_masks_may_be_indices_of_a_palette_or_single_bits(tmp_path: Path) -> None:
    indices = Image.fromarray(GREY % 3)
    indices.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    bits = Image.fromarray(GREY > 99)
    for suffix in (".png", ".tif"):
        for name, image, expected in (("i", indices, GREY % 3), ("b", bits, GREY > 99)):
            path = (
                saved(image, tmp_path / f"{name}{suffix}", bits=8)
                if suffix == ".png" and name == "i"
                else saved(image, tmp_path / f"{name}{suffix}")
            )
            assert pictures.read_form(path.read_bytes(), path).indexed
            np.testing.assert_array_equal(read(path)[0], expected)


def png(**chunks: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, "PNG", **chunks)
    return stream.getvalue()


def turned(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = number
    return exif


def written_png(bits: int, colour: int, line: int) -> bytes:
    """A black PNG of 7 x 5 pixels, of a kind that Pillow does not write. `line`: bytes of pixels in a row."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = (7).to_bytes(4, "big") + (5).to_bytes(4, "big") + bytes([bits, colour, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(1 + line) * 5)), chunk(b"IEND", b"")]
    )


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def pillow(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def bomb() -> bytes:
    """A .npy header that promises 8 TB."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    return stream.getvalue()


def zipped(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", data)
    return stream.getvalue()


REFUSED = {
    "alpha.png": (pillow(Image.fromarray(GREY).convert("LA"), "PNG"), "has transparency"),
    "alpha-colour.png": (pillow(Image.fromarray(COLOUR).convert("RGBA"), "PNG"), "has transparency"),
    "transparent.png": (png(transparency=3), "has transparency"),
    "turned.png": (png(exif=turned(6)), r"to be turned .*\(Exif orientation 6\)"),
    "turned.tif": (pillow(Image.fromarray(GREY), "TIFF", exif=turned(3)), r"to be turned .*\(Exif orientation 3\)"),
    "deep-colour.png": (written_png(16, 2, 42), "has 16 bits a channel"),
    "deep-colour.tif": (tiff(COLOUR.astype(np.uint16), photometric="rgb"), "pixels|bits|read"),
    "few-bits.png": (written_png(4, 0, 4), "has 4 bits a pixel"),
    "animated.png": (png(save_all=True, append_images=[Image.fromarray(GREY[::-1])]), "holds 2 pictures"),
    "pages.tif": (tiff(np.stack([GREY, GREY]), photometric="minisblack"), "holds 2 pictures"),
    "inverted.tif": (tiff(DEEP, photometric="miniswhite"), "photometric interpretation is 0"),
    "double.tif": (tiff(DEEP.astype(np.float64)), "damaged, or .* not read; expected 8 or 16 bits grey, .* or float32"),
    "signed.tif": (tiff(DEEP.astype(np.int16)), "pixels are|cannot be read"),
    "signed-byte.tif": (tiff(GREY.view(np.int8)), "pixels have signs"),
    "print.tif": (pillow(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"), "pixels are CMYK"),
    "lossy.tif": (
        pillow(Image.fromarray(COLOUR), "TIFF", compression="jpeg"),
        "is compressed as jpeg|pixels are YCbCr",
    ),
    "other.png": (pillow(Image.fromarray(GREY), "JPEG"), "expected a PNG or TIFF file, found other bytes"),
    "empty.png": (b"", "expected a PNG or TIFF file"),
    "objects.npy": (npy(np.array([[{}]], object), allow_pickle=True), "array of real numbers, found object"),
    "complex.npy": (npy(STACK[0] * 1j), "array of real numbers, found complex128"),
    "records.npy": (npy(np.zeros((2, 2), [("a", "f4")])), "array of real numbers"),
    "line.npy": (npy(STACK[0, 0]), r"expected \[rows, columns\] or .* found \[7\]"),
    "four.npy": (npy(STACK[None]), r"found \[1, 4, 5, 7\]"),
    "nothing.npy": (npy(np.zeros((0, 5))), r"found \[0, 5\]"),
    "colour.npy": (npy(COLOUR), r"\[5, 7, 3\] looks like channels last"),
    "long.npy": (npy(STACK) + b"0", "holds 1121 bytes of pixels, 1120 are promised"),
    "bomb.npy": (bomb(), "promises 8000000000000 bytes"),
    "bomb.npz": (zipped(bomb()), "promises 8000000000000 bytes"),
    "two.npz": (npz(a=GREY, b=GREY), "expected one array, found a.npy, b.npy"),
    "none.npz": (npz(), "expected one array, found none"),
    "text.npy": (b"no array", "cannot be read"),
    "text.npz": (b"no archive", "cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_taken_is_refused_by_name(name: str) -> None:
    data, says = REFUSED[name]
    with pytest.raises(DataError, match=f"^{name}: .*({says})"):
        pictures.read_pixels(data, Path(name))


WHOLE = {
    "p.png": png(),
    "p.tif": pillow(Image.fromarray(DEEP), "TIFF", compression="tiff_lzw"),
    "p.npy": npy(DEEP),
    "p.npz": npz(a=DEEP),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_anywhere_is_refused_by_name(name: str) -> None:
    data = WHOLE[name]
    pictures.read_pixels(data, Path(name))
    for end in range(len(data)):
        with pytest.raises(DataError, match=f"^{name}: "):
            pictures.read_pixels(data[:end], Path(name))


@settings(max_examples=60)
@given(
    st.sampled_from(list(WHOLE)),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damage_is_refused_by_name_or_changes_pixels(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE[name])
    for position, value in changes:
        data[position % len(data)] = value
    for function in (pictures.read_form, pictures.read_pixels):
        with contextlib.suppress(DataError):
            function(bytes(data), Path(name))


def test_a_comment_or_profile_changes_nothing() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "eXIf")
    for data in (png(pnginfo=text), png(exif=turned(1)), png(gamma=0.5), png(interlace=1)):
        np.testing.assert_array_equal(pictures.read_pixels(data, Path("p.png"))[0], GREY)


def test_intensities_are_those_of_the_range_of_the_type() -> None:
    for pixels, largest in ((GREY, 255), (DEEP, 65535), (GREY > 99, 1), (STACK, 1)):
        found = pictures.intensities(pixels, None, Path("p"))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, (pixels.astype(np.float32) / np.float32(largest)))
    every = pictures.intensities(np.arange(2**16, dtype=np.uint16), None, Path("p"))
    assert (every[0], every[-1]) == (0, 1)
    assert len(set(every.tolist())) == 2**16


def test_a_window_maps_its_ends_to_0_and_1_and_clips() -> None:
    found = pictures.intensities(np.array([[-2000, -160, 40, 240, 3000]]), (-160, 240), Path("p"))
    np.testing.assert_array_equal(found, np.float32([[0, 0, 0.5, 1, 1]]))


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.array([[1, 2]], np.int16), r"int16 from 1 to 2 does not say .*data.window=\[BLACK,WHITE\]"),
        (np.array([[0.0, 1.5]]), "float64 from 0 to 1.5 does not say"),
        (np.array([[-0.1, 1.0]]), "float64 from -0.1 to 1 does not say"),
        (np.array([[np.nan, np.inf, 0]]), "2 pixels are not finite"),
    ],
)
def test_intensities_that_mean_nothing_are_refused(pixels: np.ndarray, says: str) -> None:
    with pytest.raises(DataError, match=f"^p: {says}"):
        pictures.intensities(pixels, None, Path("p"))
