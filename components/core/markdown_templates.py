"""Templates of Markdown files: texts of the data are escaped in them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core import escaping
from components.core.page_templates import count, is_finite, number, size, watt_hours

if TYPE_CHECKING:
    from jinja2 import Environment

# Columns of a text; a longer one is cut.
_WIDTH = 2000


@functools.cache
def markdown_environment(folder: Path) -> Environment:
    """Return the environment of the templates in a folder, with filters that format numbers.

    It is made once for each folder, so that a template is compiled once.
    It writes all texts so that Markdown takes none of them for markup, also in cells of tables.
    """
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader

    # HTML needs other escapes: `finalize` writes those of Markdown.
    result = Environment(
        loader=FileSystemLoader(folder),
        autoescape=False,  # noqa: S701
        finalize=_escaped,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    result.filters.update(number=number, count=count, size=size, watt_hours=watt_hours)
    result.tests["known"] = is_finite
    return result


def _escaped(value: Any) -> Any:
    """Return a value as plain words of Markdown."""
    if isinstance(value, str):
        return escaping.markdown(value, _WIDTH)
    return value
