"""Every failure a user can meet, each with the exit code that the command line returns for it.

    CrhTrainError                    exit
    ├── CheckFailed                   1   a check ran and its answer is no
    │   ├── BitsDiffer                    a replay produced other bits
    │   ├── VerificationFailed            a run's files contradict one another
    │   └── Diverged                      training met a non-finite number
    ├── UsageError                    2   what was asked for cannot be done as asked
    │   ├── ConfigError                   a configuration key, value or choice
    │   ├── EnvironmentRefused            a flag or variable that breaks the promise
    │   ├── NotPortable                   an operation or type that has no machine-independent meaning
    │   ├── RunNotFound                   no run, or several, under that name
    │   └── RunBusy                       another process is writing to the run
    ├── InputError                    3   bytes that cannot be read or trusted
    │   ├── DataError                     a data source: missing, unreadable, changed
    │   │   └── DataProblems                  several of them
    │   ├── CorruptCheckpoint
    │   ├── CorruptChronicle
    │   ├── CorruptRun                    a run's other files (config, manifest, environment, reports)
    │   ├── CorruptLedger                 the ledger of a sweep
    │   └── KeyRefused                    a file does not hold the key that was asked for
    ├── StorageFailed                 3   the disk refused a write: full, read-only, failing
    ├── Interrupted                 130   stopped by a signal after a finished step
    └── ProcessFailed                 –   another process of the same run ended; with the code that it ended with

A message is one line: what was expected, what was found and where, and what to do next.
"""

from collections.abc import Sequence
from typing import Any


class CrhTrainError(Exception):
    exit_code = 1


class CheckFailed(CrhTrainError):
    exit_code = 1


class BitsDiffer(CheckFailed):
    pass


class VerificationFailed(CheckFailed):
    pass


class Diverged(CheckFailed):
    pass


class UsageError(CrhTrainError):
    exit_code = 2


class ConfigError(UsageError):
    pass


class EnvironmentRefused(UsageError):
    pass


class NotPortable(UsageError):
    pass


class RunNotFound(UsageError):
    pass


class RunBusy(UsageError):
    pass


class InputError(CrhTrainError):
    exit_code = 3


class DataError(InputError):
    pass


class DataProblems(DataError):
    """All that is wrong with a source. The message is the first problem's and says whether there are more. It does not
    say how many: `crh-train data check` also decodes every image, and finds what this could not."""

    def __init__(self, problems: Sequence[str], usable: Sequence[Any]) -> None:
        rest = " (and more; `crh-train data check` lists each)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{rest}")
        self.problems = tuple(problems)  # each "FILE: reason"
        self.usable = tuple(usable)  # the volumes that could be opened all the same


class CorruptCheckpoint(InputError):
    pass


class CorruptChronicle(InputError):
    pass


class CorruptRun(InputError):
    pass


class CorruptLedger(InputError):
    pass


class KeyRefused(InputError):
    pass


class StorageFailed(CrhTrainError):
    exit_code = 3


class Interrupted(CrhTrainError):
    exit_code = 130


class ProcessFailed(CrhTrainError):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
