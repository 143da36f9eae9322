"""Reads pictures and arrays from bytes: PNG and TIFF with Pillow, `.npy` and `.npz` with NumPy, nothing unpickled.

    PNG, TIFF    one picture of 8 or 16 bits grey, or 8 bits each of red, green and blue; for masks also a palette's
                 indices and 1 bit. TIFF also of float32, and compressed without loss only.
    .npy, .npz   [rows, columns] or [slices, rows, columns] of real numbers; an .npz holds one array

Pixels stand as the file has them. Refused by name: transparency, several pages, an orientation that turns the picture,
2 or 4 bits a pixel, 16-bit colour, which Pillow would cut to 8. Gamma and colour profiles are not applied.
"""

import io
import math
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.Image import open as open_picture

from crh_train.errors import DataError

PICTURES = (".png", ".tif", ".tiff")
ARRAYS = (".npy", ".npz")
SUFFIXES = PICTURES + ARRAYS

_MODES = {"L": "uint8", "RGB": "uint8", "I;16": "uint16", "I;16B": "uint16", "F": "float32", "1": "bool", "P": "uint8"}
_LOSSLESS = {"raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "lzma", "zstd", "group3", "group4"}
_ORIENTATION, _BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 274, 258, 262, 339  # TIFF tags
_TIFF = (b"II*\0", b"MM\0*")
_MARKS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp", *_TIFF)
"""One of them is in every file that may say an orientation. Of a PNG without, nothing is decoded to look for it."""
_BLACK_IS_ZERO, _RGB, _PALETTE = 1, 2, 3
_SIGNED = 2
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_LARGEST_EXPANSION = 1032  # of deflate
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, SyntaxError, EOFError, zlib.error, zipfile.BadZipFile,
               NotImplementedError, RuntimeError, OverflowError, Image.DecompressionBombError,
               Warning)  # fmt: skip


class Form(NamedTuple):
    """What a file holds."""

    slices: int
    rows: int
    columns: int
    channels: int  # 3 of a colour picture, else 1
    dtype: str  # of a pixel, as NumPy names it
    indexed: bool = False  # pixels are numbers of colours, or 1 bit: fit for a mask only


def read_form(data: bytes, path: Path) -> Form:
    """What the file holds, without decoding its pixels. Raises `DataError`, naming `path`, for what is refused."""
    return _read(data, path, decode=False)[0]


def read_pixels(data: bytes, path: Path) -> np.ndarray:
    """[slices, rows, columns] or, in colour, [slices, rows, columns, 3], in the file's own number type.

    Raises `DataError`, naming `path`, for what is refused above, and for a file that is cut short or damaged."""
    form, pixels = _read(data, path, decode=True)
    return pixels.reshape(form[:3] if form.channels == 1 else form[:4])


def intensities(pixels: np.ndarray, window: tuple[float, float] | None, path: Path) -> np.ndarray:
    """`pixels` as float32 in [0, 1]. With a window, (v - low) / (high - low), clipped; else divided by the type's
    largest value, 1 for numbers with a fraction, which must be in [0, 1] already.

    Raises:
      DataError: a value is not finite or, without a window, its range is not known.
    """
    if not np.isfinite(pixels).all():
        raise DataError(
            f"{path}: {np.count_nonzero(~np.isfinite(pixels))} pixels are not finite; mend or remove the file"
        )
    if window is not None:
        low, high = window
        scaled: np.ndarray = (np.clip(pixels.astype(np.float64), low, high) - low) / (high - low)
        return scaled.astype(np.float32)
    largest = value_range(pixels.dtype)
    if largest is None or pixels.min() < 0 or pixels.max() > largest:
        raise DataError(
            f"{path}: {pixels.dtype} from {pixels.min():g} to {pixels.max():g} does not say what is black and white; "
            "set data.window=[BLACK,WHITE]"
        )
    return pixels.astype(np.float32) / np.float32(largest)


def value_range(dtype: Any) -> int | None:
    """The value of white where black is 0, of a type of pixels; None where the type does not say."""
    dtype = np.dtype(dtype)
    return 1 if dtype.kind in "bf" else int(np.iinfo(dtype).max) if dtype in (np.uint8, np.uint16) else None


def _read(data: bytes, path: Path, decode: bool) -> tuple[Form, np.ndarray]:
    try:
        if path.suffix.lower() in PICTURES:
            return _picture(data, path, decode)
        if path.suffix.lower() == ".npz":
            return _archive(data, path, decode)
        return _array(io.BytesIO(data), path, len(data), decode)
    except UnidentifiedImageError as error:
        if data.startswith(_TIFF):
            raise DataError(
                f"{path}: a TIFF file that is damaged, or whose pixels are of a type that is not read; expected 8 or "
                "16 bits grey, 8-bit RGB or float32; save it so, or the array as .npy"
            ) from error
        raise DataError(f"{path}: expected a PNG or TIFF file, found other bytes") from error
    except _UNREADABLE as error:
        raise DataError(f"{path}: cannot be read ({error}); the file may be cut short or damaged") from error


