"""Standard output and error as they are given to a command: closed, full, or a pipe that nobody reads any more.

What cannot be printed on standard output ends the command, with one line on standard error and an exit code that says
so: a script must not take it for a check that failed. What cannot be printed on standard error is left out, because it
would end a training for the sake of a progress line. Python's own streams raise in the middle of whatever prints, and
once more at exit.
"""

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

BROKEN_PIPE = 141  # as a shell says of a program that SIGPIPE ended, which Python ignores
OUTPUT_REFUSED = 3  # as of any disk that refuses a write


class _Refused(Exception):
    """Standard output took no more. No `OSError`: rich and typer have answers of their own to those."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.error = error


class _Output(io.FileIO):
    """Raises `_Refused` at the first write that fails; the rest, which the buffer above still holds, is let go."""

    _failed = False

    def write(self, data: "ReadableBuffer", /) -> int:
        if self._failed:
            return memoryview(data).nbytes
        try:
            while (written := super().write(data)) is None:  # a pipe that is full, and was told not to wait
                select.select([], [self], [])
            return written
        except OSError as error:
            self._failed = True
            raise _Refused(error) from error


class _Error(io.FileIO):
    """Lets go of what cannot be written."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            written = super().write(data)
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written


@contextlib.contextmanager
def forgiving() -> Iterator[None]:
    """Within it, which is a whole process, the streams are as said above. Where standard output refused anything,
    it ends the process.
    """
    _open_what_is_closed()
    sys.stdout = _text(sys.stdout, _Output(1, "wb", closefd=False))
    sys.stderr = _text(sys.stderr, _Error(2, "wb", closefd=False))
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except _Refused as refused:
        if refused.error.errno == errno.EPIPE:
            sys.exit(BROKEN_PIPE)
        sys.stderr.write(
            f"error: standard output could not be written to: {refused}; what the command did stays done: make room "
            "there, or send the output elsewhere, and give it again\n"
        )
        sys.exit(OUTPUT_REFUSED)


def _open_what_is_closed() -> None:
    """Give the standard descriptors that are closed to nobody: else the next file that is opened gets the number, and
    with it, in a run's folder, what a library prints."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            nobody = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(nobody, True)


def _text(given: TextIO | None, raw: io.FileIO) -> io.TextIOWrapper:
    """`raw` with the encoding of the stream `given`; a table is printed, too, where that has no `·`."""
    shown = given if isinstance(given, io.TextIOWrapper) else None
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding="utf-8" if shown is None else shown.encoding,
        errors="backslashreplace",
        line_buffering=shown is None or shown.line_buffering,
        write_through=shown is not None and shown.write_through,
    )
