"""Order: files that take minutes begin first, or one process would be left alone with them at the end while the others have nothing to do."""

from __future__ import annotations

import pytest

LONG = (
    "faults/test_kills.py",
    "commands/test_pipeline.py",
    "training/test_nodes.py",
    "tune/test_search.py",
    "serving/test_deploy.py",
    "registry/test_move.py",
    "training/test_random_kills.py",
    "components/orchestration/test_closed_loop.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of LONG, then the others as they were."""
    items.sort(
        key=lambda item: next(
            (place for place, name in enumerate(LONG) if item.path.as_posix().endswith(name)),
            len(LONG),
        )
    )
