"""Find the workspace of a project from a copy of it."""

from __future__ import annotations

from pathlib import Path


def home(root: Path) -> Path:
    """Return the workspace that keeps the store.

    An experiment of DVC and a retrain run in copies below `.dvc/tmp`, which are thrown away.
    """
    parts = root.parts
    for end in range(len(parts) - 2):
        if parts[end : end + 2] == (".dvc", "tmp") and parts[end + 2] in ("exps", "retrain"):
            return Path(*parts[:end])
    return root
