"""The commands of the pages, run as a reader types them: `make test-docs`."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.pages import differences, is_run, read_blocks, run_page
from tests.structure.import_graph import ROOT

PATTERNS = ("README.md", "docs/en/**/*.md", "mlflow/README.md", "pipelines/*/README.md")
pytestmark = [pytest.mark.docs, pytest.mark.timeout(1800)]


def pages() -> list[str]:
    """Return the pages that have commands to run."""
    paths = [path for pattern in PATTERNS for path in ROOT.glob(pattern)]
    return sorted(path.relative_to(ROOT).as_posix() for path in paths if has_commands(path))


def has_commands(path: Path) -> bool:
    """Return whether a page has a block that the runner executes."""
    return any(is_run(block) for block in read_blocks(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", pages())
def test_a_page_prints_what_it_shows(name: str) -> None:
    assert differences(ROOT / name, run_page(ROOT / name)) == []
