"""Faults that the run store is tried with, kind by kind; `scripts/faults.py` prints them in one table."""
