"""Budgets of the fuzz tests: the same few examples in CI, many new ones with `make fuzz`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

# the stub of a model that the tests of the service use
sys.path.append(str(Path(__file__).parents[1] / "components" / "serving"))

# How many times the examples that CI tries; `make fuzz` sets it.
FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))

settings.register_profile(
    "fuzz",
    deadline=None,
    derandomize=FACTOR == 1,
    max_examples=60 * FACTOR,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("fuzz")
