"""Set Python's garbage collector for processes that import large libraries and end soon."""

from __future__ import annotations

import atexit
import gc

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
