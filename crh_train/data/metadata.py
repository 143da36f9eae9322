"""A table about cases or patients, such as BIDS's `participants.tsv`: columns of text, for results by subgroup.

CSV, or TSV where the name ends so; UTF-8, a header line, then a line for each case or patient. One of its columns says
which, by the name that the layout gives it. All values stay text, without the blanks around them: nothing is guessed
about numbers or missing values.

Where a column decides something, a name that is nearly its own is refused: taken for one more column of text, a
`Patient` would leave each case a patient of its own, and one patient's cases in both splits.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from crh_train.data import source_file
from crh_train.digest import digest_bytes
from crh_train.errors import ConfigError, DataError

PATIENT = "patient"
"""The column that says who is never in two splits, where the layout does not say."""

_MAY_BE_PATIENT = ("patientid", "subject", "subjectid", "participantid")  # as `_plain` has them


class Table:
    """Rows by key; `column` is the one that holds the keys, `sha256` that of the file's bytes."""

    def __init__(self, path: Path, column: str, rows: Mapping[str, Mapping[str, str]], sha256: str) -> None:
        self.path, self.column, self.rows, self.sha256 = path, column, rows, sha256

    def row(self, key: str) -> Mapping[str, str]:
        """The other columns of the row `key`. Raises `DataError` where there is none."""
        if key not in self.rows:
            raise DataError(f"{self.path}: no row has {self.column} {key}; add one, or set data.metadata=null")
        return self.rows[key]


def read(root: Path, name: str, keys: Sequence[str], others: Sequence[str] = (), field: str = "data.metadata") -> Table:
    """The table `name` below `root`, keyed by the first of the columns `keys` that it has.

    Args:
      others: the columns besides that decide something, where they are there.
      field: where the table was named.

    Raises:
      ConfigError: `name` leads out of `root`.
      DataError: no readable table, none of `keys`, a column whose name is nearly one of these, a column or a key twice,
        or a row of another length.
    """
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"{field}={name} must lie in the folder of the data, {root}")
    try:
        data = source_file.read(path)
    except DataError as error:
        raise DataError(f"{error}; put the table there, or set {field}=null to do without") from error
    header, lines = _cells(data, path)
    key = next((column for column in keys if column in header), None)
    _check_names(header, [*([] if key is not None else keys), *others], path)
    if key is None:
        raise DataError(f"{path}: expected a column {' or '.join(keys)}, found {', '.join(header) or 'none'}")
    if len(set(header)) != len(header):
        raise DataError(f"{path}: a column stands there twice: {', '.join(header)}")
    rows: dict[str, Mapping[str, str]] = {}
    for number, line in enumerate(lines, start=2):
        if not any(line):
            continue
        if len(line) != len(header):
            raise DataError(f"{path}: line {number} has {len(line)} values for {len(header)} columns")
        values = dict(zip(header, line, strict=True))
        name_of_row = values.pop(key)
        if name_of_row in rows:
            raise DataError(f"{path}: {key} {name_of_row} stands there twice, again in line {number}")
        rows[name_of_row] = values
    return Table(path, key, rows, digest_bytes(data))


def _cells(data: bytes, path: Path) -> tuple[list[str], list[list[str]]]:
    """The header's cells, and those of the other lines."""
    try:
        text = io.StringIO(data.decode("utf-8-sig"), newline="")
        dialect = "excel-tab" if path.suffix == ".tsv" else "excel"
        # Blanks before a quote are skipped, or the quote would be text.
        read = csv.reader(text, dialect, strict=True, skipinitialspace=True)
        lines = [[cell.strip() for cell in line] for line in read]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: no readable table ({error}); expected CSV or TSV in UTF-8") from error
    return (lines[0], lines[1:]) if lines else ([], [])


def _check_names(header: Sequence[str], known: Sequence[str], path: Path) -> None:
    """Raise `DataError` for a column that may be meant as one of `known`, which is not there by its own name."""
    missing = {_plain(name): name for name in known if name not in header}
    for column in header:
        if _plain(column) in missing:
            raise DataError(
                f"{path}: write {missing[_plain(column)]} instead of {column}; or, if the column {column} means "
                "something else, give it another name"
            )
        if PATIENT in missing.values() and _plain(column) in _MAY_BE_PATIENT:
            raise DataError(
                f"{path}: write {PATIENT} instead of {column} if that column says who is never in two splits; if it "
                "means something else, give it another name"
            )


def _plain(name: str) -> str:
    """A column's name but for case, blanks, _ and -."""
    return re.sub(r"[\s_-]", "", name).casefold()
