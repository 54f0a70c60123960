"""Implementation of `gristmill pull`: new rows of a database into the folder that ingest reads.

`run`, `retrain` and `schedule` pull first. `dvc repro` uses the rows that are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256 as digest_of
from pathlib import Path

from components.core.errors import EnvironmentFault, ParamsError
from components.core.terminal import print_line
from components.core.workspace import home
from components.orchestration.locks import only_one, this_command
from components.orchestration.pipeline_params import Params
from components.orchestration.runner.dataset_pull import pull_dataset
from components.orchestration.runner.dvc_lock import has_hardlink_lock
from components.stages.ingest.database_pull import Pulled, pull
from components.stages.ingest.params import IngestParams, Mlflow, Source, Sql


def pull_now(root: Path, params: Params, from_scratch: bool) -> None:
    """Pull new rows for a pipeline, because a person asked for it.

    Args:
        root: of the project.
        params: of the pipeline.
        from_scratch: pull all rows again.

    Raises:
        ParamsError: its source is no database.
        GristmillError: see `components.stages.ingest.database_pull`.
    """
    ingest: IngestParams = params.sections["ingest"]  # type: ignore[assignment]
    if isinstance(ingest.source, Mlflow):
        if not _pull_dataset(root, ingest.source, from_scratch):
            print_line(f"nothing new: {ingest.source.path} holds the dataset")
        return
    pulled = pull_first(root, params, from_scratch)
    if pulled is None:
        raise ParamsError(
            "is neither a database nor a run: there is nothing to pull",
            where=f"{params.pipeline.params}: ingest.source.kind",
            remedy="set it to sql, with url, table and cursor, or to mlflow, with run or dataset",
        )
    if not pulled.new:
        mark = pulled.mark
        print_line(f"nothing new: {mark.rows:,} rows are there, up to {mark.value}")


def pull_first(root: Path, params: Params, from_scratch: bool = False) -> Pulled | None:
    """Pull new rows, if the source is a database, or the dataset of an earlier run.

    The copy of a retrain has the source as it was, so nothing is pulled there.

    Args:
        root: of the project.
        params: of the pipeline.
        from_scratch: pull all rows again.

    Returns:
        What was pulled; None where there is no database to ask.

    Raises:
        EnvironmentFault: another process pulls into the same folder, or DVC reads it.
    """
    ingest: IngestParams = params.sections["ingest"]  # type: ignore[assignment]
    source = ingest.source
    if home(root) != root:
        return None
    if isinstance(source, Mlflow):
        _pull_dataset(root, source, from_scratch)
    if not isinstance(source, Sql):
        return None
    with only_one(lock_of(root, source), f"a pull into {source.path}"), _unread(root, source):
        pulled = pull(source, root, from_scratch)
    if pulled.new:
        mark = pulled.mark
        print_line(
            f"pulled {pulled.new:,} new rows into {source.path}: {mark.rows:,} rows, "
            f"{source.cursor} up to {mark.value}"
        )
    return pulled


def _pull_dataset(root: Path, source: Mlflow, from_scratch: bool) -> int:
    """Copy the dataset of an earlier run, and return the number of its rows; 0 if it is there.

    Raises:
        GristmillError: see `pull_dataset`.
    """
    with only_one(lock_of(root, source), f"a pull into {source.path}"), _unread(root, source):
        rows = pull_dataset(source, root, from_scratch)
    if rows:
        print_line(f"copied {rows:,} rows of an earlier run into {source.path}")
    return rows


def lock_of(root: Path, source: Source) -> Path:
    """Return the path of the lock of a folder of shards, the same for all pipelines.

    Args:
        root: of the project.
        source: with the folder to pull into.
    """
    folder = (root / source.path).resolve()
    digest = digest_of(bytes(folder)).hexdigest()[:16]
    return root / "data" / ".state" / "pull" / f"{digest}.lock"


@contextmanager
def _unread(root: Path, source: Source) -> Iterator[None]:
    """Lock the folder against DVC's stages while the block runs.

    DVC hashes what a stage has read when the stage ends. It would hash new rows that no stage has
    read, and so no stage would ever read them.

    Raises:
        EnvironmentFault: DVC reads the folder.
    """
    from dvc.fs import localfs
    from dvc.lock import LockError
    from dvc.rwlock import rwlock

    temp = root.resolve() / ".dvc" / "tmp"
    temp.mkdir(parents=True, exist_ok=True)
    written = str(root.resolve() / source.path)
    try:
        with rwlock(
            str(temp),
            localfs,
            this_command(),
            read=[],
            write=[written],
            hardlink=has_hardlink_lock(root),
        ):
            yield
    except LockError as error:
        reason = " ".join(str(error).partition("\n\n")[0].split())
        raise EnvironmentFault(
            f"DVC reads the folder: {reason}",
            where=source.path,
            remedy="wait for it or end it, then run the same command again",
        ) from None
