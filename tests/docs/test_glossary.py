"""Each term of the glossary stands once, in order, and is used on other pages in both languages."""

from __future__ import annotations

import re

from tests.structure.import_graph import ROOT

GLOSSARY = "explanation/glossary.md"


def rows(language: str) -> list[tuple[str, str]]:
    """Return the terms of the glossary of a language: (English, Chinese)."""
    text = (ROOT / "docs" / language / GLOSSARY).read_text(encoding="utf-8")
    table = text.partition("| --- | --- | --- |\n")[2]
    return re.findall(r"^\| ([^|]+) \| ([^|]+) \|", table, re.MULTILINE)


def other_pages(language: str) -> str:
    """Return the text of all pages of a language but the glossary."""
    folder = ROOT / "docs" / language
    pages = [page for page in sorted(folder.rglob("*.md")) if page != folder / GLOSSARY]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def unused(terms: list[str], text: str) -> list[str]:
    """Return the terms that a text does not use, as words or as beginnings of words."""
    return [term for term in terms if not re.search(rf"(?<![a-z]){re.escape(term)}", text, re.I)]


def test_both_languages_have_the_same_terms_in_order() -> None:
    terms = [english for english, _ in rows("en")]
    assert len(terms) > 40
    assert terms == sorted(set(terms))
    assert rows("en") == rows("zh")


def test_each_term_is_used_on_another_page() -> None:
    assert unused([english for english, _ in rows("en")], other_pages("en")) == []
    assert unused([chinese for _, chinese in rows("zh")], other_pages("zh")) == []


def test_a_term_that_no_page_uses_is_found() -> None:
    assert unused(["gate", "gatekeeper"], "Gates judge on test.") == ["gatekeeper"]
