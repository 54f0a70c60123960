"""The pages for people, and the policies that let their own script and style run and nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

# Where a page wants the code that makes texts from outside visible.
_VISIBLE = "/* visible.js */"


@cache
def page(name: str) -> tuple[str, str]:
    """A page beside this file and its Content-Security-Policy.

    Args:
        name: "page.html" or "docs.html"; never from a request.
    """
    folder = Path(__file__).parent
    text = (folder / name).read_text(encoding="utf-8")
    text = text.replace(_VISIBLE, (folder / "visible.js").read_text(encoding="utf-8").rstrip())
    sources = {
        tag: " ".join(_hash(code) for code in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL))
        for tag in ("script", "style")
    }
    return text, (
        f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
