"""crh-train: a deterministic training engine for medical imaging."""

__version__ = "0.1.0"

SEMANTICS_VERSION = 1
"""Raised whenever the same configuration, data and seed would no longer give the same bits. Part of the run hash."""
