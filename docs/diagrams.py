"""Draw the Mermaid diagrams of the pages as SVG files, which the site shows.

    npm pack mermaid@11 && tar xzf mermaid-11*.tgz package/dist/mermaid.min.js
    python -m pip install playwright
    python docs/diagrams.py package/dist/mermaid.min.js

A site that loads Mermaid itself needs another host for it, and its search fails where that host
cannot be reached. A diagram's file is named after the SHA-256 of its text. Files of diagrams that
no page has any more are deleted. It needs Chromium of the system and a font with Chinese.
"""

from __future__ import annotations

import re
import shutil
import sys
from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PICTURES = FOLDER / "pictures" / "diagrams"
BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DRAW = """async ([name, text]) => {
  mermaid.initialize({startOnLoad: false, theme: "neutral", htmlLabels: false,
                      flowchart: {htmlLabels: false}, fontFamily: "sans-serif"});
  return (await mermaid.render(name, text)).svg;
}"""


def file_name(diagram: str) -> str:
    """Return the name of a diagram's file."""
    return f"{sha256(diagram.encode()).hexdigest()[:12]}.svg"


def read_diagrams() -> dict[str, str]:
    """Return the diagrams of all pages: name of the file -> text."""
    pages = (page for language in ("en", "zh") for page in (FOLDER / language).rglob("*.md"))
    texts = (text for page in pages for text in BLOCK.findall(page.read_text(encoding="utf-8")))
    return {file_name(text): text for text in texts}


def main() -> None:
    """Draw the diagrams that have no file yet, and delete files without a diagram."""
    from playwright.sync_api import sync_playwright

    diagrams = read_diagrams()
    PICTURES.mkdir(exist_ok=True)
    for path in PICTURES.iterdir():
        if path.name not in diagrams:
            path.unlink()
    with sync_playwright() as playwright:
        options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
        page = playwright.chromium.launch(**options).new_page()
        page.set_content("<html><body></body></html>")
        page.add_script_tag(path=sys.argv[1])
        for name, text in diagrams.items():
            if not (PICTURES / name).is_file():
                svg = page.evaluate(_DRAW, [f"d{name.removesuffix('.svg')}", text])
                (PICTURES / name).write_text(f"{svg}\n", encoding="utf-8")
                print(f"drew {name}")


if __name__ == "__main__":
    main()
