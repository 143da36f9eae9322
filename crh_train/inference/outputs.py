"""Where predictions go, and that they get there whole: each under a temporary name first, and over nothing unasked."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from crh_train import filesystem
from crh_train.errors import UsageError
from crh_train.inference.case import Encoded


class Place(NamedTuple):
    path: Path  # a file, or the folder of a series
    ending: str  # of the file; empty for a folder


def place(out: Path, several: bool, name: str, endings: Sequence[str]) -> Place:
    """Where the output of a case goes: `out` itself, or in it, where there are several cases or it is a folder.

    Raises:
      UsageError: `out` ends otherwise than the input's format.
    """
    if not endings:
        return Place(out / name if several else out, "")
    if several or out.is_dir():
        return Place(out / f"{name}{endings[0]}", endings[0])
    for ending in endings:
        if out.name.endswith(ending) and out.name != ending:
            return Place(out, ending)
    raise UsageError(
        f"-o {out}: expected a name that ends in {' or '.join(endings)}, as the input is, or a folder that is there; "
        "nothing was written"
    )


def check_free(path: Path, inputs: Sequence[Path], force: bool) -> None:
    """Raise `UsageError` where `path` is taken, or is an input."""
    for given in inputs:
        if path.exists() and given.exists() and path.samefile(given):
            raise UsageError(f"{path}: is an input; give another name with -o")
    if path.exists() and not force:
        raise UsageError(f"{path}: is there already; give another name with -o, or --force to write over it")


def publish(path: Path, encoded: Encoded, force: bool) -> None:
    """Put the output in place, durably. Raises `UsageError` where that would write over what is there, unforced, or
    leave other files beside those of a series."""
    filesystem.make_folders(path.parent)
    if list(encoded.files) != [""]:
        _publish_folder(path, encoded, force)
    elif force:
        filesystem.write_over(path, encoded.files[""])
    else:
        with filesystem.NewFile(path.parent) as file:
            file.write(encoded.files[""])
            if not file.publish(path.name):
                check_free(path, (), force)


def _publish_folder(path: Path, encoded: Encoded, force: bool) -> None:
    if force and path.is_dir():
        if others := sorted({each.name for each in path.iterdir()} - encoded.files.keys()):
            raise UsageError(f"{path}: holds other files, such as {others[0]}; remove the folder, or give another")
        for name, data in encoded.files.items():
            filesystem.write_over(path / name, data)
        return
    with filesystem.NewFolder(path.parent) as folder:
        for name, data in encoded.files.items():
            with filesystem.NewFile(folder.path) as file:
                file.write(data)
                file.publish(name)
        if not folder.publish(path.name):
            check_free(path, (), force)
