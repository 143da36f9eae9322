"""What verifying finds: one thing worth telling each, and where."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from crh_train.errors import CorruptRun


@dataclass(frozen=True)
class Finding:
    """One thing worth telling. `damage` means that the files are not what was written; `note` does not."""

    severity: str  # damage or note
    place: str  # the file, relative to what is verified
    message: str


def damaged(place: str, messages: Iterable[str]) -> list[Finding]:
    return [Finding("damage", place, message) for message in messages]


def failures(checks: Mapping[str, Callable[[], object]]) -> list[Finding]:
    """Damage at each place whose check raises `CorruptRun`."""
    findings: list[Finding] = []
    for place, check in checks.items():
        try:
            check()
        except CorruptRun as error:
            findings += damaged(place, [str(error)])
    return findings
