"""The files that a finished run leaves for people and for machines. Values in, bytes out; nothing is read or written.

Neither this package nor what it builds needs JAX; matplotlib is imported by `build`, not by importing the package.
"""

from crh_train.reports.bundle import build
from crh_train.reports.inputs import Case, CaseRow, HeldOut, ManifestSummary, Panel, ReportInputs, SliceRow

__all__ = [
    "Case",
    "CaseRow",
    "HeldOut",
    "ManifestSummary",
    "Panel",
    "ReportInputs",
    "SliceRow",
    "build",
]
