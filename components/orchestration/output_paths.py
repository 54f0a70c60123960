"""Keep inputs and other files of a person out of the paths that pipelines write.

DVC deletes outputs before their stage runs, so a person's file there would be lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, product, starmap
from pathlib import Path

from components.core.errors import InputError
from components.orchestration.project import SAFE, STATE
from components.orchestration.stage_files import STAGES
from components.orchestration.untracked_files import listed, untracked

# Folders that are no outputs, but whose content git, DVC or gristmill replaces.
_INTERNAL = {
    ".git": "git's own folder",
    ".dvc": "DVC's own folder",
    "data/.remote": "the DVC remote",
}


@dataclass(frozen=True)
class Owned:
    """A path that a tool writes and deletes."""

    # relative to the project, with slashes
    path: str
    # in words, for a message
    owner: str


def pipeline_names(root: Path) -> list[str]:
    """Return the names of all pipelines of a project, also of those whose files cannot be read.

    Args:
        root: of the project.
    """
    files = [*root.glob("pipelines/[!.]*/dvc.yaml"), *root.glob("pipelines/[!.]*/params.yaml")]
    names = {file.parent.name for file in files} - {"default"}
    return ["default", *sorted(names)]


def output_paths(name: str, *, state: bool = True) -> list[Owned]:
    """Return the paths that one pipeline writes. No file is read for that.

    Args:
        name: of the pipeline, which need not exist yet.
        state: whether to include its resumable state.
    """
    data = "data" if name == "default" else f"data/{name}"
    outputs = set(chain.from_iterable(stage.outputs.values() for stage in STAGES.values()))
    paths = [Owned(f"{data}/{path}", f"an output of pipeline {name}") for path in sorted(outputs)]
    # reports/ and models/ hold outputs of several stages: nothing that a stage reads lies there.
    paths.append(Owned(f"{data}/reports", f"the reports of pipeline {name}"))
    paths.append(Owned(f"{data}/models", f"the models of pipeline {name}"))
    if state:
        paths.append(Owned(f"{data}/{STATE}", f"the state of pipeline {name}"))
    return paths


def path_mistake(
    root: Path,
    name: str,
    path: str,
    *,
    state: bool = True,
) -> str | None:
    """Return why a file or folder cannot be an input of a pipeline; None if it can.

    Both the path itself and the target of its links count. Some file systems do not distinguish
    capitals, so the comparison ignores them.

    Args:
        root: of the project.
        name: of the pipeline that would read it, which need not exist yet.
        path: as in params.yaml, relative to the root or absolute.
        state: whether the folders of resumable state count as well.
    """
    outputs = [(output, _spellings(root / output.path)) for output in _all_owned(root, name, state)]
    target = _spellings(root / path)
    safe = f"{SAFE}/{name}/"
    for output, spellings in outputs:
        if _any_within(target, spellings):
            remedy = f"move it to {safe} and name it there"
            loss = "what is there is deleted when the pipeline runs"
            return f"{path!r} lies in {output.path}, {output.owner}: {loss}; {remedy}"
    for output, spellings in outputs:
        if _any_within(spellings, target):
            remedy = f"name a folder that holds the source alone, such as {safe}"
            return f"{path!r} holds {output.path}, {output.owner}: {remedy}"
    return None


def _all_owned(root: Path, name: str, state: bool) -> list[Owned]:
    """Return the paths of all pipelines, of a further one, and of the tools."""
    owned: list[Owned] = []
    for pipeline in dict.fromkeys([*pipeline_names(root), name]):
        owned += output_paths(pipeline, state=state)
    owned += [Owned(folder, owner) for folder, owner in _INTERNAL.items()]
    return owned


def _spellings(path: Path) -> set[tuple[str, ...]]:
    """Return the parts of a path: as it is written, and with its links followed."""
    return {_lexical(path), _real(path)}


def _any_within(inner: set[tuple[str, ...]], outer: set[tuple[str, ...]]) -> bool:
    return any(starmap(_within, product(inner, outer)))


def check_input_path(root: Path, name: str, path: str, where: str) -> None:
    """Refuse an input that a run would delete. Links inside a folder count as well.

    Args:
        root: of the project.
        name: of the pipeline that would read it.
        path: as in params.yaml, relative to the root or absolute.
        where: the option or key that names it, such as "--data".

    Raises:
        InputError: it lies in outputs of a pipeline, or holds some.
    """
    mistake = path_mistake(root, name, path) or _link_mistake(root, name, path)
    if mistake:
        what, _, remedy = mistake.partition("; ")
        raise InputError(what, where=where, remedy=remedy or f"keep own files in {SAFE}/{name}/")


def check_new_outputs(root: Path, name: str) -> None:
    """Refuse a new pipeline whose outputs would lie among a person's files.

    Args:
        root: of the project.
        name: of the new pipeline.

    Raises:
        InputError: files lie where it would write, or another pipeline reads from there.
    """
    files = untracked(root, f"data/{name}", root / "pipelines" / name / "dvc.lock")
    if files:
        what = f"there are files already where pipeline {name} would write: {listed(files)}"
        raise InputError(
            what,
            where="NAME",
            remedy=f"take another name, or move them, for example to {SAFE}/{name}/",
        )
    for other in pipeline_names(root):
        source = _source_of(root, other)
        if source is not None and _overlaps(root, name, source):
            what = f"pipeline {other} reads {source!r}, and {name} would write to data/{name}"
            raise InputError(what, where="NAME", remedy="take another name")


def _overlaps(root: Path, name: str, source: str) -> bool:
    """Return whether a source lies in outputs of a pipeline, or holds some."""
    outputs = [_real(root / output.path) for output in output_paths(name)]
    target = _real(root / source)
    return any(_within(target, path) or _within(path, target) for path in outputs)


def _source_of(root: Path, name: str) -> str | None:
    """Return the source that the params of a pipeline name; None if they cannot be read.

    The commands of that pipeline report that error.
    """
    from components.core.errors import GristmillError
    from components.core.params import read_yaml

    folder = root if name == "default" else root / "pipelines" / name
    try:
        source = read_yaml(folder / "params.yaml")["ingest"]["source"]["path"]
    except (GristmillError, OSError, LookupError, TypeError):
        return None
    return source if isinstance(source, str) else None


def _link_mistake(root: Path, name: str, path: str) -> str | None:
    """Return why a link inside a folder cannot be read; None if all can.

    A run reads the targets of links as well.
    """
    folder = root / path
    if not folder.is_dir():
        return None
    for link in _links(folder):
        mistake = path_mistake(root, name, str(link))
        if mistake and " lies in " in mistake:
            return mistake
    return None


def _links(folder: Path) -> Iterator[Path]:
    """Yield the symbolic links below a folder."""
    for parent, folders, files in os.walk(folder):
        for entry in (*folders, *files):
            path = Path(parent, entry)
            if path.is_symlink():
                yield path


def _lexical(path: Path) -> tuple[str, ...]:
    """Return the parts of a path without `..`, as it is written."""
    return Path(os.path.normpath(path.absolute())).parts


def _real(path: Path) -> tuple[str, ...]:
    """Return the parts of a path with its links followed. A link to itself stays as it is."""
    return Path(os.path.realpath(path)).parts


def _within(inner: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    """Return whether a path is another one or lies below it, without regard to capitals."""
    start = [part.casefold() for part in inner[: len(outer)]]
    return start == [part.casefold() for part in outer]
