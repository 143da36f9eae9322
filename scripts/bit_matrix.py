"""Does every machine give the same bits? Trains a small version of each configuration of `conf/`, and a transformer, in
one environment after another, each in a fresh process, and prints one hash for each, over all that came out: prepared
data, initial state, the metrics of each step, final state, evaluation.

Portable arithmetic must give one hash in each column; with --stock, the same steps as plain `jax.jit` compiles them
must give several in at least one, or the matrix could not fail. The exit status is 0 if so, and 1 if not.

What runs is the archived program, as in a run (`crh_train/archive.py`): traced once, here, and run everywhere.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from matrix import golden
from matrix.rows import CUDA, ROWS, Cell, Measured, Row, diagonal, measure, variables
from rich.console import Console
from rich.table import Table

DIGITS = 6  # of a hash that are shown
EPILOG = """\
other interpreters need jax, numpy and flatbuffers, and nothing of crh-train. ARM64 under emulation, in 616 MB:

  ../shared/tools/arm64-python.sh /tmp/arm64 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 scipy==1.17.1 \\
      ml_dtypes==0.6.0 opt_einsum==3.4.0 absl-py==2.5.1 flatbuffers==25.12.19
  python scripts/bit_matrix.py --rows default --python aarch64=/tmp/arm64/py --cases tissue_linear
