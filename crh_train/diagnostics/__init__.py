"""Continuity: what the chronicle's last steps say of how training goes, and what to do about it.

Source: related specifications, Diagnostics. `measures` makes four numbers of a window of a series, `classes` a class
and an action of them, `policy` what a run does about it that may act, `continuity` follows a whole chronicle. All of it
is a pure function of the chronicle: no JAX, no clock, no files.
"""
