"""The test split of a pipeline's retrains: kept from the first of them on, so that champion and challenger are compared on the same cases."""

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


def kept(folder: Path) -> Path | None:
    """The split that was kept, if any."""
    return next(iter(sorted(folder.glob("split-*.parquet"))), None)


def find(root: Path, params: Params, folder: Path, shelf: RegistrySnapshot | None) -> Path | None:
    """The split to keep: of the retrains before; else the one that the champion was tested on, if the working tree still has it.

    Args:
        root: of the project.
        params: of the pipeline; what they say goes before.
        folder: where it is kept.
        shelf: what the registry holds.
    """
    clean: CleanParams = params.sections["clean"]  # type: ignore[assignment]
    if clean.frozen_split is not None:
        return root / clean.frozen_split
    if (found := kept(folder)) is not None:
        return found
    manifest = root / params.pipeline.data / "clean" / MANIFEST
    number = shelf.aliases.get("champion") if shelf else None
    if (
        shelf is None
        or number is None
        or not manifest.is_file()
        or sha256(manifest) != shelf.version(number).tags.get("data_hash")
    ):
        return None
    return freeze(manifest.parent, params.task, clean, folder)


def pin(copy: Path, params: Params, split: Path | None, feedback: str) -> None:
    """Write into the copy's params what DVC could not see otherwise: the split that clean is to keep, whose file goes beside the copy's state, and the digest of the feedback."""
    from ruamel.yaml import YAML

    clean: CleanParams = params.sections["clean"]  # type: ignore[assignment]
    pins: list[tuple[str, str, str]] = [("ingest", "seen", feedback)] if feedback else []
    if split:
        place = copy / (clean.frozen_split or f"data/.state/retrain/{params.name}/{split.name}")
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(split, place)
        pins += (
            [("clean", "frozen_split", place.relative_to(copy).as_posix())]
            if clean.frozen_split is None
            else []
        )
    if pins:
        tree = read_yaml(copy / params.pipeline.params)
        for section, key, value in pins:
            tree[section][key] = value
        YAML(typ="safe", pure=True).dump(tree, copy / params.pipeline.params)


def keep(copy: Path, params: Params, folder: Path) -> None:
    """Keep the split that a retrain has made, if none was kept before."""
    clean: CleanParams = params.sections["clean"]  # type: ignore[assignment]
    if (
        clean.frozen_split is None
        and kept(folder) is None
        and (copy / params.pipeline.data / "clean" / MANIFEST).is_file()
    ):
        freeze(copy / params.pipeline.data / "clean", params.task, clean, folder)
