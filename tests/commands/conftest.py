"""Copies of the project for tests that run commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.commands.project import Project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A copy whose stages all connect to one Ray, so that its start is paid once."""
    made = Project(tmp_path_factory.mktemp("commands") / "p")
    up = made.gristmill("up")
    assert up.code == 0, up.error
    yield made
    down = made.gristmill("down")
    assert "Ray is stopped" in down.out and not made.processes()
