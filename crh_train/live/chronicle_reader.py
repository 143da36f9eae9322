"""Follows a chronicle that is being written: each look reads only what came since the one before.

A line counts once it is whole and the chain has its record; until then it is one that is being written. Where the
chronicle was cut back, as resuming does, reading begins again. Only reads, and takes no lock.
"""

import os
from array import array
from pathlib import Path
from typing import BinaryIO

import numpy as np

from crh_train.averages import Ema
from crh_train.chronicle import CHAIN_NAME, CHAIN_RECORD, LINES_NAME, ChronicleRecord, chain_record, genesis
from crh_train.chronicle_audit import Torn, next_line, opened
from crh_train.errors import CorruptChronicle
from crh_train.live.state import SMOOTHED, Curves
from crh_train.reports.training_metrics import EMA_DECAY


class ChronicleReader:
    """What was read of one run's chronicle so far. Takes 40 bytes of memory a line.

    `problem` says what is wrong with the first line that is not good, `torn` in which line the files end early.
    """

    def __init__(self, folder: Path, run_hash: str) -> None:
        self._folder = folder
        self._start = genesis(run_hash)
        self._begin()

    def _begin(self) -> None:
        self.offset = self._start
        self.last: ChronicleRecord | None = None
        self.problem: str | None = None
        self.torn: str | None = None
        self._columns = {name: array("d" if name == "timestamp" else "f") for name in Curves._fields}
        self._averages = {name: Ema(EMA_DECAY) for name in SMOOTHED}
        self._curves: Curves | None = None  # of the columns, where they have not grown since

    def look(self, limit: int) -> bool:
        """Take in the next lines, at most `limit`; returns whether there may be more at once."""
        try:
            with opened(self._folder / CHAIN_NAME) as chain, opened(self._folder / LINES_NAME) as lines:
                if not self._goes_on(lines, chain):
                    self._begin()
                lines.seek(self.offset.bytes)
                chain.seek(self.offset.records * CHAIN_RECORD.size)
                self.problem = self.torn = None
                for _ in range(limit):
                    if (found := next_line(lines, chain, self.offset)) is None:
                        return False
                    _, self.last, self.offset = found
                    self._add(self.last)
                return True
        except Torn as error:
            self.torn = str(error)
        except CorruptChronicle as error:
            self.problem = str(error)
        return False

    def curves(self) -> Curves:
        if self._curves is None:
            self._curves = Curves(**{name: np.array(column) for name, column in self._columns.items()})
        return self._curves

    def _goes_on(self, lines: BinaryIO, chain: BinaryIO) -> bool:
        """Whether what was read is still there: the chain's record of the last line stands for all before it."""
        if self.offset.records == 0:
            return True
        at = (self.offset.records - 1) * CHAIN_RECORD.size
        there = os.fstat(lines.fileno()).st_size >= self.offset.bytes
        return there and os.pread(chain.fileno(), CHAIN_RECORD.size, at) == chain_record(self.offset)

    def _add(self, record: ChronicleRecord) -> None:
        self._curves = None
        for name in ("loss", "coherence", "lr", "grad_norm", "timestamp"):
            self._columns[name].append(getattr(record, name))
        for name in SMOOTHED:
            value = getattr(record, name)
            if np.isfinite(value):  # one that is not finite would hide all after it
                self._averages[name] = self._averages[name].add(value)
            self._columns[f"smoothed_{name}"].append(float(self._averages[name].value))
