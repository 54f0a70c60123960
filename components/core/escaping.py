"""Escape text from outside for the output in which a person reads it.

Feedback, answers, column names, file names, tags, reasons and header values are written by others.
Each function makes such a text safe for one kind of output. Characters that cannot be seen are
spelled out (`\\x1b`, `\\u202e`), so that nothing of a text is lost.

Sources: Unicode TR36 and TR39 (bidirectional controls, default ignorable characters, joiners,
floods of marks), CWE-150 (terminals), CWE-117 (logs), CVE-2021-42574 (Trojan Source).
"""

from __future__ import annotations

import html as _html
import json
import re
import unicodedata

from components.core.errors import InputError

_NON_JOINER = "\u200c"
_JOINER = "\u200d"
_EMOJI_STYLE = "\ufe0f"
_SKIN_TONES = frozenset("\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")
# Letters, marks and symbols that are drawn as nothing (Default_Ignorable_Code_Point).
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
# Of category Cf, but drawn: signs of Arabic and Syriac numbers.
_DRAWN_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u0890\u0891\u08e2")
# TR39, section 5.4: no word has more marks than these on one letter.
_MARKS_ON_A_LETTER = 4
# Result of `unicodedata.combining` for the signs that join two letters of an Indic script.
_VIRAMA = 9
# The flags of England, Scotland and Wales: the only emoji made of tag characters.
_FLAG = re.compile(
    "(\U0001f3f4\U000e0067\U000e0062(?:"
    "\U000e0065\U000e006e\U000e0067"
    "|\U000e0073\U000e0063\U000e0074"
    "|\U000e0077\U000e006c\U000e0073"
    ")\U000e007f)"
)
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_SPACES = re.compile(r"(?:\r\n|[ \t\n])+")
# Characters of one log line or message.
_LONGEST = 20_000
# Characters with a meaning in Markdown, in GFM's tables and in its links of bare addresses.
_MARKDOWN = re.compile(r"[&<>|\\`*_~\[\]@#!:$^{}]|\.(?<=www\.)", re.IGNORECASE)
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@:,./+=-]+")
_ADDRESS = re.compile(r"\*|[A-Za-z0-9._:-]+")


def terminal(text: str) -> str:
    """Return a value as part of one line of a terminal: whatever cannot be seen is spelled out.

    A text can hold a sequence that clears the screen or fills the clipboard, a mark that turns
    the rest of the line around, or a line break that begins a line of its own.
    """
    if text.isascii() and text.isprintable():
        return text
    pieces = _FLAG.split(text)
    # Flags have odd indices.
    pieces[::2] = [_spelled(piece) for piece in pieces[::2]]
    return "".join(pieces)


def terminal_lines(text: str) -> str:
    """Return a text of several lines, which stay lines."""
    return "\n".join(_line(line) for line in text.replace("\r\n", "\n").split("\n"))


def one_line(text: str, width: int = 60) -> str:
    """Return the beginning of a value as one line of at most `width` terminal columns.

    Spaces, tabs and line breaks in a row are one space.
    """
    # Each character is at least a part of a column, and a text may have a million of them.
    start = text[: 4 * width + 1]
    flat = terminal(_SPACES.sub(" ", start).strip(" "))
    cut = _cut(flat, width)
    if cut == flat and len(start) == len(text):
        return flat
    return f"{_cut(flat, width - 1)}…"


def log_line(text: str) -> str:
    """Return a message as one line of a log: no line break in it forges another one."""
    return _limited(_line(text[: _LONGEST + 1]), len(text))


def log_block(text: str) -> str:
    """Return a message of several lines for a log, such as a traceback.

    The lines after the first are indented, so that none of them looks like a message.
    """
    return message_lines(text).replace("\n", "\n    ")


def message_lines(text: str) -> str:
    """Return a message of several lines, limited as log lines are."""
    return _limited(terminal_lines(text[: _LONGEST + 1]), len(text))


def markdown(text: str, width: int = 100) -> str:
    """Return a value as plain words in Markdown, also within a cell of a table.

    Character references are the one notation that CommonMark, GFM and Showdown, which MLflow's
    page uses, all take for the character itself and never for markup. They have no meaning
    between backticks: do not put the result there.
    """
    return _MARKDOWN.sub(_reference, one_line(text, width))


def markdown_code(text: str) -> str:
    """Return a value as code in Markdown, such as a path; not for a cell of a table.

    A span of code ends at as many backticks as it began with.
    """
    code = log_line(text)
    runs = [len(run) for run in re.findall(r"`+", code)]
    fence = "`" * (max(runs, default=0) + 1)
    space = " " if runs else ""
    return f"{fence}{space}{code}{space}{fence}"


def html(text: str) -> str:
    """Return a text for HTML, as content or in a quoted attribute. Its lines stay lines."""
    return _html.escape(terminal_lines(text))


def script(text: str) -> str:
    """Return a value that another program copies into a script element as a JSON string.

    `dvc plots show` does so. JSON does not escape what ends the element, such as `</script>`.
    """
    return re.sub(r"<(?=[/!s])", r"<\\", terminal(text), flags=re.IGNORECASE)


