"""Pages for people, with policies that let only their own script and style run."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

# The place in a page for the code that makes texts from outside visible.
_VISIBLE = "/* visible.js */"
# The place in a page for the task's code that shows answers.
_ANSWER = "/* answer.js */"


@cache
def page(name: str, script: str = "") -> tuple[str, str]:
    """Return a page beside this file and its Content-Security-Policy.

    Args:
        name: "page.html" or "docs.html"; never from a request.
        script: of the task, `TaskEvaluator.page_script`.
    """
    folder = Path(__file__).parent
    text = (folder / name).read_text(encoding="utf-8")
    text = text.replace(_VISIBLE, (folder / "visible.js").read_text(encoding="utf-8").rstrip())
    text = text.replace(_ANSWER, script.rstrip())
    policy = (
        f"default-src 'none'; script-src {_hashes(text, 'script')}; "
        f"style-src {_hashes(text, 'style')}; img-src data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


def _hashes(text: str, tag: str) -> str:
    """Return the hashes of the code within all elements of a tag."""
    elements = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return " ".join(_hash(code) for code in elements)


def _hash(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
