"""The security page names tests that are there, and both languages the same ones."""

from __future__ import annotations

import re

import pytest

from tests.structure.import_graph import ROOT

PAGES = ("docs/en/explanation/security.md", "docs/zh/explanation/security.md")


def named_tests(page: str) -> list[str]:
    """The test files of a page, in order."""
    return re.findall(r"`((?:\w+/)+test_\w+\.py)`", (ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_each_test_that_is_named_is_there(page: str) -> None:
    assert len(named_tests(page)) > 20
    assert [name for name in named_tests(page) if not (ROOT / "tests" / name).is_file()] == []


def test_both_languages_name_the_same_tests() -> None:
    assert named_tests(PAGES[0]) == named_tests(PAGES[1])
