"""Where the Pythons that a command starts, for the runs of a sweep or the segments of a replay, look for modules."""

import os
import sys

VARIABLE = "PYTHONSAFEPATH"


def own_modules_only() -> None:
    """Let them take modules from where this process does. `python -m` and `python -c` look into the current folder
    first, where a `random.py` or another `crh_train/` may lie, and the program `crh-train` does not.

    By a variable and not by `-P`, because that reaches those, too, that `multiprocessing` and launchers start. Where
    this process looks there itself, as `python -m crh_train` in a checkout does, they do so too.
    """
    try:
        current = {"", os.getcwd()}
    except FileNotFoundError:  # it was removed
        current = {""}
    if not current & set(sys.path):
        os.environ[VARIABLE] = "1"
