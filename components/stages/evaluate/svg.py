"""Drawing with matplotlib so that the result is a part of the page: its text is text, its colors are CSS variables."""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from components.core import escaping

SERIES = [f"s{number}" for number in range(8)]
# Matplotlib knows no CSS variables: it draws in these stand-ins, and `_inline` puts `var(--name)` in their place.
HEX = {
    name: f"#0f0e{number + 16:02x}"
    for number, name in enumerate(
        ["ink", "muted", "line", "surface", "accent", "on-accent", "baseline", *SERIES]
    )
}
WIDTH = 420.0  # of every plot, in px; scaled to a phone its 12 px text is still read
FONT = 12.0
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class may be called "$a$"
    "font.size": FONT,
    "text.color": HEX["ink"],
    "axes.edgecolor": HEX["line"],
    "axes.labelcolor": HEX["muted"],
    "xtick.labelcolor": HEX["muted"],
    "ytick.labelcolor": HEX["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.pad": 6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": HEX["line"],
    "grid.linewidth": 1,
}


@dataclass(frozen=True)
class Plot:
    """An SVG element, and the legend that the page sets as text: (CSS variable, label) pairs, with `hollow` and `line` as marks of their own."""

    svg: str
    legend: Sequence[tuple[str, str]] = ()


def label(text: Any, limit: int = 26) -> str:
    """Return a text fit to stand in a plot, not longer than `limit` characters."""
    plain = escaping.svg(str(text)[: limit + 1])
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def breadth(texts: Sequence[str]) -> float:
    """Breadth in px of the widest text, whatever fonts this machine has: East Asian characters are one em, others about 0.56."""
    ems = [
        sum(1.0 if unicodedata.east_asian_width(char) in "WF" else 0.56 for char in text)
        for text in texts
    ]
    return max(ems, default=0.0) * FONT


def draw(
    name: str,
    height: float,
    margins: tuple[float, float, float, float],
    paint: Callable[[Any], None],
) -> str:
    """Paint into axes with margins (left, right, top, bottom) in px; the same call gives the same bytes on every machine."""
    import matplotlib
    from matplotlib.figure import Figure

    left, right, top, bottom = margins
    with matplotlib.rc_context(), warnings.catch_warnings():
        # Only measuring uses the font that matplotlib ships; the browser draws the text with fonts that have the glyphs.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": name})
        figure = Figure(figsize=(WIDTH / 72, height / 72))
        paint(
            figure.add_axes(
                (
                    left / WIDTH,
                    bottom / height,
                    1 - (left + right) / WIDTH,
                    1 - (top + bottom) / height,
                )
            )
        )
        file = io.StringIO()
        figure.savefig(
            file,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return _inline(file.getvalue(), name)


def _inline(svg: str, name: str) -> str:
    """Make matplotlib's document an element of a page: no namespaces, no ids that clash, the page's colors and fonts."""
    root = ET.fromstring(svg.encode("utf-8"))  # noqa: S314 - our own output, made a line above
    variables = {colour: f"var(--{variable})" for variable, colour in HEX.items()}
    prefix = re.sub(r"\W+", "-", name) + "-"
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.tail = None
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if element.tag == "g":
            attributes.pop("id", None)
        if "style" in attributes:
            parts = [part.strip().partition(": ") for part in attributes["style"].split(";")]
            attributes["style"] = ";".join(
                f"{key}:{variables.get(value, value)}"
                for key, _, value in parts
                if key not in ("font-family", "")
            )
        for key in ("id", "href", "clip-path"):
            if key in attributes:
                attributes[key] = (
                    attributes[key].replace("#", f"#{prefix}")
                    if key != "id"
                    else prefix + attributes[key]
                )
        element.attrib.clear()
        element.attrib.update({key: " ".join(value.split()) for key, value in attributes.items()})
        if element.tag not in ("text", "tspan"):
            element.text = None
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag == "style"]:
            parent.remove(child)
    for unused in ("width", "height", "version"):
        root.attrib.pop(unused, None)
    root.set("role", "img")
    root.set("aria-label", name)
    return ET.tostring(root, encoding="unicode")
