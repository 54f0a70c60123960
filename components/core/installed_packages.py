"""Folders of installed packages, found without running their code."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def package_folder(package: str) -> Path | None:
    """Return the folder of an installed package; None where it is not installed.

    Args:
        package: its top-level name. A dotted name would import the parent.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))).resolve()
