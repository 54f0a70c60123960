"""Where a stage's resumable state lies: outside its outs, under a key made of what the result depends on."""

from __future__ import annotations

import ast
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from itertools import chain
from pathlib import Path

from components.core.bundles import CARD
from components.core.cache import cache_key
from components.core.errors import EnvironmentFault
from components.core.files import remove_tree, sha256, to_json
from components.core.tables import MANIFEST
from components.orchestration.locks import only_one
from components.orchestration.pipeline_params import Params
from components.orchestration.stage_files import STAGES
from components.registry.store.tracking_store import home
from components.stages.tune.study import STUDIES

BATCH = "predict"  # not a stage, but it leaves finished parts behind in the same way
MEMO = "memo"
_FORMAT = 2
_LIBRARIES = ("numpy", "pyarrow", "pillow", "charset-normalizer")
# Chooses params for new data. No stage runs it.
_DEFAULTS = "defaults.py"
_FACTS = (MANIFEST, CARD)  # files that hold the hashes of their neighbors


def state_folder(root: Path, params: Params, stage: str, inputs: Mapping[str, Path]) -> Path:
    """`<data>/.state/<stage>/<key>`, absolute.

    The key covers the sections that the stage reads (without knobs of its own that only say how far it goes), its inputs, the format, and for stages that fit
    the code of net, loss and encoder without comments.
    """
    own = params.sections[stage]
    shaping = own.model_dump(mode="json", exclude=set(getattr(own, "budget", ())))
    others = params.digest([name for name in STAGES[stage].sections if name != stage])
    facts = {
        "format": _FORMAT,
        "params": [others, shaping],
        "inputs": {name: _digest(path) for name, path in sorted(inputs.items())},
    }
    if STAGES[stage].fits:
        facts["code"] = code_digest(root, params.task)
    key = hashlib.sha256(to_json(facts).encode()).hexdigest()[:16]
    return root / params.pipeline.data / ".state" / stage / key


def _digest(path: Path) -> str:
    if path.is_file():
        return sha256(path)
    inner = sorted(file for file in path.rglob("*") if file.name in _FACTS)
    return hashlib.sha256(
        "".join(f"{file.relative_to(path)}:{sha256(file)}" for file in inner).encode()
    ).hexdigest()


def code_digest(root: Path, task: str) -> str:
    """SHA-256 of what the code that shapes a fit does: syntax trees, so that comments and layout change nothing."""
    folders = [
        root / "components" / name
        for name in (
            "training",
            "inference",
            "models",
            "metrics",
            "tasks/classification",
            f"tasks/{task}",
        )
    ]
    found = chain.from_iterable(sorted(folder.rglob("*.py")) for folder in folders)
    files = [file for file in found if file.name != _DEFAULTS]
    trees = (ast.dump(ast.parse(file.read_text(encoding="utf-8"))) for file in files)
    return hashlib.sha256("\n".join(trees).encode()).hexdigest()


def cache_folder(root: Path, params: Params, stage: str) -> Path | None:
    """`<data>/.state/memo/<stage>/<key>` of the project, for a copy of it too: what the stage's pure work gave in earlier runs. None for a stage that remembers nothing.

    The key covers every byte of the code that such work can run, and the libraries whose version its result may show.
    """
    if not STAGES[stage].remembers:
        return None
    facts = {
        "code": {
            file.relative_to(root).as_posix(): sha256(file)
            for file in cache_code(root, params.task, stage)
        },
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _LIBRARIES},
    }
    return home(root).resolve() / params.pipeline.data / ".state" / MEMO / stage / cache_key(facts)


def cache_code(root: Path, task: str, stage: str) -> list[Path]:
    """The files that a stage's pure work can run, and some more: a memo that is lost costs time, one that is kept wrongly a result."""
    places = [
        root / "components" / name
        for name in (
            "core",
            "fields",
            f"stages/{stage}",
            "tasks/base.py",
            f"tasks/{task}/schema.py",
        )
    ]
    return [
        file
        for place in places
        for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])
    ]


def clear_others(state: Path) -> None:
    """Drop the states of other keys of the same stage: nothing will ask for them again, and they hold checkpoints. The records of finished searches stay; only --fresh discards them."""
    for other in state.parent.iterdir():
        if other not in (state, state.parent / STUDIES) and other.is_dir():
            remove_tree(other, within=state.parent)


def leftovers(root: Path) -> Iterator[tuple[Path, int]]:
    """State folders of stages and batches that did not end, with their size in bytes."""
    for folder in sorted([*root.glob("data/.state/*/*"), *root.glob("data/*/.state/*/*")]):
        if folder.is_dir() and folder.parent.name in (*STAGES, BATCH) and folder.name != STUDIES:
            yield folder, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def discard_leftovers(root: Path) -> Iterator[str]:
    """Remove the state of stages and batches that did not end, but not of those that run; yield a line for each.

    Raises:
        EnvironmentFault: a lock cannot be opened.
    """
    found = list(leftovers(root))
    for folder, size in found:
        is_batch = folder.parent.name == BATCH
        lock = (
            folder.with_suffix(".lock")
            if is_batch
            else folder.parent.parent / f"{folder.parent.name}.lock"
        )
        name = folder.relative_to(root)
        try:
            with only_one(lock, folder.parent.name):
                remove_tree(folder, within=folder.parent, ignore_errors=False)
        except EnvironmentFault as fault:
            yield f"{name} stays: {fault.what}"
            continue
        if is_batch:
            lock.unlink(missing_ok=True)
        yield f"removed {name} ({size / 1e6:.1f} MB)"
    if not found:
        yield "nothing to clean: no stage was left unfinished"


def note(state: Path, facts: Mapping[str, str]) -> None:
    """Say in a state folder what it is for, for the person who finds it."""
    state.mkdir(parents=True, exist_ok=True)
    (state / "README.json").write_text(json.dumps(dict(facts), indent=2) + "\n", encoding="utf-8")
