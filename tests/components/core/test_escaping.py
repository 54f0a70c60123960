"""Texts from outside, escaped for each place: nothing that the place obeys, nothing lost."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import sys
import unicodedata
from xml.etree import ElementTree as ET

import pytest
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from components.core import escaping
from components.core.errors import InputError
from tests.hostile import HOSTILE, READABLE, raw_in

LINES = [escaping.terminal, escaping.one_line, escaping.log_line, escaping.markdown, escaping.chat]
BLOCKS = [escaping.terminal_lines, escaping.message_lines, escaping.log_block, escaping.html]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("escape", [*LINES, *BLOCKS, escaping.svg], ids=lambda each: each.__name__)
def test_nothing_that_a_terminal_obeys_comes_out(escape, name: str) -> None:
    shown = escape(HOSTILE[name])
    assert not raw_in(shown), ascii(shown[:200])
    shown.encode("utf-8")
    if escape in LINES:
        assert "\n" not in shown


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize(
    "escape", [escaping.terminal, escaping.log_line, escaping.terminal_lines, escaping.svg]
)
def test_ordinary_text_stays_as_it_is(escape, name: str) -> None:
    assert escape(READABLE[name]) == READABLE[name]


def test_hidden_characters_are_spelled_and_not_lost() -> None:
    assert escaping.terminal("a\x1b[2J\u202e\U000e0041\ud800") == r"a\x1b[2J\u202e\U000e0041\ud800"
    assert escaping.terminal("e" + "\u0301" * 6) == "e" + "\u0301" * 4 + r"\u0301" * 2


def test_what_the_unicode_database_calls_invisible_is_spelled_out() -> None:
    hidden = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    shown = []
    # Many in one text: a text for each character takes six seconds.
    for start in range(0, sys.maxunicode + 1, 0x400):
        characters = [chr(code) for code in range(start, start + 0x400)]
        invisible = [one for one in characters if unicodedata.category(one) in hidden]
        escaped = set(escaping.terminal("a".join(invisible)))
        shown += [character for character in invisible if character in escaped]
    # Signs that are drawn around or above a number.
    assert shown == list("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u0890\u0891\u08e2")


def test_a_line_has_its_width_in_columns() -> None:
    assert escaping.one_line("a  b\r\n\t c") == "a b c"
    assert escaping.one_line("中" * 40, 20) == "中" * 9 + "…"
    assert escaping.one_line("中" * 10, 20) == "中" * 10
    assert escaping.one_line("a" * 20, 20) == "a" * 20
    assert escaping.one_line("a" * 21, 20) == "a" * 19 + "…"
    assert escaping.one_line("a" + " " * 10**6 + "b", 20) == "a…"


def test_a_message_has_a_limit() -> None:
    shown = escaping.log_line("A" * 10**6)
    assert shown.endswith("A… (1,000,000 characters)") and len(shown) < 21_000
    assert escaping.message_lines("a\nb") == "a\nb"


def test_no_line_break_forges_a_line_of_a_log() -> None:
    assert escaping.log_line("user\n12:00:00 approved by root") == (
        r"user\n12:00:00 approved by root"
    )


@pytest.mark.parametrize("name", ["cell", "script", "Markdown", "bare address", "mention"])
def test_markdown_holds_plain_words(name: str) -> None:
    shown = escaping.markdown(HOSTILE[name])
    assert not set("|<>`*[]!@") & set(shown)
    assert "://" not in shown and "www." not in shown


def test_markdown_says_what_the_text_said() -> None:
    import html

    for name in ("cell", "script", "Markdown", "bare address", "mention", "quotes"):
        assert html.unescape(escaping.markdown(HOSTILE[name], 300)) == HOSTILE[name]


@pytest.mark.parametrize("name", HOSTILE)
def test_code_in_markdown_is_one_span(name: str) -> None:
    shown = escaping.markdown_code(HOSTILE[name])
    assert not raw_in(shown)
    tokens = MarkdownIt("commonmark").parseInline(f"Source: {shown}")[0].children
    assert tokens is not None
    assert [token.type for token in tokens] == ["text", "code_inline"]


def test_html_is_text() -> None:
    assert escaping.html("<b>\n'\"&\x1b") == "&lt;b&gt;\n&#x27;&quot;&amp;\\x1b"


@pytest.mark.parametrize("name", HOSTILE)
def test_no_value_ends_a_script(name: str) -> None:
    for text in (HOSTILE[name], f"</script>{HOSTILE[name]}<!-- <SCRIPT </ScRiPt>"):
        shown = json.dumps(escaping.script(text))
        assert not re.search(r"</|<!|<script", shown, re.IGNORECASE) and not raw_in(shown)
    assert escaping.script("a < b, <b>c") == "a < b, <b>c"


def test_a_label_of_a_plot_is_xml() -> None:
    for text in HOSTILE.values():
        element = ET.Element("text")
        element.text = escaping.svg(text)
        assert ET.fromstring(ET.tostring(element)).text == element.text


def test_chat_mentions_nobody() -> None:
    assert escaping.chat("<!channel> & <http://evil|x>\nb") == (
        r"&lt;!channel&gt; &amp; &lt;http://evil|x&gt;\nb"
    )


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "lone surrogate"])
def test_yaml_reads_the_same_text(name: str) -> None:
    text = HOSTILE[name]
    line = f"a: {escaping.yaml_string(text)}\n"
    assert line.count("\n") == 1
    assert YAML(typ="safe", pure=True).load(line) == {"a": text}


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("/usr/bin/python3", "/usr/bin/python3"),
        ("0 3 * * *", '"0 3 * * *"'),
        ("100%", "100%%"),
        ("$HOME ${HOME}", '"$$HOME $${HOME}"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("a\nExecStart=/bin/sh", r'"a\x0aExecStart=/bin/sh"'),
        ("", '""'),
    ],
)
def test_a_word_of_a_unit_stays_one_word(word: str, line: str) -> None:
    assert escaping.systemd_word(word) == line
    # Apart from systemd's own signs, its quotes are those of a shell.
    if "\n" not in word:
        assert [part.replace("$$", "$").replace("%%", "%") for part in shlex.split(line)] == [word]


def test_a_setting_of_a_unit_is_one_line_or_refused() -> None:
    assert escaping.systemd_setting("/srv/my 100% project") == "/srv/my 100%% project"
    for value in ("/srv/a\nExecStart=/bin/sh", "/srv/a\\", "/srv/a ", "/srv/\x1b", "/srv/\u202e"):
        with pytest.raises(InputError):
            escaping.systemd_setting(value)
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.read_string(f"[Service]\nUser={escaping.systemd_setting('李雷')}\n")
    assert dict(unit["Service"]) == {"user": "李雷"}


def test_haproxy_is_told_an_address_and_nothing_else() -> None:
    for address in ("*", "127.0.0.1", "::1", "localhost", "host-1.example"):
        assert escaping.haproxy_address(address) == address
    for text in ("", "a b", "*\n    stats enable", "127.0.0.1:80 ssl crt /x", "a#b"):
        with pytest.raises(InputError):
            escaping.haproxy_address(text)


def test_json_of_a_surrogate_does_not_stop_a_line() -> None:
    assert escaping.log_line(json.loads('"\\ud83d"')) == r"\ud83d"
