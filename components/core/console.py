"""Print tables, colors and progress bars, and values exactly as they are.

Rich reads `[bold]` as markup, `:smile:` as an emoji and a number as something to highlight.
Here it does not, so a text such as `[urgent] bug` needs no escape. `styled` and the style of a
column or row set styles.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from components.core import escaping


class ValueConsole(Console):
    """A console without markup, which spells out what a terminal would obey."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as one line of text, whatever markup a part of Rich asks for."""
        options |= {"markup": False, "emoji": False, "highlight": False}
        return super().render_str(escaping.log_line(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of an object. Everything that is printed comes through here."""
        if isinstance(renderable, Text):
            renderable = self._escaped(renderable)
        return super().render(renderable, options)

    def _escaped(self, text: Text) -> Text:
        """Return a text with its styles, its characters made visible."""
        if escaping.terminal_lines(text.plain) == text.plain:
            return text
        escaped = text.blank_copy()
        for segment in text.render(self):
            escaped.append(escaping.terminal_lines(segment.text), segment.style)
        return escaped


def styled(*parts: str | Text | tuple[str, str]) -> Text:
    """Return one line of text.

    Args:
        parts: values, which stay as they are, or pairs of a value and its style.
    """
    escaped: list[Text | tuple[str, str]] = []
    for part in parts:
        if isinstance(part, Text):
            escaped.append(part)
            continue
        if isinstance(part, str):
            part = (part, "")
        text, style = part
        escaped.append((escaping.log_line(text), style))
    return Text.assemble(*escaped)


# A pipe has no width. 120 columns are enough for the tables.
_WIDTH = None if sys.stdout.isatty() else 120
console = ValueConsole(file=sys.stdout, soft_wrap=True, width=_WIDTH)
