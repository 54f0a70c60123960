"""Drawing with matplotlib for a page: texts stay text, colors become CSS variables."""

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
_COLORS = ["ink", "muted", "line", "surface", "accent", "on-accent", "baseline", *SERIES]
# Matplotlib knows no CSS variables: it draws in these stand-ins, and `_inline` puts `var(--name)`
# in their place.
HEX = {name: f"#0f0e{number + 16:02x}" for number, name in enumerate(_COLORS)}
# Width of every plot in px. Scaled to a phone, its text of 12 px can still be read.
WIDTH = 420.0
FONT = 12.0
# Ticks outside of these are written with a power of ten.
_SMALL_TICK = 1e-3
_LARGE_TICK = 1e6
_VARIABLES = {color: f"var(--{name})" for name, color in HEX.items()}
_STYLE = {
    "svg.fonttype": "none",
    # A text of the data may be "$a$".
    "text.parse_math": False,
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
    """A plot of the report.

    Args:
        svg: the SVG element.
        legend: (mark, text) pairs that the page sets as text. A mark is a CSS variable, "hollow"
            or "line".
    """

    svg: str
    legend: Sequence[tuple[str, str]] = ()


def shortened(text: Any, limit: int = 26) -> str:
    """Return a text fit to stand in a plot, not longer than `limit` characters."""
    plain = escaping.svg(str(text)[: limit + 1])
    if len(plain) <= limit:
        return plain
    return plain[: limit - 1] + "…"


def breadth(texts: Sequence[str]) -> float:
    """Return the width of the widest text in px, the same on every machine.

    East Asian characters count as one em, others as 0.56 em.
    """
    return max((_ems(text) for text in texts), default=0.0) * FONT


def percent_axis(axis: Any) -> None:
    """Write the ticks of an axis in percent."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda value, _: f"{value * 100:.10g}%")


def number_axis(axis: Any) -> None:
    """Write the ticks of an axis as numbers of any size, each with its own power of ten."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda value, _: _tick(value))


def _tick(value: float) -> str:
    """Return the text of a tick without zeros at its end: 0.002, 1,500, 2e9, 5e−7."""
    if value and not _SMALL_TICK <= abs(value) < _LARGE_TICK:
        mantissa, _, power = f"{value:.6e}".partition("e")
        text = f"{float(mantissa):g}e{int(power)}"
    else:
        text = f"{value:,.10g}"
    return text.replace("-", "−")


def _ems(text: str) -> float:
    return sum(1.0 if unicodedata.east_asian_width(char) in "WF" else 0.56 for char in text)


def draw(
    name: str,
    height: float,
    margins: tuple[float, float, float, float],
    paint: Callable[[Any], None],
) -> str:
    """Return a plot as SVG; the same call gives the same bytes on every machine.

    Args:
        name: of the plot; prefix of the ids in it.
        height: in px.
        margins: left, right, top and bottom, in px.
        paint: paints into the axes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    left, right, top, bottom = margins
    area = (
        left / WIDTH,
        bottom / height,
        1 - (left + right) / WIDTH,
        1 - (top + bottom) / height,
    )
    with matplotlib.rc_context(), warnings.catch_warnings():
        # Matplotlib's own font is used only to measure. The browser draws with fonts that have
        # the glyphs.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": name})
        figure = Figure(figsize=(WIDTH / 72, height / 72))
        paint(figure.add_axes(area))
        file = io.StringIO()
        figure.savefig(
            file,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return _inline(file.getvalue(), name)


def _inline(svg: str, name: str) -> str:
    """Return matplotlib's document as an element of a page.

    It has no namespaces, no ids that clash with another plot's, and the colors and fonts of the
    page.
    """
    # Our own output of a line above.
    root = ET.fromstring(svg.encode("utf-8"))  # noqa: S314
    prefix = re.sub(r"\W+", "-", name) + "-"
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.tail = None
        attributes = _page_attributes(element, prefix)
        element.attrib.clear()
        element.attrib.update(attributes)
        if element.tag not in ("text", "tspan"):
            element.text = None
    for parent in list(root.iter()):
        for style in parent.findall("style"):
            parent.remove(style)
    for unused in ("width", "height", "version"):
        root.attrib.pop(unused, None)
    root.set("role", "img")
    root.set("aria-label", name)
    return ET.tostring(root, encoding="unicode")


def _page_attributes(element: ET.Element, prefix: str) -> dict[str, str]:
    """Return the attributes of an element as the page has them.

    Args:
        prefix: of the ids.
    """
    attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    if element.tag == "g":
        attributes.pop("id", None)
    if "style" in attributes:
        attributes["style"] = _page_style(attributes["style"])
    if "id" in attributes:
        attributes["id"] = prefix + attributes["id"]
    for key in ("href", "clip-path"):
        if key in attributes:
            attributes[key] = attributes[key].replace("#", f"#{prefix}")
    return {key: " ".join(value.split()) for key, value in attributes.items()}


def _page_style(style: str) -> str:
    """Return a style with the CSS variables of the page, and without fonts."""
    declarations = []
    for part in style.split(";"):
        key, _, value = part.strip().partition(": ")
        if key not in ("font-family", ""):
            declarations.append(f"{key}:{_VARIABLES.get(value, value)}")
    return ";".join(declarations)
