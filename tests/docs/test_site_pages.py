"""The pages of docs/en and docs/zh: both languages alike, each with something to see, and built."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.diagrams import read_diagrams
from tests.structure.import_graph import ROOT

NAMES = sorted(
    path.relative_to(ROOT / "docs/en").as_posix() for path in (ROOT / "docs/en").rglob("*.md")
)
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(
    r"^(?:```(?:sh|json)|<!-- output.*? -->\n```\w*)\n.*?^```", re.MULTILINE | re.DOTALL
)
SKELETON = re.compile(r"^(#+ |\| |```\w*|<!-- .* -->)", re.MULTILINE)


def text(language: str, name: str) -> str:
    """Return the text of a page."""
    return (ROOT / "docs" / language / name).read_text(encoding="utf-8")


def test_both_languages_have_the_same_pages() -> None:
    chinese = (ROOT / "docs/zh").rglob("*.md")
    assert sorted(path.relative_to(ROOT / "docs/zh").as_posix() for path in chinese) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_have_the_same_parts(name: str) -> None:
    english, chinese = (SKELETON.findall(text(language, name)) for language in ("en", "zh"))
    assert english == chinese


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_have_the_same_commands(name: str) -> None:
    english, chinese = (
        [re.sub(r"\s*#.*", "", block) for block in COMMANDS.findall(text(language, name))]
        for language in ("en", "zh")
    )
    assert english == chinese


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_a_code_block_a_table_or_a_picture(language: str, name: str) -> None:
    assert re.search(r"^```|^\| |!\[", text(language, name), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_a_chinese_page_is_chinese(name: str) -> None:
    prose = CODE.sub("", text("zh", name))
    assert len(re.findall(r"[一-鿿]", prose)) > 20


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site, built with each warning as an error."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.parametrize("language", ["", "zh/"])
def test_each_page_is_in_the_site_and_in_its_menu(site: Path, language: str) -> None:
    menu = (site / language / "index.html").read_text(encoding="utf-8")
    for name in NAMES:
        page = name.removesuffix(".md").removesuffix("index").rstrip("/")
        assert (site / language / page / "index.html").is_file()
        assert not page or f'href="{page}/"' in menu, f"mkdocs.yml: nav lacks {name}"


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    pattern = re.compile(r"<(?:script|link|img)[^>]+(?:src|href)=\"?(?:https?:)?//[^>]+>")
    foreign = {
        tag for page in site.rglob("*.html") for tag in pattern.findall(page.read_text("utf-8"))
    }
    assert {tag for tag in foreign if 'rel="canonical"' not in tag} == set()


def test_the_search_knows_chinese_words(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    assert {"en", "zh"} <= set(index["config"]["lang"])
    # The separator of words that the segmenter writes between Chinese ones.
    separated = " ".join(entry["text"] for entry in index["docs"] if "zh/" in entry["location"])
    assert "\u200b" in separated
    assert "\\u200b" in index["config"]["separator"] or "\u200b" in index["config"]["separator"]


def test_the_menu_has_both_names_of_each_section() -> None:
    configured = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    sections = re.findall(r"^  - ([A-Z][\w -]+):$", configured, re.MULTILINE)
    assert len(sections) >= 4
    assert all(f"{section}: " in configured for section in sections)


def test_the_readme_names_only_pages_that_are_there() -> None:
    links = re.findall(r"\]\((docs/[^)#]+\.md)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_each_diagram_is_drawn_and_no_other() -> None:
    drawn = {path.name for path in (ROOT / "docs/pictures/diagrams").iterdir()}
    assert drawn == set(read_diagrams())


def test_a_diagram_is_a_picture_in_the_site(site: Path) -> None:
    page = (site / "explanation/rollout/index.html").read_text(encoding="utf-8")
    assert "pictures/diagrams/" in page
    assert "flowchart" not in page
