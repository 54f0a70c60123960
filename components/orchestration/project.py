"""Folder and fixed paths of the project that a command works on."""

from __future__ import annotations

import ast
import os
from pathlib import Path

from components.core.errors import ParamsError

# Environment variable of a run whose stages discard resumable state.
FRESH = "GRISTMILL_FRESH"
# Folder below a pipeline's data folder, with the state of stages that did not end.
STATE = ".state"
# Folder for a person's files. No run writes or deletes anything there.
SAFE = "data/sources"
# Folder with the reports of retrains, which run in a copy that is deleted.
RETRAINS = "data/retrains"


def root() -> Path:
    """Return the folder of the project.

    It is the nearest folder upwards with dvc.yaml and components/cli, else the one around this
    code.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "components" / "cli").is_dir():
            return folder
    return Path(__file__).resolve().parents[2]


def pipeline_files(root: Path, name: str) -> tuple[Path, Path]:
    """Return the paths of params.yaml and dvc.yaml of a pipeline.

    Args:
        root: of the project.
        name: of the pipeline.

    Raises:
        ParamsError: there is no such pipeline.
    """
    folder = root if name == "default" else root / "pipelines" / name
    params_file = folder / "params.yaml"
    dvc_file = folder / "dvc.yaml"
    if not params_file.is_file() or not dvc_file.is_file():
        others = sorted(path.parent.name for path in root.glob("pipelines/[!.]*/dvc.yaml"))
        names = ["default", *others]
        raise ParamsError(
            f"there is no pipeline {name!r}; there are {', '.join(names)}",
            remedy="gristmill new NAME --task T --data FILE makes one",
        )
    return params_file, dvc_file


def task_ids() -> dict[str, str]:
    """Return the tasks of this installation: id -> its input and output in words.

    No task is imported, so that `gristmill --help` stays quick.
    """
    folder = Path(__file__).resolve().parents[1] / "tasks"
    packages = [path.with_name("__init__.py") for path in sorted(folder.glob("*/schema.py"))]
    return {path.parent.name: _first_line(path) for path in packages}


def _first_line(module: Path) -> str:
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def keys_file(root: Path) -> Path:
    """Return the path of the API keys, absolute.

    GRISTMILL_KEYS_FILE names it. The default lies in the project, where git ignores it.

    Args:
        root: of the project.
    """
    from components.serving.http.keyring import FILE_VARIABLE

    default = root / ".gristmill" / "keys.json"
    return Path(os.environ.get(FILE_VARIABLE) or default).absolute()