def _picture(data: bytes, path: Path, decode: bool) -> tuple[Form, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow warns of damage that it reads past, and of pictures too large
        with open_picture(io.BytesIO(data), formats=("PNG", "TIFF")) as picture:
            if (reason := _refusal(picture, data)) is not None:
                raise DataError(f"{path}: {reason}")
            form = Form(
                1,
                picture.height,
                picture.width,
                3 if picture.mode == "RGB" else 1,
                _MODES[picture.mode],
                picture.mode in ("1", "P"),
            )
            if not decode:
                return form, np.empty(0)
            pixels = np.asarray(picture)
            return form, pixels.astype(pixels.dtype.newbyteorder("="))


def _refusal(picture: Any, data: bytes) -> str | None:
    """Why a picture is not taken."""
    if picture.mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in picture.info:
        return "has transparency; save it without an alpha channel"
    if picture.mode not in _MODES:
        return f"pixels are {picture.mode}; save it as 8- or 16-bit grey or 8-bit RGB"
    if getattr(picture, "n_frames", 1) > 1:
        return f"holds {picture.n_frames} pictures; save one each, or the stack as a .npy array [slices, rows, columns]"
    if any(mark in data for mark in _MARKS) and (turned := picture.getexif().get(_ORIENTATION)) not in (None, 1):
        return f"is to be turned when it is shown (Exif orientation {turned}); save it as it is meant to be seen"
    if picture.format == "PNG":
        bits = data[24]  # of the IHDR chunk, which is the first
        if _PNG_END not in data:
            return "is cut short"
        if picture.mode != "P" and bits != {"1": 1, "I;16": 16}.get(picture.mode, 8):
            return f"has {bits} bits a {'channel' if picture.mode == 'RGB' else 'pixel'}; save it with 8"
        return None
    tags, compression = picture.tag_v2, picture.info["compression"]
    if compression not in _LOSSLESS:
        return f"is compressed as {compression}; save it without loss"
    expected = {"RGB": _RGB, "P": _PALETTE}
    if tags[_PHOTOMETRIC] != (expected[picture.mode] if picture.mode in expected else _BLACK_IS_ZERO):
        return f"its photometric interpretation is {tags[_PHOTOMETRIC]}; save it with 0 as black"
    bits = tags[_BITS][0] if _BITS in tags else 1
    if bits != {"1": 1, "F": 32}.get(picture.mode, 8 * np.dtype(_MODES[picture.mode]).itemsize):
        return f"has {bits} bits a pixel; save it with 8 or 16, and colour with 8"
    if (
        picture.mode == "L" and _SAMPLE_FORMAT in tags and tags[_SAMPLE_FORMAT][0] == _SIGNED
    ):  # which Pillow reads as 0 to 255
        return "its pixels have signs; save it without, or the array as .npy"
    return None


def _archive(data: bytes, path: Path, decode: bool) -> tuple[Form, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if len(names) != 1 or not names[0].endswith(".npy"):
            raise DataError(f"{path}: expected one array, found {', '.join(names) or 'none'}; save it alone")
        with archive.open(name=names[0]) as stream:
            return _array(stream, path, len(data) * _LARGEST_EXPANSION, decode)


def _array(stream: Any, path: Path, limit: int, decode: bool) -> tuple[Form, np.ndarray]:
    head = io.BytesIO(stream.read(min(limit, 2**16)))
    version = np.lib.format.read_magic(head)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{path}: expected an array of numbers, found .npy version {version}")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(head)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise DataError(f"{path}: expected an array of real numbers, found {dtype}")
    if len(shape) not in (2, 3) or 0 in shape:
        raise DataError(f"{path}: expected [rows, columns] or [slices, rows, columns], found {list(shape)}")
    if len(shape) == 3 and shape[2] <= 4:
        raise DataError(
            f"{path}: {list(shape)} looks like channels last; arrays are [slices, rows, columns], and colour is read "
            "from PNG and TIFF"
        )
    if (size := math.prod(shape) * dtype.itemsize) > limit:
        raise DataError(f"{path}: the header promises {size} bytes, more than the file can hold")
    slices, rows, columns = shape if len(shape) == 3 else (1, *shape)
    form = Form(slices, rows, columns, 1, dtype.newbyteorder("=").name)
    if not decode:
        return form, np.empty(0)
    body = head.read() + stream.read()  # to the end, where zip compares its checksum
    if len(body) != size:
        raise DataError(f"{path}: holds {len(body)} bytes of pixels, {size} are promised; it may be cut short")
    pixels = np.frombuffer(body, dtype).reshape(shape, order="F" if fortran_order else "C")
    return form, np.ascontiguousarray(pixels, dtype.newbyteorder("="))
