"""Find files in outputs that no run wrote.

DVC deletes outputs before their stage runs, so a person's file among them would be lost.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from components.core import escaping
from components.core.errors import GristmillError, InputError
from components.core.files import to_json, write_atomic
from components.orchestration.project import SAFE, STATE
from components.orchestration.stage_files import STAGES

# Folder below the state, with one file for each stage.
RECORDS = "outputs"
# JSON files below reports/ that DVC caches. It keeps the others out of its cache.
CACHED_REPORTS = {"reports/search.json"}
# Files that a message names.
_SHOWN = 10
# Bytes. A larger file that DVC knows by name is compared by size, not by content.
_LARGE = 64 * 2**20
# Files that file managers write by themselves.
_DESKTOP = {".DS_Store", "Thumbs.db", "desktop.ini"}

# size in bytes, time of modification in ns
Stat = tuple[int, int]


def dvc_cache(root: Path) -> Path:
    """Return the folder of the objects in DVC's cache, whose names are their MD5.

    Args:
        root: of the project.
    """
    from dvc.config import Config, ConfigError

    default = root.resolve() / ".dvc" / "cache"
    try:
        folder = Config(str(root / ".dvc"))["cache"].get("dir")
    except (ConfigError, OSError):
        folder = None
    return Path(folder or default) / "files" / "md5"


@dataclass
class _DvcKnowledge:
    """Knows a pipeline's outputs from DVC's lock file and cache.

    Both are read only where the records of the stages do not suffice.
    """

    root: Path
    lock: Path
    hashes: dict[str, str] = field(default_factory=dict)

    @cached_property
    def cache(self) -> Path:
        """Return the folder of the cache's objects."""
        return dvc_cache(self.root)

    @cached_property
    def outputs(self) -> Mapping[str, str]:
        """Return the MD5 of each file that the lock names, also of those in folders."""
        from components.core.params import read_yaml

        try:
            stages = read_yaml(self.lock).get("stages") or {}
        except GristmillError:
            return {}
        hashes: dict[str, str] = {}
        for stage in stages.values():
            for out in stage.get("outs") or ():
                hashes |= self._files(str(out.get("path", "")), str(out.get("md5", "")))
        return hashes

    def _files(self, path: str, digest: str) -> dict[str, str]:
        """Return the MD5 of an output, or of each file in it, where it is a folder."""
        if not digest.endswith(".dir"):
            return {path: digest}
        try:
            entries = json.loads(self.object(digest).read_text(encoding="utf-8"))
            return {f"{path}/{entry['relpath']}": str(entry["md5"]) for entry in entries}
        except (OSError, ValueError, LookupError, TypeError):
            return {}

    def object(self, digest: str) -> Path:
        """Return the path of the file in the cache with this MD5."""
        return self.cache / digest[:2] / digest[2:]

    def knows(self, path: Path, relative: str, *, cached: bool) -> bool:
        """Return whether DVC wrote a file, or has its content.

        Args:
            path: of the file.
            relative: the same path below the root.
            cached: whether DVC caches this output. If not, the name of the file suffices.
        """
        digest = self.outputs.get(relative)
        if digest and not cached:
            return True
        if path.is_symlink():
            return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.cache))
        size = path.stat().st_size
        if digest and size > _LARGE:
            cached_file = self.object(digest)
            return cached_file.is_file() and cached_file.stat().st_size == size
        if size > _LARGE:
            return False
        content = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        return content == digest or self.object(content).is_file()


def is_cached(path: str) -> bool:
    """Return whether DVC caches an output.

    Args:
        path: of the output, below the data folder.
    """
    return not path.endswith(".json") or path in CACHED_REPORTS


def record_outputs(
    root: Path,
    data: str,
    stage: str,
    twins: Mapping[str, Path],
) -> None:
    """Record the files that a stage is about to publish.

    The rename that follows changes neither their sizes nor their times.

    Args:
        root: of the project.
        data: the pipeline's data folder below it.
        stage: its name.
        twins: name of an output -> its path before the rename.

    Raises:
        EnvironmentFault: the disk is full or not writable.
    """
    paths = STAGES[stage].outputs
    stats: dict[str, Stat] = {}
    for name, twin in twins.items():
        for relative, path in _files_below(twin, f"{data}/{paths[name]}"):
            stats[relative] = _stat(path)
    _write_record(root, data, stage, stats)


