"""Faults that the run store is tried with, kind by kind; `scripts/fault_table.py` prints them in one table."""
