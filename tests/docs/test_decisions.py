"""The records of decisions: numbered without a gap, by date, and each in the table of the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.structure.import_graph import ROOT

LANGUAGES = ("en", "zh")
TITLE = re.compile(r"# (\d{4}): (.+)\n")
DATE = re.compile(r"^\| (20\d\d-\d\d-\d\d) \| \S+ \|$", re.MULTILINE)


def folder(language: str) -> Path:
    """Return the folder of the records in a language."""
    return ROOT / "docs" / language / "decisions"


def records(language: str) -> list[tuple[str, str, str, str]]:
    """Return the records in the order of their files: (file, number, date, title)."""
    found = []
    for path in sorted(folder(language).glob("0*.md")):
        text = path.read_text(encoding="utf-8")
        title, date = TITLE.match(text), DATE.search(text)
        assert title and date, path
        found.append((path.name, title[1], date[1], title[2]))
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_have_no_gap_and_dates_ascend(language: str) -> None:
    numbers = [number for _, number, _, _ in records(language)]
    assert numbers == [f"{position:04d}" for position in range(1, len(numbers) + 1)]
    assert all(file.startswith(f"{number}-") for file, number, _, _ in records(language))
    dates = [date for _, _, date, _ in records(language)]
    assert dates == sorted(dates)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_index_lists_each_record(language: str) -> None:
    index = (folder(language) / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\d{4})\]\((.+)\) \| (.+) \| (.+) \|$", index, re.MULTILINE)
    assert rows == [(number, file, date, title) for file, number, date, title in records(language)]


def test_both_languages_have_the_same_dates() -> None:
    dates = [[record[:3] for record in records(language)] for language in LANGUAGES]
    assert dates[0] == dates[1]
