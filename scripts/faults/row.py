"""One line of the table of faults."""

from collections.abc import Sequence
from typing import NamedTuple

_TOLD = 3  # failures
_TOLD_CHARACTERS = 300  # of each


class Row(NamedTuple):
    fault: str
    tried: int
    survived: int
    note: str  # what was counted beside, or the first failures


def row(fault: str, cases: Sequence[Sequence[str]], note: str) -> Row:
    """The line for `cases`, each the list of what went wrong in it."""
    failed = ["; ".join(problems)[:_TOLD_CHARACTERS] for problems in cases if problems]
    return Row(fault, len(cases), len(cases) - len(failed), " | ".join(failed[:_TOLD]) or note)
