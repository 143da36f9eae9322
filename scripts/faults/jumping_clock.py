"""Runs `crh-train` under clocks that jump: `jumping_clock.py MONOTONIC_START SEED …`."""

import random
import runpy
import sys
import time

start, seed = float(sys.argv[1]), sys.argv[2]
del sys.argv[1:3]
random_, monotonic = random.Random(seed), time.monotonic
offset = start - monotonic()
time.monotonic = lambda: monotonic() + offset
time.time = lambda: random_.uniform(0.0, 4e9)
runpy.run_module("crh_train", run_name="__main__", alter_sys=True)
