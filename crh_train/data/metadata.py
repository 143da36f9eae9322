"""A table about cases or patients, such as BIDS's `participants.tsv`: columns of text, for results by subgroup.

CSV, or TSV where the name ends so; UTF-8, a header line, then a line for each case or patient. One of its columns says
which, by the name that the layout gives it. All values stay text: nothing is guessed about numbers or missing values.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from crh_train.data import source_file
from crh_train.errors import ConfigError, DataError


class Table:
    """Rows by key; `column` is the one that holds the keys."""

    def __init__(self, path: Path, column: str, rows: Mapping[str, Mapping[str, str]]) -> None:
        self.path, self.column, self.rows = path, column, rows

    def row(self, key: str) -> Mapping[str, str]:
        """The other columns of the row `key`. Raises `DataError` where there is none."""
        if key not in self.rows:
            raise DataError(f"{self.path}: no row has {self.column} {key}; add one, or set data.metadata=null")
        return self.rows[key]


def read(root: Path, name: str, columns: Sequence[str], field: str = "data.metadata") -> Table:
    """The table `name` below `root`, keyed by the first of `columns` that it has; `field` is where it was named.

    Raises:
      ConfigError: `name` leads out of `root`.
      DataError: no readable table, none of `columns`, a column or a key twice, or a row of another length.
    """
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"{field}={name} must lie in the folder of the data, {root}")
    try:
        text = source_file.read(path).decode("utf-8-sig")
        lines = list(
            csv.reader(io.StringIO(text, newline=""), "excel-tab" if name.endswith(".tsv") else "excel", strict=True)
        )
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: no readable table ({error}); expected CSV or TSV in UTF-8") from error
    header = lines[0] if lines else []
    key = next((column for column in columns if column in header), None)
    if key is None:
        raise DataError(f"{path}: expected a column {' or '.join(columns)}, found {', '.join(header) or 'none'}")
    if len(set(header)) != len(header):
        raise DataError(f"{path}: a column stands there twice: {', '.join(header)}")
    rows: dict[str, Mapping[str, str]] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        if len(line) != len(header):
            raise DataError(f"{path}: line {number} has {len(line)} values for {len(header)} columns")
        values = dict(zip(header, line, strict=True))
        name_of_row = values.pop(key)
        if name_of_row in rows:
            raise DataError(f"{path}: {key} {name_of_row} stands there twice, again in line {number}")
        rows[name_of_row] = values
    return Table(path, key, rows)
