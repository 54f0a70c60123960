"""Results of stages, kept until `dvc.lock` names them.

DVC hashes and caches the outputs of a stage before it writes the lock. A run that is killed
meanwhile leaves outputs that no lock names, and DVC deletes them before it runs the stage again.
So each of their files has a second name in the state folder of the stage: a hard link, which needs
no space.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.core.errors import GristmillError
from components.core.files import remove_tree, sha256, sync_tree, to_json, write_atomic
from components.orchestration.pipeline_params import Params
from components.orchestration.project import STATE
from components.orchestration.stage_files import STAGES

# Below the state folder of a stage.
RESULT = "result"
_SCRATCH = "out"
_LINKS = "links"
_CARD = "card.json"
_TRACKED = "tracked"

# size in bytes, time of modification in ns
Stat = tuple[int, int]


@dataclass(frozen=True)
class Result:
    """The outputs of a stage whose work has ended."""

    folder: Path
    key: str
    # name of an output -> its path below the project
    outputs: Mapping[str, str]
    # path below the folder -> its state when the work ended
    files: Mapping[str, Stat]
    work_s: float
    # seconds since the epoch
    ended: float

    @property
    def is_tracked(self) -> bool:
        """Return whether MLflow, or the outbox for it, has the run of the stage."""
        return (self.folder / _TRACKED).is_file()

    def mark_tracked(self) -> None:
        """Record that the run of the stage is in MLflow, or in the outbox."""
        (self.folder / _TRACKED).touch()

    def file(self, name: str) -> Path:
        """Return the path of an output below the folder of the result."""
        return self.folder / name / Path(self.outputs[name]).name


def result_key(root: Path, params: Params, stage: str) -> str:
    """Return a digest of what a result depends on besides the inputs of the stage.

    The name of the state folder covers the inputs. This key covers all params of the stage, the
    source, and all code of the components, so that no result of other code is used.

    Args:
        root: of the project.
        params: of the pipeline.
        stage: its name.
    """
    sections: Any = params.sections
    content: dict[str, Any] = {
        "params": params.digest(STAGES[stage].sections),
        "code": _code_digest(root),
    }
    if stage == "ingest":
        sources = [sections["ingest"].source.path, sections["ingest"].feedback]
        content["sources"] = {str(path): _stats_below(root / path) for path in sources if path}
    if stage == "clean" and sections["clean"].frozen_split:
        content["split"] = sha256(root / sections["clean"].frozen_split)
    return hashlib.sha256(to_json(content).encode()).hexdigest()


def make_twins(state: Path, outputs: Mapping[str, Path]) -> dict[str, Path]:
    """Return the paths at which a stage writes its outputs, in an empty folder.

    Args:
        state: the state folder of the stage.
        outputs: name -> path of the output.
    """
    scratch = state / _SCRATCH
    remove_tree(scratch, within=state)
    twins = {name: scratch / name / path.name for name, path in outputs.items()}
    for twin in twins.values():
        twin.parent.mkdir(parents=True)
    return twins


def keep_result(
    state: Path, key: str, root: Path, outputs: Mapping[str, Path], work_s: float
) -> Result:
    """Turn what a stage wrote to its twins into a result, by one rename.

    Args:
        state: the state folder of the stage.
        key: of the result.
        root: of the project.
        outputs: name -> path of the output.
        work_s: how long the stage worked, in seconds.

    Raises:
        RuntimeError: an output was not written.
    """
    scratch = state / _SCRATCH
    _check_written(scratch, outputs)
    result = Result(
        folder=state / RESULT,
        key=key,
        outputs={name: path.relative_to(root).as_posix() for name, path in outputs.items()},
        files=_stats_below(scratch),
        work_s=work_s,
        ended=time.time(),
    )
    write_atomic(scratch / _CARD, to_json(asdict(result) | {"folder": RESULT}))
    sync_tree(scratch)
    remove_tree(result.folder, within=state)
    scratch.rename(result.folder)
    return result


def _check_written(scratch: Path, outputs: Mapping[str, Path]) -> None:
    missing = []
    for name, path in outputs.items():
        twin = scratch / name / path.name
        if not twin.exists():
            missing.append(str(path))
    if missing:
        raise RuntimeError(f"the stage did not write {', '.join(missing)}")


def find_result(state: Path, key: str) -> Result | None:
    """Return the result in a state folder, if it is whole and has this key; else None.

    Args:
        state: the state folder of the stage.
        key: of the result.
    """
    result = _read(state / RESULT)
    if result is None or result.key != key:
        return None
    present = _stats_below(result.folder)
    if any(present.get(path) != stat for path, stat in result.files.items()):
        return None
    return result


def discard_scratch(state: Path) -> None:
    """Remove what is neither resumable state nor a result from a state folder."""
    for name in (_SCRATCH, _LINKS):
        remove_tree(state / name, within=state)


def discard_result(state: Path) -> None:
    """Remove the result of a stage, so that the stage computes it again."""
    remove_tree(state / RESULT, within=state)


def keep_only_result(state: Path) -> None:
    """Remove all from the state folder of a stage that has ended, except for its result."""
    for path in state.iterdir():
        if path.name == RESULT:
            continue
        if path.is_dir() and not path.is_symlink():
            remove_tree(path, within=state)
        else:
            path.unlink(missing_ok=True)


def publish_result(
    result: Result, outputs: Mapping[str, Path], record: Callable[[Mapping[str, Path]], None]
) -> None:
    """Give the files of a result their names in the workspace, all of them or none.

    Args:
        result: of the stage.
        outputs: name -> path of the output.
        record: called with the new files just before they get their names.
    """
    links = result.folder.with_name(_LINKS)
    remove_tree(links, within=links.parent)
    twins = {name: links / name / path.name for name, path in outputs.items()}
    for name, twin in twins.items():
        _link_tree(result.file(name), twin)
    record(twins)
    moves = [(twin, outputs[name], links / f"{name}.old") for name, twin in twins.items()]
    _replace_all(moves)
    remove_tree(links, within=links.parent)


def drop_locked_results(root: Path, params: Params, *, running: str = "") -> None:
    """Remove the results that the lock of a pipeline names.

    Args:
        root: of the project.
        params: of the pipeline.
        running: a stage whose result stays, because DVC has just called it.
    """
    lock = (root / params.pipeline.params).with_name("dvc.lock")
    results: list[Result] = []
    for stage in STAGES:
        if stage != running:
            results += _results_of(root / params.pipeline.data / STATE / stage)
    if not results:
        return
    hashes = _locked_hashes(lock)
    for result in results:
        if _is_locked(result, hashes):
            _drop(result)


def drop_results(root: Path, params: Params) -> None:
    """Remove all results of a pipeline, after a run in which DVC wrote the lock of every stage."""
    for stage in STAGES:
        for result in _results_of(root / params.pipeline.data / STATE / stage):
            _drop(result)


def is_only_result(state: Path) -> bool:
    """Return whether a state folder holds nothing but the result of a stage that has ended."""
    names = [path.name for path in state.iterdir()]
    return names == [RESULT] and _read(state / RESULT) is not None


def _results_of(folder: Path) -> Iterator[Result]:
    """Yield the results below the folder of a stage, of all keys."""
    for path in sorted(folder.glob(f"*/{RESULT}")):
        result = _read(path)
        if result is not None:
            yield result


def _drop(result: Result) -> None:
    """Remove a result, and its state folder where nothing else is in it."""
    state = result.folder.parent
    remove_tree(result.folder, within=state)
    if not any(state.iterdir()):
        state.rmdir()


def _read(folder: Path) -> Result | None:
    """Return the result in a folder; None if there is none that can be read."""
    try:
        fields = json.loads((folder / _CARD).read_text(encoding="utf-8"))
        files = {path: (int(size), int(mtime)) for path, (size, mtime) in fields["files"].items()}
        return Result(**(fields | {"folder": folder, "files": files}))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _locked_hashes(lock: Path) -> dict[str, str]:
    """Return the MD5 of each output that a lock names; none if it cannot be read."""
    from components.core.params import read_yaml

    hashes: dict[str, str] = {}
    try:
        stages = read_yaml(lock).get("stages") or {}
        for stage in stages.values():
            for out in stage.get("outs") or ():
                hashes[str(out["path"])] = str(out.get("md5", ""))
    except (GristmillError, LookupError, TypeError, AttributeError):
        return {}
    return hashes


def _is_locked(result: Result, hashes: Mapping[str, str]) -> bool:
    """Return whether the lock has the hash of every output of a result."""
    return all(
        path in hashes and _dvc_md5(result.file(name)) == hashes[path]
        for name, path in result.outputs.items()
    )


def _dvc_md5(path: Path) -> str:
    """Return the hash that DVC gives a file or folder, or "" if there is none."""
    if path.is_file():
        return _md5(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    entries = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    entries.sort(key=lambda entry: entry["relpath"])
    text = json.dumps(entries, sort_keys=True)
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return f"{digest}.dir"


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest()


def _stats_below(path: Path) -> dict[str, Stat]:
    """Return size and time of each file below a folder, or of a single file under the name "."."""
    files = [path]
    if not path.is_file():
        files = [file for file in path.rglob("*") if file.is_file()]
    stats: dict[str, Stat] = {}
    for file in sorted(files):
        stat = file.stat()
        stats[file.relative_to(path).as_posix()] = (stat.st_size, stat.st_mtime_ns)
    return stats


def _code_digest(root: Path) -> str:
    """Return the SHA-256 of all files of the components."""
    digest = hashlib.sha256()
    for file in sorted((root / "components").rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(root).as_posix()}:{sha256(file)}\n".encode())
    return digest.hexdigest()


def _link_tree(source: Path, target: Path) -> None:
    """Link a file, or all files of a folder; copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        _link(str(source), str(target))
    else:
        shutil.copytree(source, target, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _replace_all(moves: list[tuple[Path, Path, Path]]) -> None:
    """Rename each twin to its target. If one rename fails, all old files come back.

    Args:
        moves: twin, target, and the path to which an old target is moved.
    """
    with ExitStack() as undo:
        for twin, target, old in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(target):
                target.replace(old)
                undo.callback(old.replace, target)
            twin.replace(target)
            undo.callback(target.replace, twin)
        undo.pop_all()
