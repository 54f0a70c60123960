"""Define the field of class names."""

from __future__ import annotations

from collections.abc import Mapping

from components.fields.category import Category


class ClassName(Category):
    """The label of a row: the name of its class."""

    knobs: Mapping[str, str] = {"no_label": "clean.unlabelled"}
    missing = "no_label"
