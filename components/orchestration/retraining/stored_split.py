"""The frozen test split that all retrains of a pipeline reuse.

Champion and challenger are compared on the same test cases. The first retrain stores the split.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from components.core.files import sha256
from components.core.params import read_yaml
from components.core.tables import MANIFEST
from components.orchestration.pipeline_params import Params
from components.registry.versions.reader import RegistrySnapshot
from components.stages.clean.frozen_split import freeze
from components.stages.clean.params import CleanParams


def stored_split(folder: Path) -> Path | None:
    """Return the split that an earlier retrain stored, if any.

    Args:
        folder: of the pipeline's retrains.
    """
    splits = sorted(folder.glob("split-*.parquet"))
    return next(iter(splits), None)


def find_split(
    root: Path, params: Params, folder: Path, snapshot: RegistrySnapshot | None
) -> Path | None:
    """Return the test split that a retrain must use. None: the retrain makes a new one.

    It is the one in the params, else the one of the retrains before, else the one that the champion
    was tested on, if the working tree still has it.

    Args:
        root: of the project.
        params: of the pipeline.
        folder: of the pipeline's retrains, where the split is stored.
        snapshot: the registry's records of the pipeline.
    """
    clean: CleanParams = params.sections["clean"]  # type: ignore[assignment]
    if clean.frozen_split is not None:
        return root / clean.frozen_split
    stored = stored_split(folder)
    if stored is not None:
        return stored
    manifest = root / params.pipeline.data / "clean" / MANIFEST
    if snapshot is None or not _is_data_of_champion(manifest, snapshot):
        return None
    return freeze(manifest.parent, params.task, clean, folder)


def _is_data_of_champion(manifest: Path, snapshot: RegistrySnapshot) -> bool:
    """Return whether a manifest describes the data that the champion was trained on."""
    number = snapshot.aliases.get("champion")
    if number is None or not manifest.is_file():
        return False
    return sha256(manifest) == snapshot.version(number).tags.get("data_hash")


def pin_inputs(copy: Path, params: Params, split: Path | None, feedback: str) -> None:
    """Write into the copy's params the inputs that DVC does not track.

    They are the digest of the feedback, and the split for clean. The file of the split is copied to
    the state folder of the copy.

    Args:
        copy: of the project.
        params: of the pipeline.
        split: for clean to use; None: clean makes one.
        feedback: the digest; empty without feedback.
    """
    from ruamel.yaml import YAML

    clean: CleanParams = params.sections["clean"]  # type: ignore[assignment]
    pins: list[tuple[str, str, str]] = []
    if feedback:
        pins.append(("ingest", "seen", feedback))
    if split:
        default = f"data/.state/retrain/{params.name}/{split.name}"
        target = copy / (clean.frozen_split or default)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(split, target)
        if clean.frozen_split is None:
            pins.append(("clean", "frozen_split", target.relative_to(copy).as_posix()))
    if not pins:
        return
    file = copy / params.pipeline.params
    tree = read_yaml(file)
    for section, key, value in pins:
        tree[section][key] = value
    yaml = YAML(typ="safe", pure=True)
    # The parser in C, which DVC may have, refuses an address between braces.
    yaml.default_flow_style = False
    yaml.dump(tree, file)


def store_split(copy: Path, params: Params, folder: Path) -> None:
    """Store the split that a retrain has made, unless one is stored already.

    Args:
        copy: of the project, in which the retrain ran.
        params: of the pipeline.
        folder: of the pipeline's retrains.
    """
    clean: CleanParams = params.sections["clean"]  # type: ignore[assignment]
    if clean.frozen_split is not None or stored_split(folder) is not None:
        return
    data = copy / params.pipeline.data / "clean"
    if (data / MANIFEST).is_file():
        freeze(data, params.task, clean, folder)
