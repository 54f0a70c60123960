"""Text from outside on a person's terminal."""

from __future__ import annotations

# Joiners and selectors inside one emoji, which are not printable by themselves.
_IN_EMOJI = frozenset("\u200d\ufe0e\ufe0f")


def printable(text: str) -> str:
    """Return a text in which control characters and direction marks are spelled out.

    A column name or a label can hold a sequence that clears the screen, or one that
    turns the rest of the line around.
    """
    if text.isprintable():
        return text
    return "".join(_spelled(character) for character in text)


def one_line(text: str, width: int = 60) -> str:
    """Return a text as one printable line of at most `width` characters."""
    flat = printable(" ".join(text.split()))
    return flat if len(flat) <= width else f"{flat[: width - 1]}…"


def printable_lines(text: str) -> str:
    """Return a text of several lines, each of them printable."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _spelled(character: str) -> str:
    if character.isprintable() or character in _IN_EMOJI:
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
