"""Copy the table of an earlier run into the folder that ingest reads, and verify it."""

from __future__ import annotations

from pathlib import Path

from components.core.errors import InputError
from components.core.files import copy, remove_tree, sha256
from components.registry.tracking.datasets import LoggedDataset, LoggedShard, find_dataset
from components.stages.ingest import mlflow_source
from components.stages.ingest.mlflow_source import CopiedDataset
from components.stages.ingest.params import Mlflow


def pull_dataset(source: Mlflow, root: Path, from_scratch: bool) -> int:
    """Copy the dataset of a run, unless it is there.

    MLflow is not asked for the dataset of a run that was copied before. The newest run of a name
    may change, so it is asked for that.

    Args:
        source: section of the params.
        root: of the project.
        from_scratch: copy it again.

    Returns:
        Number of rows that were copied.

    Raises:
        InputError: MLflow has no such run or dataset, its files are gone, or the folder holds
            other files.
        EnvironmentFault: MLflow does not answer, or the disk is full.
    """
    folder = root / source.path
    previous = None
    if not from_scratch:
        previous = mlflow_source.read(folder)
    if previous and previous.run == source.run:
        return 0
    _check_folder(folder, source.path)
    run, dataset = find_dataset(root, source.run, source.dataset)
    copied = CopiedDataset(run=run, sha256={shard.file: shard.sha256 for shard in dataset.shards})
    if previous and previous.sha256 == copied.sha256:
        return 0
    part = folder.with_name(f".{folder.name}.part")
    remove_tree(part, within=folder.parent)
    part.mkdir(parents=True)
    for shard in dataset.shards:
        _copy_shard(shard, dataset, run, part)
    copied.write(part)
    remove_tree(folder, within=folder.parent, ignore_errors=False)
    part.rename(folder)
    return dataset.rows


def _check_folder(folder: Path, path: str) -> None:
    """Check that a folder holds nothing but a copied dataset.

    Raises:
        InputError: it holds other files.
    """
    if not folder.exists():
        return
    copied = mlflow_source.read(folder)
    copied_names = {mlflow_source.DATASET, *copied.sha256} if copied else set()
    others = sorted({file.name for file in folder.iterdir()} - copied_names)
    if others:
        raise InputError(
            f"{path!r} holds {others[0]!r}, which is not of a copied dataset",
            where="ingest.source.path",
            remedy="move it away, or set ingest.source.path to a folder of its own",
        )


def _copy_shard(shard: LoggedShard, dataset: LoggedDataset, run: str, folder: Path) -> None:
    """Copy a shard from its place, or from DVC's cache where that has another table by now.

    Args:
        shard: to copy.
        dataset: which it is of.
        run: that wrote it.
        folder: to copy it to.

    Raises:
        InputError: neither has it.
    """
    target = folder / shard.file
    cached = Path(dataset.cache) / shard.md5[:2] / shard.md5[2:]
    for path in (Path(dataset.place) / shard.file, cached):
        if path.is_file():
            copy(path, target)
            if sha256(target) == shard.sha256:
                return
    raise InputError(
        f"{shard.file} of the run {run} is neither in {dataset.place} nor in {dataset.cache}, "
        f"or has another SHA-256 than {shard.sha256}",
        where="ingest.source",
        remedy="bring it back (dvc fetch in the project of the run), or name another run",
    )
