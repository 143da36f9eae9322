"""Collects what is wrong with a source, so that one look at a folder names every file that has to be mended."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from crh_train.errors import DataError, DataProblems


class Problems:
    """What was found so far: each "FILE: reason", in the order in which it was found."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, problem: str) -> None:
        self.found.append(problem)

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """A `DataError` inside ends the block and is added."""
        try:
            yield
        except DataError as error:
            self.found.extend(listed(error))

    def refuse(self, usable: Sequence[Any] = ()) -> None:
        """Raise `DataProblems` if there were any. `usable`: the volumes that could be opened all the same."""
        if self.found:
            raise DataProblems(self.found, usable)


def listed(error: DataError) -> tuple[str, ...]:
    """The problems that an error stands for."""
    return error.problems if isinstance(error, DataProblems) else (str(error),)
