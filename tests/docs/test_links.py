"""Links between pages lead to files and headings that are there, and project files stay true."""

from __future__ import annotations

import re
import shlex
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from components.core.params import read_yaml
from tests.structure.import_graph import ROOT

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "benchmarks/*.md",
        "mlflow/*.md",
        "pipelines/*/README*.md",
    )
    for path in ROOT.glob(pattern)
)
# Pages whose two languages have the same commands and the same number of headings and rows.
PAIRS = [("CONTRIBUTING.md", "CONTRIBUTING.zh-CN.md"), ("CHANGELOG.md", "CHANGELOG.zh-CN.md")]
CHANGES = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def page_text(name: str) -> str:
    """Return a page without its code blocks."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(name: str) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page_text(name), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {text.replace(" ", "-") for text in words}


def broken_links(name: str) -> list[str]:
    """Return the links of a page that lead nowhere within the project."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page_text(name)):
        file, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (ROOT / name).parent / file if file else ROOT / name
        is_page = target.suffix == ".md" and target.is_file()
        if not target.exists() or (is_page and anchor and anchor not in anchors(str(target))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("name", PAGES)
def test_links_resolve(name: str) -> None:
    assert broken_links(name) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One two\n\n[a](no.md) [b](#one-two) [c](page.md#three) [d](https://x.org)\n")
    assert broken_links(str(page)) == ["no.md", "page.md#three"]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])
def test_both_languages_have_the_same_parts(pair: tuple[str, str]) -> None:
    marks = [re.findall(r"^(#+ |- |\| |```\w*)", _raw(name), re.MULTILINE) for name in pair]
    assert len(marks[0]) > 10
    assert marks[0] == marks[1]
    code = [re.findall(r"^```.*?^```", _raw(name), re.MULTILINE | re.DOTALL) for name in pair]
    assert code[0] == code[1]


def _raw(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_files_that_contributing_names_are_there() -> None:
    named = re.findall(r"`((?:components|tests|benchmarks)/[\w./]*)`", _raw("CONTRIBUTING.md"))
    assert len(named) > 8
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_tools_that_contributing_runs_are_needed_by_the_project() -> None:
    blocks = re.findall(r"^\.venv/bin/(.+)$", _raw("CONTRIBUTING.md"), re.MULTILINE)
    needed = tomllib.loads(_raw("pyproject.toml"))["project"]["optional-dependencies"]["dev"]
    tools = {shlex.split(line)[0] for line in blocks} - {"python"}
    packages = {re.split(r"[><=\[]", need)[0] for need in needed}
    assert tools == {"ruff", "mypy", "lint-imports"}
    assert {"ruff", "mypy", "import-linter"} <= packages


def test_the_changelog_has_the_form_of_keep_a_changelog() -> None:
    text = _raw("CHANGELOG.md")
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert releases[0] == "[Unreleased]"
    dates = [release[:10] for release in releases[1:]]
    assert all(re.fullmatch(r"\d{4}-\d{2}-\d{2}", date) for date in dates)
    assert all(later >= earlier for later, earlier in pairwise(dates))
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= CHANGES


def test_the_citation_has_the_version_of_the_package() -> None:
    cited = read_yaml(ROOT / "CITATION.cff")
    project = tomllib.loads(_raw("pyproject.toml"))["project"]
    assert cited["cff-version"] == "1.2.0"
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert cited["title"].lower() == project["name"]
