"""A copy of the project in which a retrain runs.

The copy has the code of HEAD, the params and the source of the working tree, and links to the DVC
cache. It lies below `.dvc/tmp`, which git and DVC ignore. A retrain that starts again after a kill
continues in the same copy.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import EnvironmentFault, InputError
from components.core.files import remove_tree, sha256, to_json, write_atomic
from components.orchestration.git import run_git
from components.orchestration.pipeline_params import Params
from components.orchestration.retraining.stored_split import pin_inputs
from components.stages.ingest.params import IngestParams, Package, Sklearn

# Bytes that a retrain needs beside twice the size of the pipeline's data and source.
_SPARE_BYTES = 512 * 2**20
# Characters of an error of git in a message.
_LONGEST_REASON = 4000
# The code that stages depend on, as dvc.yaml names it.
_CODE = ("components", "dvc.yaml")
_DATA_FOLDERS = ("raw", "clean", "audit", "augmented", "tokens", "models", "reports")
# Variables that would tie the copy to another run or to another repository.
_REMOVED_PREFIXES = ("DVC_EXP", "GIT_", "GRISTMILL_RUN", "GRISTMILL_OWNER")


@dataclass(frozen=True)
class Code:
    """Describes the code of a commit.

    Args:
        commit: its hash.
        digest: the same for commits with the same code of stages.
        left_out: files of the code that were changed and not committed.
    """

    commit: str
    digest: str
    left_out: list[str]


def code_of(root: Path) -> Code:
    """Return the code of HEAD.

    Args:
        root: of the project.

    Raises:
        InputError: the project is only a folder of a repository.
        EnvironmentFault: git fails, or there is no commit.
    """
    top = git(root, "rev-parse", "--show-toplevel")
    if Path(top).resolve() != root.resolve():
        raise InputError(
            "is a folder of a larger git repository",
            where=str(root),
            remedy=(
                "a retrain copies the repository's HEAD: "
                f"keep the project in one of its own, not in {top}"
            ),
        )
    status = git(root, "status", "--porcelain", "--untracked-files=no", "--", *_CODE)
    return Code(
        commit=git(root, "rev-parse", "HEAD"),
        digest=git(root, "ls-tree", "HEAD", *_CODE),
        left_out=[line.split(maxsplit=1)[-1] for line in status.splitlines()],
    )


def uncommitted(root: Path) -> str:
    """Return the changes of the code of stages against HEAD, as git prints them.

    Args:
        root: of the project.

    Returns:
        The changes; empty without any.
    """
    return git(root, "diff", "--no-ext-diff", "HEAD", "--", *_CODE)


def git(folder: Path, *words: str) -> str:
    """Return what a git command prints.

    Args:
        folder: in which it runs.
        words: of the command line, without `git`.

    Raises:
        EnvironmentFault: it fails; the error has the message of git.
    """
    # The variables of a git hook would name another repository.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    answer = run_git(folder, "-c", f"core.hooksPath={os.devnull}", *words, env=env, timeout_s=None)
    if answer.code == 127:
        raise EnvironmentFault(
            "git does not start: it is not installed", where="git", remedy="install git"
        )
    if answer.code:
        reason = answer.error[:_LONGEST_REASON] or f"exit code {answer.code}"
        remedy = (
            "a retrain needs a git repository with a commit, and room for a copy of it; "
            "mend that and run the same command again"
        )
        raise EnvironmentFault(
            f"git {words[0]}: {reason}", where=str(folder), remedy=answer.owner_remedy or remedy
        )
    return answer.out


def copy_folder(root: Path, name: str) -> Path:
    """Return the path of a pipeline's copy.

    Processes in the copy use the project's MLflow, see `registry.store.home`.

    Args:
        root: of the project.
        name: of the pipeline.
    """
    return root.resolve() / ".dvc" / "tmp" / "retrain" / name


def check_disk(root: Path, params: Params, source_bytes: int) -> None:
    """Raise an error before a retrain that would fail later.

    Args:
        root: of the project.
        params: of the pipeline.
        source_bytes: size of the source.

    Raises:
        InputError: a relative path of the source means another folder in a copy.
        EnvironmentFault: too little disk space is free.
    """
    ingest: IngestParams = params.sections["ingest"]  # type: ignore[assignment]
    for key, path in (("source.path", ingest.source.path), ("feedback", ingest.feedback)):
        if path and not Path(path).is_absolute() and ".." in Path(path).parts:
            raise InputError(
                f"{path!r} leads out of the project, and elsewhere from a copy of it",
                where=f"{params.pipeline.params}: ingest.{key}",
                remedy="write the path from the root of the file system",
            )
    size = source_bytes + _data_bytes(root / params.pipeline.data)
    free = shutil.disk_usage(root).free
    needed = _SPARE_BYTES + 2 * size
    if free < needed:
        raise EnvironmentFault(
            f"has {free / 1e6:,.0f} MB free, and a retrain wants {needed / 1e6:,.0f}",
            where=str(root),
            remedy=(
                "free disk space (dvc gc -w, gristmill clean-state), "
                "then run the same command again"
            ),
        )


def _data_bytes(data: Path) -> int:
    """Return the size of the outputs of a pipeline's stages."""
    size = 0
    for folder in _DATA_FOLDERS:
        for file in (data / folder).rglob("*"):
            if file.is_file():
                size += file.stat().st_size
    return size


