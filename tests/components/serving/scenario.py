"""What tests of a busy service share."""

from __future__ import annotations

import re
import time
from typing import Any

STUCK = "stuck"


def metric(asked: Any, name: str, **options: Any) -> float:
    """The sum of a metric's series."""
    values = re.findall(
        rf"^{name}(?:{{[^}}]*}})? (\S+)$", asked.get("/metrics", **options).text, re.MULTILINE
    )
    return sum(map(float, values))


def wait_for(asked: Any, name: str, value: float, **options: Any) -> None:
    """Until a metric has a value."""
    deadline = time.monotonic() + 60
    while metric(asked, name, **options) != value:
        assert time.monotonic() < deadline, (
            f"{name} is {metric(asked, name, **options)}, not {value}"
        )
        time.sleep(0.005)
