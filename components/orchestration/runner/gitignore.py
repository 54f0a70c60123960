"""Keep outputs out of git: all of them in a `.gitignore`, and none in git's index.

DVC writes an entry when a stage has ended, and removes it when a later stage fails. So `git add -A`
after a failed run would stage weights, and DVC would refuse the next run of the stage after all of
its work. DVC does not touch entries that exist already.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from components.core.errors import InputError
from components.core.files import write_atomic
from components.orchestration.git import run_git
from components.orchestration.stage_files import STAGES
from components.orchestration.untracked_files import is_cached

_FILE = ".gitignore"
# Files that a message names.
_SHOWN = 3


def cached_outputs(data: str, stages: Iterable[str] = STAGES) -> list[str]:
    """Return the outputs that DVC caches, as paths below the project.

    Args:
        data: the pipeline's data folder below the project.
        stages: whose outputs to return.
    """
    outputs: list[str] = []
    for stage in stages:
        outputs += [f"{data}/{path}" for path in STAGES[stage].outputs.values() if is_cached(path)]
    return outputs


def ignore_outputs(root: Path, data: str) -> None:
    """Write the `.gitignore` entries of all outputs of a pipeline, with the bytes that DVC writes.

    Args:
        root: of the project.
        data: the pipeline's data folder below it.

    Raises:
        EnvironmentFault: the disk is full or not writable.
    """
    missing = [path for path in cached_outputs(data) if not _has_entry(root, path)]
    ignored = _ignored_by_git(root, missing)
    if ignored is None:
        return
    for path in missing:
        if path not in ignored:
            _append(root, path)


def check_not_in_git(
    root: Path,
    data: str,
    stages: Iterable[str],
    *,
    again: str,
) -> None:
    """Refuse to run stages whose outputs are in git's index: DVC would refuse the result.

    Args:
        root: of the project.
        data: the pipeline's data folder below it.
        stages: their names.
        again: the command that goes on.

    Raises:
        InputError: names the outputs, and the command that takes them out of the index.
    """
    outputs = cached_outputs(data, stages)
    answer = run_git(root, "-c", "core.quotePath=false", "ls-files", "--", *outputs)
    files = answer.out.splitlines()
    if answer.code or not files:
        return
    tracked = [path for path in outputs if _holds_any(path, files)]
    names = ", ".join(files[:_SHOWN])
    if len(files) > _SHOWN:
        names += f" and {len(files) - _SHOWN:,} more"
    remedy = f"git rm -r -q --cached -- {shlex.join(tracked)}"
    raise InputError(
        f"git tracks outputs of the pipeline, which DVC keeps: {names}",
        where=data,
        remedy=f"{remedy} (the files stay on disk), then: {again}",
    )


def _holds_any(output: str, files: Iterable[str]) -> bool:
    """Return whether an output is one of the files, or a folder around one."""
    return any(file == output or file.startswith(f"{output}/") for file in files)


def _has_entry(root: Path, path: str) -> bool:
    """Return whether the `.gitignore` beside an output names it. This is quicker than git."""
    file, entry = _entry(root, path)
    try:
        return entry in file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False


def _ignored_by_git(root: Path, paths: list[str]) -> set[str] | None:
    """Return the paths that any rule of git ignores; None outside a repository."""
    if not paths:
        return set()
    # DVC asks about folders, too: a rule with a slash at its end is for folders alone.
    folders = [f"{path}/" for path in paths]
    words = ("-c", "core.quotePath=false", "check-ignore", "--no-index", "--")
    answer = run_git(root, *words, *paths, *folders)
    if answer.code not in (0, 1):
        return None
    return {line.removesuffix("/") for line in answer.out.splitlines()}


def _entry(root: Path, path: str) -> tuple[Path, str]:
    """Return the `.gitignore` beside an output, and the line that names it."""
    output = PurePosixPath(path)
    return root / output.parent / _FILE, f"/{output.name}"


def _append(root: Path, path: str) -> None:
    file, entry = _entry(root, path)
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if text and not text.endswith("\n"):
        text += "\n"
    write_atomic(file, f"{text}{entry}\n")
