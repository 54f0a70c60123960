"""Order and marks of the tests.

Files that take minutes begin first. Otherwise one process would be left alone with them at the end,
while the others have nothing to do.
"""

from __future__ import annotations

import pytest

LONG = (
    "faults/test_kills.py",
    "faults/test_kills_of_runs.py",
    "faults/test_kills_of_decisions.py",
    "commands/test_pipeline.py",
    "training/test_nodes.py",
    "tune/test_search.py",
    "serving/test_deploy.py",
    "registry/test_move.py",
    "training/test_random_kills.py",
    "components/orchestration/test_closed_loop.py",
)
# Long tests of kills, lost nodes and broken disks: `make test-faults` runs them, `make test` does not.
FAULTS = (
    "tests/faults/",
    "orchestration/test_random_candidates.py",
    "orchestration/test_restart_of_service.py",
    "orchestration/test_service.py",
    "training/test_nodes.py",
    "training/test_random_kills.py",
    "tune/test_ranks.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the long tests of faults, and sort the files of LONG to the front."""
    for item in items:
        if any(name in item.path.as_posix() for name in FAULTS):
            item.add_marker("faults")
    items.sort(
        key=lambda item: next(
            (place for place, name in enumerate(LONG) if item.path.as_posix().endswith(name)),
            len(LONG),
        )
    )
