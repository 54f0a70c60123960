"""The pages of the commands follow from the help texts, and each help text has its Chinese."""

from __future__ import annotations

import re

import pytest

from components.cli.reference.command_pages import command_pages, help_texts, read_words
from tests.components.cli.test_help_texts import COMMANDS
from tests.structure.import_graph import ROOT

HAN = re.compile(r"[\u4e00-\u9fff]")
REMEDY = "run python -m components.cli.reference"


@pytest.mark.parametrize("name", command_pages())
def test_a_page_is_what_the_help_texts_say(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == command_pages()[name], REMEDY


def test_each_command_and_each_option_is_on_the_page() -> None:
    page = command_pages()["docs/en/reference/commands.md"]
    for path, command in COMMANDS.items():
        heading = f"# `{' '.join(('gristmill', *path))}`\n"
        assert not path or heading in page, path
        section = page.partition(heading)[2].partition("\n#")[0] if path else page
        is_group = hasattr(command, "commands")
        shown = [] if is_group and path else [param.opts[0] for param in command.params]
        options = [option for option in shown if option.startswith("-")]
        assert [option for option in options if f"`{option}" not in section] == [], path


def test_each_help_text_has_its_chinese_and_no_other_text_has_one() -> None:
    translations = read_words("zh").translations
    assert set(translations) == help_texts()
    english = {text for text, chinese in translations.items() if not HAN.search(chinese)}
    assert english == {"NAME"}


def test_each_panel_has_a_heading_in_both_languages() -> None:
    english, chinese = (read_words(language) for language in ("en", "zh"))
    assert list(english.panels) == list(chinese.panels)
    assert english.words.keys() == chinese.words.keys()
