"""A process that collects rarely has the higher limit, and its objects are frozen at its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# Functions at exit run in reverse order, so this one runs after the objects are frozen.
CODE = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 0))
from components.core.garbage import collect_rarely
collect_rarely()
print(gc.get_threshold()[0], gc.get_freeze_count())
"""


def test_garbage_is_collected_rarely_and_not_at_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["10000 0", "True"]
