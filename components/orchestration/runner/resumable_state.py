"""Folders of a stage's resumable state and cache.

They lie outside the outputs of the stage. Their names are keys of what the content depends on.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from components.core.bundles import CARD
from components.core.cache import cache_key
from components.core.errors import EnvironmentFault
from components.core.files import remove_tree, sha256, to_json
from components.core.tables import MANIFEST
from components.core.workspace import home
from components.orchestration.locks import only_one
from components.orchestration.pipeline_params import Params
from components.orchestration.stage_files import STAGES
from components.stages.tune.study import STUDIES

# Batch prediction is no stage, but leaves finished parts behind in the same way.
BATCH = "predict"
_CACHES = "memo"
_FORMAT = 2
_LIBRARIES = ("numpy", "pyarrow", "pillow", "charset-normalizer")
# Facets of a task whose code a fit runs or is judged by, and their parts that tasks share.
_FIT_FACETS = ("schema", "encode", "models", "loss", "baselines", "evaluator")
# Files that hold the hashes of the other files in their folder.
_HASH_FILES = (MANIFEST, CARD)


def state_folder(
    root: Path,
    params: Params,
    stage: str,
    inputs: Mapping[str, Path],
) -> Path:
    """Return the folder of a stage's resumable state: `<data>/.state/<stage>/<key>`, absolute.

    The key covers the sections that the stage reads, its inputs and the format. In the section of
    the stage itself it leaves out the budget, which only limits how long the stage works. For
    stages that fit, it covers the code of net, loss and encoder without comments.

    Args:
        root: of the project.
        params: of the pipeline.
        stage: its name.
        inputs: of the stage: name -> path.
    """
    section = params.sections[stage]
    budget = set(getattr(section, "budget", ()))
    other_sections = [name for name in STAGES[stage].sections if name != stage]
    content = {
        "format": _FORMAT,
        "params": [
            params.digest(other_sections),
            section.model_dump(mode="json", exclude=budget),
        ],
        "inputs": {name: _digest(path) for name, path in sorted(inputs.items())},
    }
    if STAGES[stage].fits:
        content["code"] = code_digest(root, params.task)
    key = hashlib.sha256(to_json(content).encode()).hexdigest()[:16]
    return root / params.pipeline.data / ".state" / stage / key


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder by the files in it that hold hashes."""
    if path.is_file():
        return sha256(path)
    hash_files = sorted(file for file in path.rglob("*") if file.name in _HASH_FILES)
    text = "".join(f"{file.relative_to(path)}:{sha256(file)}" for file in hash_files)
    return hashlib.sha256(text.encode()).hexdigest()


def code_digest(root: Path, task: str) -> str:
    """Return the SHA-256 of the code on which a fit depends.

    It covers syntax trees, so that comments and layout change nothing.

    Args:
        root: of the project.
        task: its id.
    """
    files = fit_code(root, task)
    return _syntax_digest(tuple(file.read_text(encoding="utf-8") for file in files))


@lru_cache(maxsize=4)
def _syntax_digest(sources: tuple[str, ...]) -> str:
    """Return the SHA-256 of the syntax trees of files. All stages that fit ask for the same."""
    trees = [ast.dump(ast.parse(source)) for source in sources]
    return hashlib.sha256("\n".join(trees).encode()).hexdigest()


def fit_code(root: Path, task: str) -> list[Path]:
    """Return the files of nets, tasks and training on which a fit depends, and some more.

    Args:
        root: of the project.
        task: its id.
    """
    names = ["training", "inference", "models", "metrics"]
    names += [f"tasks/shared/{facet}" for facet in _FIT_FACETS]
    names.append(f"tasks/{task}")
    return _python_files(root, names)


def cache_folder(root: Path, params: Params, stage: str) -> Path | None:
    """Return the folder of a stage's cache: `<data>/.state/memo/<stage>/<key>`; None without one.

    The cache holds results for single rows or files from earlier runs. A copy of a project uses
    the cache of the project. The key covers every byte of the code that such work can run, and the
    versions of the libraries that may change its result.

    Args:
        root: of the project, or of a copy.
        params: of the pipeline.
        stage: its name.
    """
    if not STAGES[stage].remembers:
        return None
    code = cache_code(root, params.task, stage)
    content = {
        "code": {file.relative_to(root).as_posix(): sha256(file) for file in code},
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _LIBRARIES},
    }
    key = cache_key(content)
    return home(root).resolve() / params.pipeline.data / ".state" / _CACHES / stage / key


def cache_code(root: Path, task: str, stage: str) -> list[Path]:
    """Return the files that the cached work of a stage can run, and some more.

    A cache that is lost costs time, but a stale one would give wrong results.

    Args:
        root: of the project.
        task: its id.
        stage: its name.
    """
    names = [
        "core",
        "fields",
        f"stages/{stage}",
        "tasks/base.py",
        "tasks/shared/schema",
        f"tasks/{task}/schema.py",
    ]
    return _python_files(root, names)


def _python_files(root: Path, names: Sequence[str]) -> list[Path]:
    """Return the Python files that some paths are or hold.

    Args:
        root: of the project.
        names: files or folders below components.
    """
    files: list[Path] = []
    for name in names:
        path = root / "components" / name
        if path.is_dir():
            files += sorted(path.rglob("*.py"))
        else:
            files.append(path)
    return files


def clear_others(state: Path) -> None:
    """Remove the states of the same stage under other keys.

    No later run uses them, and they hold checkpoints. The records of finished searches stay; only
    --fresh discards them.

    Args:
        state: the state folder that stays.
    """
    for other in state.parent.iterdir():
        if other not in (state, state.parent / STUDIES) and other.is_dir():
            remove_tree(other, within=state.parent)


def leftovers(root: Path) -> Iterator[tuple[Path, int]]:
    """Yield the state folders of stages and batches that did not end, with their sizes in bytes.

    Args:
        root: of the project.
    """
    folders = [*root.glob("data/.state/*/*"), *root.glob("data/*/.state/*/*")]
    for folder in sorted(folders):
        if not folder.is_dir() or folder.name == STUDIES:
            continue
        if folder.parent.name in (*STAGES, BATCH):
            yield folder, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def discard_leftovers(root: Path) -> Iterator[str]:
    """Remove the state of stages and batches that did not end, and yield a line about each.

    The state of those that run stays.

    Args:
        root: of the project.

    Raises:
        EnvironmentFault: a lock cannot be opened.
    """
    folders = list(leftovers(root))
    for folder, size in folders:
        stage = folder.parent.name
        is_batch = stage == BATCH
        lock = folder.parent.parent / f"{stage}.lock"
        if is_batch:
            lock = folder.with_suffix(".lock")
        name = folder.relative_to(root)
        try:
            with only_one(lock, stage):
                remove_tree(folder, within=folder.parent, ignore_errors=False)
        except EnvironmentFault as fault:
            yield f"{name} stays: {fault.what}"
            continue
        if is_batch:
            lock.unlink(missing_ok=True)
        yield f"removed {name} ({size / 1e6:.1f} MB)"
    if not folders:
        yield "nothing to clean: no stage was left unfinished"


def annotate(state: Path, content: Mapping[str, str]) -> None:
    """Write a README.json into a state folder, which explains it to a person who opens it.

    Args:
        state: the folder; it is created where it is missing.
        content: what to write.
    """
    state.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dict(content), indent=2)
    (state / "README.json").write_text(f"{text}\n", encoding="utf-8")
