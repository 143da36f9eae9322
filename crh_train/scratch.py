"""Scratch files, outside every run, in the system's temporary folder."""

import contextlib
import tempfile
from collections.abc import Iterator

from crh_train.errors import StorageFailed


@contextlib.contextmanager
def named() -> Iterator[None]:
    """Within it, what the temporary folder refuses is `StorageFailed` naming that folder."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            f"the temporary folder cannot be used: {_folder()}{error.strerror}; make room there, or set TMPDIR to a "
            "folder that has some"
        ) from error


def _folder() -> str:
    try:
        return f"{tempfile.gettempdir()}: "
    except FileNotFoundError:  # there is none, as the error itself says
        return ""