def make_copy(
    root: Path, params: Params, commit: str, plan: str, split: Path | None, feedback: str = ""
) -> tuple[Path, bool]:
    """Return the copy for a plan: the one that an earlier retrain left, or a new one.

    Args:
        root: of the project.
        params: of the pipeline.
        commit: to copy.
        plan: a digest of all inputs of the retrain.
        split: the frozen test split for clean.
        feedback: its digest; empty without feedback.

    Returns:
        The root of the copy, and whether it existed before.

    Raises:
        EnvironmentFault: the disk is full, or git refuses.
    """
    copy = copy_folder(root, params.name)
    marker = copy / "data" / ".state" / "plan.json"
    content = {"plan": plan, "root": str(copy)}
    with suppress(OSError, ValueError):
        if json.loads(marker.read_text(encoding="utf-8")) == content:
            return copy, True
    remove_copy(copy)
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        git(root, "clone", "--quiet", "--shared", "--no-checkout", str(root.resolve()), str(copy))
        git(copy, "checkout", "--quiet", "--detach", commit)
        _overlay(root, copy, params)
        pin_inputs(copy, params, split, feedback)
        _share_cache(root, copy)
        write_atomic(marker, to_json(content))
    except (OSError, shutil.Error, EnvironmentFault) as error:
        remove_copy(copy)
        if isinstance(error, EnvironmentFault):
            raise
        reason = getattr(error, "strerror", None) or "files could not be copied"
        raise EnvironmentFault(
            f"the copy cannot be made: {reason}",
            where=str(copy),
            remedy="free disk space, then run the same command again",
        ) from error
    return copy, False


def remove_copy(copy: Path) -> None:
    """Delete a copy. Its results are in the DVC cache and in the registry.

    Args:
        copy: of the project.
    """
    if copy.exists():
        # After the move no later retrain mistakes half a copy for a whole one.
        discarded = copy.with_name(f".{copy.name}.{os.getpid()}.gone")
        copy.rename(discarded)
        remove_tree(discarded, within=copy.parent)
    for other in copy.parent.glob(f".{copy.name}.*.gone"):
        remove_tree(other, within=copy.parent)


def environment(copy: Path) -> dict[str, str]:
    """Return the environment variables of processes in a copy.

    They import the code of the copy, in Ray's workers too. They belong to no DVC experiment and to
    no other run.

    Args:
        copy: of the project.
    """
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(_REMOVED_PREFIXES)
    }
    python_path = [str(copy)]
    inherited = os.environ.get("PYTHONPATH")
    if inherited:
        python_path.append(inherited)
    env["PYTHONPATH"] = os.pathsep.join(python_path)
    env["PYTHONUNBUFFERED"] = "1"
    return env


def _overlay(root: Path, copy: Path, params: Params) -> None:
    """Copy the params, the source and the feedback of the working tree over those of HEAD."""
    file = Path(params.pipeline.params)
    committed = sha256(copy / file) if (copy / file).is_file() else ""
    (copy / file).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / file, copy / file)
    dvc_file = copy / file.with_name("dvc.yaml")
    # A new pipeline may not be committed yet.
    if not dvc_file.is_file():
        shutil.copyfile(copy / "dvc.yaml", dvc_file)
    ingest: IngestParams = params.sections["ingest"]  # type: ignore[assignment]
    source = Path(ingest.source.path)
    always_copied = not isinstance(ingest.source, (Package, Sklearn))
    if not source.is_absolute() and (always_copied or not (copy / source).exists()):
        _snapshot(root, copy, source)
    feedback = ingest.feedback
    if feedback and not Path(feedback).is_absolute() and (root / feedback).is_dir():
        _snapshot(root, copy, feedback)
    if committed == sha256(copy / file):
        # Inputs that are pinned later in this file are no change by a person.
        git(copy, "update-index", "--assume-unchanged", str(file))


def _snapshot(root: Path, copy: Path, path: str | Path) -> None:
    """Copy a source as it is now. Rows that are added later belong to the next retrain.

    Where the repository holds a link that leads out of the copy, the source itself lies behind the
    link. It is read there, and nothing is replaced.
    """
    source = root / path
    target = copy / path
    if not target.resolve().is_relative_to(copy.resolve()):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copy2(source, target)
        return
    remove_tree(target, within=copy)
    shutil.copytree(source, target, symlinks=False)


def _share_cache(root: Path, copy: Path) -> None:
    """Make the copy use the project's DVC cache, through links that do not change the cache.

    On a file system without such links DVC copies the files.
    """
    from dvc.config import Config

    local = root / ".dvc" / "config.local"
    if local.is_file():
        shutil.copyfile(local, copy / ".dvc" / "config.local")
    configured = Config(str(root / ".dvc"))["cache"].get("dir")
    cache = configured or str(root.resolve() / ".dvc" / "cache")
    with Config(str(copy / ".dvc")).edit("local") as settings:
        settings["cache"] |= {"dir": cache, "type": ["reflink", "hardlink", "copy"]}