def svg(text: str) -> str:
    """Return a text of a plot: XML forbids most control characters, even as references.

    Whatever draws the plot writes `&` and `<` as XML wants them.
    """
    return terminal(text)


def chat(text: str) -> str:
    """Return a line for chat services that take Slack's format: no mention and no link in it."""
    return _html.escape(log_line(text), quote=False)


def yaml_string(text: str) -> str:
    """Return a YAML scalar in double quotes, which all versions of YAML read in the same way."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(_yaml_character(character) for character in quoted)


def systemd_setting(text: str) -> str:
    """Return a value that systemd reads to the end of its line, such as a path.

    Raises:
        InputError: no notation of unit files can hold it.
    """
    if terminal(text) != text or text != text.strip() or text.endswith("\\"):
        raise InputError(
            f"{terminal(text)!r} cannot stand in a systemd unit",
            where="--print systemd",
            remedy="take a path without control characters, and without a space at its end",
        )
    return text.replace("%", "%%")


def systemd_word(text: str) -> str:
    """Return a word of a systemd command line (systemd.service, "Command lines")."""
    text = text.replace("%", "%%")
    if _PLAIN_WORD.fullmatch(text.replace("%%", "")):
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return '"' + "".join(_systemd_character(character) for character in quoted) + '"'


def haproxy_address(text: str) -> str:
    """Return an address that HAProxy is to listen on.

    Raises:
        InputError: it is no address; HAProxy would read more of its configuration from it.
    """
    if not _ADDRESS.fullmatch(text):
        raise InputError(
            f"{terminal(text)!r} is no address",
            where="--host",
            remedy="take an address of this machine, such as 127.0.0.1",
        )
    return text


def is_visible(text: str, index: int) -> bool:
    """Return whether the character at an index of a text is visible."""
    character = text[index]
    category = unicodedata.category(character)
    if character in _BLANK:
        return False
    if character in (_JOINER, _NON_JOINER):
        return _joins(text, index)
    if _is_selector(character):
        return _selects(text, index)
    if category[0] == "C" or category in ("Zl", "Zp"):
        return character in _DRAWN_FORMATS
    return True


def _spelled(text: str) -> str:
    parts = []
    marks = 0
    for index, character in enumerate(text):
        is_mark = unicodedata.category(character) in ("Mn", "Me") and not _is_selector(character)
        marks = marks + 1 if is_mark else 0
        shown = marks <= _MARKS_ON_A_LETTER and is_visible(text, index)
        parts.append(character if shown else _code(character))
    return "".join(parts)


def _code(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _joins(text: str, index: int) -> bool:
    """Return whether a joiner has an effect that its script needs (TR31, section 2.3).

    After a virama it chooses the form of a conjunct, between Arabic letters it parts them, and
    between two emoji it makes one of them.
    """
    before = text[index - 1 : index]
    after = text[index + 1 : index + 2]
    if not before:
        return False
    if unicodedata.combining(before) == _VIRAMA:
        return True
    if not after:
        return False
    if text[index] == _NON_JOINER:
        return unicodedata.bidirectional(before) == unicodedata.bidirectional(after) == "AL"
    pictures = before == _EMOJI_STYLE or before in _SKIN_TONES or _is_symbol(before)
    return pictures and _is_symbol(after)


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character) in ("So", "Sm")


def _is_selector(character: str) -> bool:
    code = ord(character)
    in_planes = 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF
    return in_planes or 0x180B <= code <= 0x180D or code == 0x180F


def _selects(text: str, index: int) -> bool:
    """Return whether a selector follows a character that has variants.

    After other characters, and after another selector, it can hide data.
    """
    base = text[index - 1 : index]
    if not base or _is_selector(base):
        return False
    if base in "0123456789#*" or base == "\u2139":
        return True
    if base.isascii():
        return False
    return unicodedata.category(base) in ("So", "Sm", "Po", "Pd", "Lo")


def _line(text: str) -> str:
    return terminal(text.replace("\t", "    "))


def _columns(character: str) -> int:
    if unicodedata.east_asian_width(character) in "WF":
        return 2
    return 0 if unicodedata.category(character) in ("Mn", "Me", "Cf") else 1


def _cut(text: str, width: int) -> str:
    """Return as much of a text as `width` columns hold."""
    used = 0
    for index, character in enumerate(text):
        used += _columns(character)
        if used > width:
            return text[:index].rstrip(_JOINER + _NON_JOINER)
    return text


def _limited(shown: str, length: int) -> str:
    if length <= _LONGEST:
        return shown
    return f"{shown[:_LONGEST]}… ({length:,} characters)"


def _reference(match: re.Match[str]) -> str:
    return f"&#{ord(match[0])};"


def _yaml_character(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _systemd_character(character: str) -> str:
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def brief(error: BaseException) -> str:
    """Return the type of an error and the beginning of its message, in one line."""
    message = " ".join(str(error).split())[:300]
    return log_line(f"{type(error).__name__}: {message}".removesuffix(": "))
