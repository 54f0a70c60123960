"""Copies of the project for tests that run commands."""

from __future__ import annotations

import pytest

from tests.commands.project import Project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project, in which stages of few rows run without Ray."""
    return Project(tmp_path_factory.mktemp("commands") / "p")
