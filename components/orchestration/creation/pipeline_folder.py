"""Write the folder of a new pipeline: its files appear at once, or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from components.core import escaping
from components.core.errors import GristmillError, ParamsError
from components.core.files import remove_tree, sync_tree
from components.orchestration.creation.pipeline_draft import PipelineDraft
from components.orchestration.pipeline_params import load
from components.orchestration.processes import identify
from components.orchestration.runner.gitignore import ignore_outputs

RESERVED = (
    "raw",
    "clean",
    "augmented",
    "tokens",
    "models",
    "reports",
    "audit",
    ".state",
    "default",
    "deploy",
    "sources",
    "feedback",
    "retrains",
)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
# Characters. A name is part of file names and of MLflow's names.
_LONGEST_NAME = 60
# Characters of a long name in a message.
_SHOWN_NAME = 20
# Suffix of a folder in which a pipeline is written before it gets its name.
_PART = ".new"


def check_name(root: Path, name: str) -> None:
    """Raise a GristmillError unless a pipeline of this name can be created."""
    if not _NAME.fullmatch(name) or name in RESERVED or len(name) > _LONGEST_NAME:
        reason = ""
        if name in RESERVED:
            reason = ": it is taken"
        if len(name) > _LONGEST_NAME:
            reason = f": it has more than {_LONGEST_NAME} characters"
            name = f"{name[:_SHOWN_NAME]}…"
        raise GristmillError(
            f"{name!r} cannot be a pipeline's name{reason}",
            where="NAME",
            remedy="use small letters, digits, - and _, such as my-reviews",
        )
    if (root / "pipelines" / name).exists():
        raise GristmillError(
            f"pipelines/{name} is there already and is not overwritten",
            where="NAME",
            remedy=f"take another name, edit pipelines/{name}/params.yaml, or remove the folder",
        )


def _readme(draft: PipelineDraft) -> str:
    """Return the text of the pipeline's README.md."""
    name = draft.name
    return f"""# Pipeline {name}

- Task: `{draft.task}`
- Source: {escaping.markdown_code(draft.source.path)}

Written by `gristmill new`. `params.yaml` says what was measured of the data, as comments.
`dvc.yaml` is a copy of the project's: edit `params.yaml` alone.

```console
$ gristmill run {name}      # all stages; the report is data/{name}/reports/report.html
$ gristmill serve {name}    # the released model over HTTP
$ gristmill retrain {name}  # later, when there are new data
```

An experiment with other values:

```console
$ git add pipelines/{name} data/{name} && git commit -m "Add pipeline {name}"
$ dvc exp run pipelines/{name}/dvc.yaml -S 'pipelines/{name}/params.yaml:train.epochs=2'
$ dvc exp show
```
"""


def publish(draft: PipelineDraft, params: str) -> None:
    """Write all files of a pipeline at once, by a rename of their folder.

    Args:
        draft: the pipeline.
        params: the text of params.yaml.

    Raises:
        GristmillError: the project has no dvc.yaml, or params have a mistake.
    """
    root = draft.root
    name = draft.name
    dvc = root / "dvc.yaml"
    if not dvc.is_file():
        remedy = "start from a complete checkout: git checkout -- dvc.yaml"
        raise GristmillError("there is no dvc.yaml to copy", where=str(root), remedy=remedy)
    clear_parts(root)
    # It does not lie below pipelines/, because DVC reads every dvc.yaml there. After a kill, the
    # remaining copy would have the same outputs as the pipeline.
    part = root / ".gristmill" / f"{name}.{os.getpid()}{_PART}"
    try:
        part.mkdir(parents=True)
        (part / "params.yaml").write_text(params, encoding="utf-8")
        (part / "README.md").write_text(_readme(draft), encoding="utf-8")
        _check(part / "params.yaml", name)
        shutil.copyfile(dvc, part / "dvc.yaml")
        (root / "pipelines").mkdir(exist_ok=True)
        ignore_outputs(root, f"data/{name}")
        _move(part, root / "pipelines" / name)
    finally:
        remove_tree(part, within=root / ".gristmill")


def _move(part: Path, target: Path) -> None:
    """Give a folder its name, by a rename; by a copy beside it where another disk is mounted."""
    try:
        part.rename(target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    # DVC does not look into it: see .dvcignore.
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.copytree(part, beside)
        sync_tree(beside)
        beside.rename(target)
    finally:
        remove_tree(beside, within=target.parent)


def _check(params: Path, name: str) -> None:
    """Validate the file as `gristmill run` does.

    Raises:
        ParamsError: --set has a mistake.
    """
    try:
        load(params, shown=f"pipelines/{name}/params.yaml")
    except ParamsError as error:
        raise ParamsError(error.what, remedy="mend the --set options") from None


def clear_parts(root: Path) -> None:
    """Remove the folders that killed commands left behind.

    Args:
        root: of the project.
    """
    parts = [*(root / ".gristmill").glob(f"*{_PART}"), *root.glob("pipelines/.*.part")]
    for part in parts:
        pid = part.name.split(".")[-2]
        with suppress(OSError):
            if not (pid.isdigit() and identify(int(pid))):
                remove_tree(part, within=part.parent, ignore_errors=False)
