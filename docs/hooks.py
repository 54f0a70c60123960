"""Hooks of mkdocs: what works on GitHub and not in a site.

Links to project files outside docs/ become their paths. Mermaid diagrams become the pictures that
docs/diagrams.py drew.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import PurePosixPath
from posixpath import normpath, relpath
from typing import Any

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
_DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE_BLOCK = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the Markdown of a page with diagrams as pictures, links out of docs/ as paths."""
    folder = PurePosixPath("docs", page.file.src_uri).parent

    def as_picture(diagram: re.Match[str]) -> str:
        name = f"{sha256(diagram[1].encode()).hexdigest()[:12]}.svg"
        path = relpath(f"docs/pictures/diagrams/{name}", folder)
        return f"![{page.title or 'diagram'}]({path})"

    def as_text(link: re.Match[str]) -> str:
        path = normpath(str(folder / link[2]))
        if "://" in link[2] or path.startswith("docs/"):
            return link[0]
        return f"{link[1]} (`{path}`)"

    parts = _CODE_BLOCK.split(_DIAGRAM.sub(as_picture, markdown))
    # Every second part is a code block.
    parts[::2] = [_LINK.sub(as_text, part) for part in parts[::2]]
    return "".join(parts)
