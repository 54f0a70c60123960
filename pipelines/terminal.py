"""What is printed reaches any terminal: characters that its encoding lacks become question
marks.
"""

from __future__ import annotations

import io
import os
import sys


def print_anything() -> None:
    """Let this process and those that it starts print every character without an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    encoding = os.environ.get("PYTHONIOENCODING", "").partition(":")[0]
    if not encoding and sys.stdout is not None:
        encoding = sys.stdout.encoding or "utf-8"
    # DVC, Ray and the stages inherit it.
    os.environ["PYTHONIOENCODING"] = f"{encoding}:replace"
