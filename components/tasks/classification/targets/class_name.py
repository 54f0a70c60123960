"""Define the field of class names, and recognize names that are made of others."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from components.fields.category import Category

_JOINTS = re.compile(r"[,;|/+，、；]")


class ClassName(Category):
    """The label of a row: the name of its class."""

    knobs: Mapping[str, str] = {"no_label": "clean.unlabelled"}
    missing = "no_label"


def joined_labels(labels: Collection[str]) -> list[str]:
    """Return labels that are made of other labels: toxic|rude beside toxic and rude."""
    joined = []
    for label in labels:
        parts = [part.strip() for part in _JOINTS.split(label)]
        if len(parts) > 1 and all(part in labels for part in parts):
            joined.append(label)
    return joined