def untracked(
    root: Path,
    data: str,
    lock: Path,
    stages: Iterable[str] = STAGES,
) -> list[str]:
    """Return the files in outputs that no run wrote, or that were changed since.

    Args:
        root: of the project.
        data: the pipeline's data folder below it.
        lock: the pipeline's dvc.lock.
        stages: whose outputs to check.
    """
    dvc = _DvcKnowledge(root, lock)
    files: list[str] = []
    for stage in stages:
        files += _untracked_of_stage(root, data, stage, dvc)
    return sorted(files)


def check_untracked(
    root: Path, name: str, data: str, lock: Path, *, again: str, stages: Iterable[str] = STAGES
) -> None:
    """Stop before a person's files among the outputs are deleted.

    Args:
        root: of the project.
        name: of the pipeline.
        data: its data folder.
        lock: its dvc.lock.
        again: the command that goes on.
        stages: whose outputs would be replaced.

    Raises:
        InputError: there are such files; the message names them.
    """
    files = untracked(root, data, lock, stages)
    if not files:
        return
    count = "1 file" if len(files) == 1 else f"{len(files):,} files"
    raise InputError(
        f"the next run would delete {count} that no run wrote or that a person changed: "
        f"{listed(files)}",
        where=data,
        remedy=f"move what you want to keep, for example to {SAFE}/{name}/, and delete the rest; "
        f"then: {again}",
    )


def listed(names: Sequence[str]) -> str:
    """Return the first names for a message, and the number of the others.

    Args:
        names: of files.
    """
    text = ", ".join(escaping.terminal(name) for name in names[:_SHOWN])
    if len(names) > _SHOWN:
        text += f" and {len(names) - _SHOWN:,} more"
    return text


def _untracked_of_stage(
    root: Path,
    data: str,
    stage: str,
    dvc: _DvcKnowledge,
) -> list[str]:
    """Return the untracked files of a stage, and record those that DVC knows."""
    record = _read_record(root, data, stage)
    verified: dict[str, Stat] = {}
    untracked_files: list[str] = []
    for path in STAGES[stage].outputs.values():
        cached = is_cached(path)
        for relative, file in _files_below(root / data / path, f"{data}/{path}"):
            try:
                stat = _stat(file)
                if record.get(relative) == stat:
                    continue
                if dvc.knows(file, relative, cached=cached):
                    verified[relative] = stat
                    continue
            except FileNotFoundError:
                # It was deleted meanwhile.
                continue
            except OSError:
                # A file that cannot be read counts as untracked.
                pass
            untracked_files.append(relative)
    if verified:
        _write_record(root, data, stage, record | verified)
    return untracked_files


def _files_below(path: Path, relative: str) -> Iterator[tuple[str, Path]]:
    """Yield the files of an output, as pairs of path below the project and path.

    Links count as files, unless the output itself is one.

    Args:
        path: of the output.
        relative: its path below the project.
    """
    if path.is_file() or (path.is_symlink() and not path.exists()):
        yield relative, path
        return
    for parent, folders, files in os.walk(path):
        below = Path(parent).relative_to(path)
        links = [folder for folder in folders if Path(parent, folder).is_symlink()]
        for name in (*files, *links):
            if name not in _DESKTOP:
                yield Path(relative, below, name).as_posix(), Path(parent, name)


def _stat(path: Path) -> Stat:
    stat = path.lstat()
    return stat.st_size, stat.st_mtime_ns


def _record_file(root: Path, data: str, stage: str) -> Path:
    return root / data / STATE / RECORDS / f"{stage}.json"


def _read_record(root: Path, data: str, stage: str) -> dict[str, Stat]:
    """Return the files of a stage that are recorded: path below the project -> state."""
    try:
        text = _record_file(root, data, stage).read_text(encoding="utf-8")
        tree: dict[str, Any] = json.loads(text)
        return {path: (int(size), int(time)) for path, (size, time) in tree.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write_record(
    root: Path,
    data: str,
    stage: str,
    files: Mapping[str, Stat],
) -> None:
    rows = {path: list(stat) for path, stat in files.items()}
    write_atomic(_record_file(root, data, stage), to_json(rows))