"""


class Matrix(NamedTuple):
    measured: Sequence[Measured]
    expected: Mapping[str, str]  # case -> the hash that every row must give
    reference: Mapping[str, Cell]  # case -> the first row's, to see from which stage on another row differs

    def hashes(self, case: str) -> set[str]:
        return {each.cells[case].bits for each in self.measured if case in each.cells}

    def failed(self) -> list[str]:
        """Each row that ended otherwise than it should, in words."""
        return [f"{each.row} failed:\n{each.error}" for each in self.measured if each.error]

    def differing(self) -> list[str]:
        """Each cell that is not what it must be, in words."""
        return [
            f"{case} differs on {each.row}, {self.where(case, cell)}"
            for each in self.measured
            for case, cell in each.cells.items()
            if cell.bits != self.expected[case]
        ]

    def where(self, case: str, cell: Cell) -> str:
        first = self.reference[case].stages
        stages = [stage for stage in first if cell.stages[stage] != first[stage]]
        return f"from {stages[0]}" if stages else "from what is recorded"


def main() -> int:
    given = _arguments()
    os.environ.update(variables(os.environ, Row("tracing")))

    import jax  # after its variables
    from matrix import cases

    chosen = _known("--cases", given.cases, cases.names())
    plan = _plan(given, chosen)
    recorded = None if given.compare is None else golden.read(given.compare, jax.__version__, chosen)
    levels = {row: "native" if given.stock or row.name == given.stock_in else "portable" for row in plan}
    with tempfile.TemporaryDirectory() as scratch:
        for level in sorted(set(levels.values())):
            _tell(f"tracing {len(chosen)} cases under determinism={level}")
            cases.write(Path(scratch, level), chosen, level)

        def measured(row: Row) -> Measured:
            began = time.monotonic()
            found = measure(row, plan[row], Path(scratch, levels[row]))
            _tell(f"{row.name}: {'failed' if found.error else 'done'} in {time.monotonic() - began:.0f} s")
            return found

        with ThreadPoolExecutor(given.jobs) as pool:
            found = list(pool.map(measured, plan))
    reference = {case: cell for each in reversed(found) for case, cell in each.cells.items()}
    expected = {case: cell.bits for case, cell in reference.items()} if recorded is None else recorded
    matrix = Matrix(found, expected, reference)
    if given.json:
        print(json.dumps(_document(matrix, chosen)))
    else:
        _print(matrix, chosen)

    problems = matrix.failed() + ([] if given.stock else matrix.differing())
    for problem in problems:
        _tell(problem)
    if given.stock:
        several = [case for case in chosen if len(matrix.hashes(case)) > 1]
        _tell(f"stock JAX gives several hashes in {len(several)} of {len(chosen)} columns")
        return 1 if problems or not several else 0
    if problems:
        return 1
    _tell("one hash in each column")
    if given.record is not None:
        golden.record(given.record, jax.__version__, found)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--stock", action="store_true", help="plain jax.jit; succeeds if some column has several hashes")
    add(
        "--quick",
        action="store_true",
        help="a diagonal for CI, with --compare: the first case in five environments, each other one in one of them",
    )
    add("--rows", nargs="+", metavar="ROW", help="only these environments, and those of --python and --cuda")
    add("--cases", nargs="+", metavar="CASE", help="only these columns")
    add(
        "--python",
        action="append",
        default=[],
        type=_interpreter,
        metavar="NAME=PATH",
        help="one more environment: an interpreter",
    )
    add("--cuda", action="store_true", help="one more environment: the GPU of this machine")
    add("--jobs", type=int, default=2, metavar="N", help="environments at the same time (2)")
    add("--compare", type=Path, metavar="FILE", help="hold the hashes against those recorded in FILE")
    add("--record", type=Path, metavar="FILE", help="if all agree, write the hashes to FILE, with who gave them")
    add("--json", action="store_true", help="print one JSON document instead of a table")
    add("--stock-in", metavar="ROW", help=argparse.SUPPRESS)  # runs plain jax.jit in one row, which must be noticed
    given = parser.parse_args()
    if given.quick and given.compare is None:
        parser.error("--quick runs most cases once, so it shows something only with --compare FILE")
    return given


def _interpreter(text: str) -> Row:
    name, _, path = text.partition("=")
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"expected NAME=PATH with the path of an interpreter, got {text}")
    return Row(name, python=path)


def _plan(given: argparse.Namespace, cases: list[str]) -> dict[Row, list[str]]:
    """Which cases each environment runs, in the order of the table."""
    more = [*given.python, *([CUDA] if given.cuda else [])]
    if given.quick:
        quick = diagonal(cases)
        return {row: quick[row.name] for row in ROWS if row.name in quick} | dict.fromkeys(more, cases)
    names = _known("--rows", given.rows, [row.name for row in ROWS])
    return dict.fromkeys([*(row for row in ROWS if row.name in names), *more], cases)


def _known(option: str, given: Sequence[str] | None, known: list[str]) -> list[str]:
    """What was given, or all."""
    if unknown := set(given or ()) - set(known):
        sys.exit(f"{option} {' '.join(sorted(unknown))}: expected some of {', '.join(known)}")
    return list(given or known)


def _print(matrix: Matrix, cases: Sequence[str]) -> None:
    table = Table("environment", *cases, "device, jax", "s", show_footer=True)
    table.columns[0].footer = "hashes"
    for column, case in zip(table.columns[1:], cases, strict=False):
        column.footer = str(len(matrix.hashes(case)))
    for each in matrix.measured:
        cells = []
        for case in cases:
            if case not in each.cells:
                cells.append("[red]failed" if each.error else "")
                continue
            cell, short = each.cells[case], each.cells[case].bits[:DIGITS]
            same = cell.bits == matrix.expected[case]
            cells.append(short if same else f"[red]{short} ≠ {matrix.where(case, cell)}")
        machine = "" if each.error else f"{each.facts['device']}, {each.facts['jax']}"
        table.add_row(each.row, *cells, machine, f"{sum(cell.seconds for cell in each.cells.values()):.0f}")
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def _document(matrix: Matrix, cases: Sequence[str]) -> dict[str, Any]:
    return {
        "rows": [
            {**each._asdict(), "cells": {case: cell._asdict() for case, cell in each.cells.items()}}
            for each in matrix.measured
        ],
        "hashes": {case: sorted(matrix.hashes(case)) for case in cases},
    }


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
