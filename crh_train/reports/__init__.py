"""The files that a finished run leaves for people and for machines. Values in, bytes out; nothing is read or written.

Neither this package nor what it builds needs JAX; matplotlib is imported by `build`, not by importing the package.
"""

import logging

from crh_train.reports.bundle import build
from crh_train.reports.inputs import Case, CaseRow, HeldOut, ManifestSummary, Panel, ReportInputs, SliceRow

# Without a home folder matplotlib keeps its list of fonts in a temporary one, and tells everybody in two long lines.
logging.getLogger("matplotlib").addFilter(lambda record: record.funcName != "_get_config_or_cache_dir")

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
