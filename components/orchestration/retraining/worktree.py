"""A copy of the project in which a retrain runs: the code of HEAD, the params and the source as they lie in the working tree, the DVC cache by links.

It lies below `.dvc/tmp`, which git and DVC pass over. A retrain that is begun again after a kill finds the copy and goes on in it.
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
from components.orchestration.retraining.frozen_test import pin
from components.stages.ingest.params import Files, IngestParams, Sql

_ROOM = 512 * 2**20  # bytes beside twice what the pipeline's data and source take
_LONGEST_REASON = 4000  # characters of what git prints
_CODE = ("components", "dvc.yaml")  # what DVC looks at, too


@dataclass(frozen=True)
class Code:
    """What a commit would run."""

    commit: str
    digest: str  # equal for commits that differ in nothing that a stage depends on
    left_out: list[str]  # files of the code that were changed and not committed


def code_of(root: Path) -> Code:
    """HEAD.

    Raises:
        InputError: no commit, or the project is but a folder of a repository.
    """
    top = git(root, "rev-parse", "--show-toplevel")
    if Path(top).resolve() != root.resolve():
        raise InputError(
            "is a folder of a larger git repository",
            where=str(root),
            remedy=f"a retrain copies the repository's HEAD: keep the project in one of its own, not in {top}",
        )
    changed = git(
        root,
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        "components",
        "dvc.yaml",
    ).splitlines()
    return Code(
        git(root, "rev-parse", "HEAD"),
        git(root, "ls-tree", "HEAD", *_CODE),
        [line.split(maxsplit=1)[-1] for line in changed],
    )


def uncommitted(root: Path) -> str:
    """What the working tree has changed in the code that a stage depends on, against HEAD; "" if nothing."""
    return git(root, "diff", "--no-ext-diff", "HEAD", "--", *_CODE)


def git(folder: Path, *words: str) -> str:
    """What a git command prints.

    Raises:
        EnvironmentFault: it fails; carries what git says.
    """
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    }  # a hook's would name another repository
    answer = run_git(
        folder, "-c", f"core.hooksPath={os.devnull}", *words, env=clean, timeout_s=None
    )
    if answer.code == 127:
        raise EnvironmentFault(
            "git does not start: it is not installed", where="git", remedy="install git"
        )
    if answer.code:
        reason = answer.error[:_LONGEST_REASON] or f"exit code {answer.code}"
        remedy = "a retrain needs a git repository with a commit, and room for a copy of it; mend that and run the same command again"
        raise EnvironmentFault(
            f"git {words[0]}: {reason}", where=str(folder), remedy=answer.owner_remedy or remedy
        )
    return answer.out


def place(root: Path, name: str) -> Path:
    """Where the copy of a pipeline lies; whatever runs in it finds the project's MLflow (see `registry.store.home`)."""
    return root.resolve() / ".dvc" / "tmp" / "retrain" / name


def check_room(root: Path, params: Params, source_bytes: int) -> None:
    """Refuse early what would fail late.

    Raises:
        InputError: the source's path means another place in a copy.
        EnvironmentFault: too little disk is free.
    """
    ingest: IngestParams = params.sections["ingest"]  # type: ignore[assignment]
    for key, given in (("source.path", ingest.source.path), ("feedback", ingest.feedback)):
        if given and not Path(given).is_absolute() and ".." in Path(given).parts:
            where, remedy = (
                f"{params.pipeline.params}: ingest.{key}",
                "write the path from the root of the file system",
            )
            raise InputError(
                f"{given!r} leads out of the project, and elsewhere from a copy of it",
                where=where,
                remedy=remedy,
            )
    data = root / params.pipeline.data
    own = [
        data / part
        for part in ("raw", "clean", "audit", "augmented", "tokens", "models", "reports")
    ]
    size = (
        sum(file.stat().st_size for folder in own for file in folder.rglob("*") if file.is_file())
        + source_bytes
    )
    free, needed = shutil.disk_usage(root).free, _ROOM + 2 * size
    if free < needed:
        raise EnvironmentFault(
            f"has {free / 1e6:,.0f} MB free, and a retrain wants {needed / 1e6:,.0f}",
            where=str(root),
            remedy="free disk space (dvc gc -w, gristmill clean-state), then run the same command again",
        )


