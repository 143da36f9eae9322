"""How many processor cores there are for this process, and threads for work that releases the interpreter's lock."""

import os
from concurrent.futures import ThreadPoolExecutor


def available() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_pool() -> ThreadPoolExecutor:
    """One thread for each of them."""
    return ThreadPoolExecutor(available())
