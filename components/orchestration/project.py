"""Which project a command means."""

from __future__ import annotations

import ast
import os
from pathlib import Path

FRESH = "GRISTMILL_FRESH"  # in the environment of a run whose stages discard resumable state
STATE = ".state"  # below a pipeline's data folder: what stages that did not end left
SAFE = "data/sources"  # where a person's files may lie: no run writes or deletes anything there
RETRAINS = "data/retrains"  # reports of retrains, which run in a copy that is deleted


def root() -> Path:
    """The nearest folder upwards that holds dvc.yaml and pipelines/, else the one this code lies in."""
    here = Path.cwd()
    found = (
        folder
        for folder in (here, *here.parents)
        if (folder / "dvc.yaml").is_file() and (folder / "components" / "cli").is_dir()
    )
    return next(found, Path(__file__).resolve().parents[2])


def task_ids() -> dict[str, str]:
    """Return the tasks of this installation: id -> what goes in and what comes out.

    No task is imported for it, so that `gristmill --help` stays quick.
    """
    folder = Path(__file__).resolve().parents[1] / "tasks"
    packages = [path.with_name("__init__.py") for path in sorted(folder.glob("*/schema.py"))]
    return {path.parent.name: _first_line(path) for path in packages}


def _first_line(module: Path) -> str:
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def keys_file(root: Path) -> Path:
    """Where the keys lie: GRISTMILL_KEYS_FILE, or in the project, where git ignores them."""
    from components.serving.http.api_keys import FILE_VARIABLE

    return Path(os.environ.get(FILE_VARIABLE) or root / ".gristmill" / "keys.json").absolute()