def make(
    root: Path, params: Params, commit: str, plan: str, split: Path | None, feedback: str = ""
) -> tuple[Path, bool]:
    """The copy of this plan: the one that an earlier retrain with the same plan left, or a new one.

    Args:
        root: of the project.
        params: of the pipeline.
        commit: what to copy.
        plan: tells one set of inputs from another.
        split: that clean is to keep.
        feedback: digest of it, "" where there is none.

    Returns:
        Its root, and whether it was there already.

    Raises:
        EnvironmentFault: the disk is full, or git refuses.
    """
    copy = place(root, params.name)
    marker = copy / "data" / ".state" / "plan.json"
    with suppress(OSError, ValueError):
        if json.loads(marker.read_text(encoding="utf-8")) == {"plan": plan, "root": str(copy)}:
            return copy, True
    remove(copy)
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        git(root, "clone", "--quiet", "--shared", "--no-checkout", str(root.resolve()), str(copy))
        git(copy, "checkout", "--quiet", "--detach", commit)
        _overlay(root, copy, params)
        pin(copy, params, split, feedback)
        _share_cache(root, copy)
        write_atomic(marker, to_json({"plan": plan, "root": str(copy)}))
    except (OSError, shutil.Error, EnvironmentFault) as error:
        remove(copy)
        if isinstance(error, EnvironmentFault):
            raise
        reason = getattr(error, "strerror", None) or "files could not be copied"
        raise EnvironmentFault(
            f"the copy cannot be made: {reason}",
            where=str(copy),
            remedy="free disk space, then run the same command again",
        ) from error
    return copy, False


def remove(copy: Path) -> None:
    """Delete a copy; what it made is in the DVC cache and in the registry."""
    if copy.exists():
        doomed = copy.with_name(f".{copy.name}.{os.getpid()}.gone")
        copy.rename(doomed)  # half a copy is none, whenever this is killed
        remove_tree(doomed, within=copy.parent)
    for other in copy.parent.glob(f".{copy.name}.*.gone"):
        remove_tree(other, within=copy.parent)


def environment(copy: Path) -> dict[str, str]:
    """For what runs in the copy: its own code, in Ray's workers too; no experiment of DVC, no run of somebody else's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DVC_EXP", "GIT_", "GRISTMILL_RUN", "GRISTMILL_OWNER"))
    }
    return kept | {
        "PYTHONPATH": os.pathsep.join([str(copy), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
    }


def _overlay(root: Path, copy: Path, params: Params) -> None:
    """Params and source of the working tree over what HEAD has."""
    file = Path(params.pipeline.params)
    committed = sha256(copy / file) if (copy / file).is_file() else ""
    (copy / file).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / file, copy / file)
    if not (
        copy / file.with_name("dvc.yaml")
    ).is_file():  # a new pipeline that was not committed yet
        shutil.copyfile(copy / "dvc.yaml", copy / file.with_name("dvc.yaml"))
    ingest: IngestParams = params.sections["ingest"]  # type: ignore[assignment]
    source = Path(ingest.source.path)
    if not source.is_absolute() and (
        isinstance(ingest.source, (Files, Sql)) or not (copy / source).exists()
    ):
        _snapshot(root, copy, source)
    if (
        ingest.feedback
        and not Path(ingest.feedback).is_absolute()
        and (root / ingest.feedback).is_dir()
    ):
        _snapshot(root, copy, ingest.feedback)
    if committed == sha256(copy / file):
        git(
            copy, "update-index", "--assume-unchanged", str(file)
        )  # what is pinned in it below is no change of a person's


def _snapshot(root: Path, copy: Path, path: str | Path) -> None:
    """Copy a source as it is at this moment: what grows meanwhile is the next retrain's.

    Where the repository holds a link that leads out of the copy, the source itself lies behind it: it is read there, and nothing is replaced.
    """
    source, target = root / path, copy / path
    if not target.resolve().is_relative_to(copy.resolve()):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copy2(source, target)
        return
    remove_tree(target, within=copy)
    shutil.copytree(source, target, symlinks=False)


def _share_cache(root: Path, copy: Path) -> None:
    """The project's cache, by links that cannot be written through; where there are none to be had, DVC copies."""
    from dvc.config import Config

    local = root / ".dvc" / "config.local"
    if local.is_file():
        shutil.copyfile(local, copy / ".dvc" / "config.local")
    cache = Config(str(root / ".dvc"))["cache"].get("dir") or str(root.resolve() / ".dvc" / "cache")
    with Config(str(copy / ".dvc")).edit("local") as settings:
        settings["cache"] |= {"dir": cache, "type": ["reflink", "hardlink", "copy"]}
