"""Hooks of mkdocs: links to project files outside docs/ become their paths, which a site lacks."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
_CODE_BLOCK = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the Markdown of a page with links out of docs/ written as text and path."""
    folder = PurePosixPath("docs", page.file.src_uri).parent

    def as_text(link: re.Match[str]) -> str:
        path = normpath(str(folder / link[2]))
        if "://" in link[2] or path.startswith("docs/"):
            return link[0]
        return f"{link[1]} (`{path}`)"

    parts = _CODE_BLOCK.split(markdown)
    # Every second part is a code block.
    parts[::2] = [_LINK.sub(as_text, part) for part in parts[::2]]
    return "".join(parts)
