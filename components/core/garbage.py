"""Say what becomes of unused memory: Python's garbage collector, and the memory pool of Arrow."""

from __future__ import annotations

import atexit
import gc
import os

# Allocations before a collection. Python's default of 700 suits processes with few objects.
_ALLOCATIONS = 10_000


def collect_rarely() -> None:
    """Collect garbage less often in this process, and not at its end.

    Imports of torch, Ray and MLflow make half a million objects that stay. By default, the
    collections of these objects take a third of the processor time of a short command. Reference
    counting still frees everything outside of reference cycles at once.
    """
    gc.set_threshold(_ALLOCATIONS)
    # Functions at exit run in reverse order: the other ones run before the objects are frozen.
    atexit.register(gc.freeze)


# Environment variables of processes that read and write tables.
ARROW_MEMORY = {"ARROW_DEFAULT_MEMORY_POOL": "system"}


def return_freed_memory() -> None:
    """Make Arrow return freed memory to the system, in this process and in those that it starts.

    Its default pool keeps it: a process that wrote 650,000 rows of tokens had 149 MiB in place of
    48. The time is the same. Call this before pyarrow is imported.
    """
    for name, value in ARROW_MEMORY.items():
        os.environ.setdefault(name, value)
