"""PNG and TIFF in their own format, NPY and NPZ as NPZ, with the checkpoint's hash inside."""

import io
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

from crh_train.data import pictures, source_file
from crh_train.data.images import as_volume
from crh_train.errors import DataError
from crh_train.inference.case import Case, Encoded, Result, label_type, stored

_DESCRIPTION = 270  # TIFF tag
_ENDINGS = {".png": (".png",), ".tif": (".tif", ".tiff"), ".tiff": (".tiff", ".tif"), ".npy": (".npz",)}


def endings(path: Path) -> tuple[str, ...]:
    """Of the output's name, the input's own first."""
    suffix = path.suffix.lower()
    return _ENDINGS[suffix] if suffix in _ENDINGS else (suffix,)


def read(path: Path) -> Case:
    """One picture or stack, its pixels as the file has them. Raises `DataError` for what training would refuse."""
    data = source_file.read(path)
    if pictures.read_form(data, path).indexed:
        raise DataError(f"{path}: has a palette or 1 bit a pixel, fit for masks only; save it as grey or RGB")
    pixels = pictures.read_pixels(data, path)
    encode = partial(_encode, pixels.dtype, _is_stack(data, path))
    return Case(path, as_volume(pixels), spacing=None, axis="axial", encode=encode)


def _is_stack(data: bytes, path: Path) -> bool:
    """Whether the file holds slices, of which there may be only one. `pictures.read_pixels` accepted it."""
    if path.suffix.lower() in pictures.PICTURES:
        return False
    found = np.load(io.BytesIO(data), allow_pickle=False)
    return bool((found if isinstance(found, np.ndarray) else found[found.files[0]]).ndim == 3)


def _encode(number: np.dtype, is_stack: bool, result: Result, ending: str) -> Encoded:
    stack = np.ascontiguousarray(np.swapaxes(result.values, 0, 2)[:, ::-1, ::-1])  # undoes `as_volume`
    array = stack.astype(label_type(stack)) if result.classes else stored(stack, number)
    array = array if is_stack else array[0]
    if result.classes and ending in pictures.PICTURES and array.dtype.itemsize > 2:
        raise DataError(f"the class {array.max()} is more than a {ending} file's 16 bits hold; predict an .npy or .npz")
    stream, text = io.BytesIO(), f"crh-train {result.checkpoint}"
    if ending == ".npz":
        np.savez_compressed(stream, prediction=array, checkpoint=np.array(result.checkpoint))
    elif ending == ".png":
        note = PngImagePlugin.PngInfo()
        note.add_text("Software", text)
        Image.fromarray(array).save(stream, "PNG", pnginfo=note)
    else:
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[_DESCRIPTION] = text
        Image.fromarray(array).save(stream, "TIFF", tiffinfo=tags)
    return Encoded({"": stream.getvalue()}, array)
