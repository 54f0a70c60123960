"""`gristmill pull`: new rows of a database into the folder that ingest reads. `run`, `retrain` and `schedule` pull first; `dvc repro` uses what is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256 as digest_of
from pathlib import Path

from components.core.errors import EnvironmentFault, ParamsError
from components.core.terminal import print_line
from components.orchestration.locks import only_one, this_command
from components.orchestration.pipeline_params import Params
from components.registry.store.tracking_store import home
from components.stages.ingest.database_pull import Pulled, pull
from components.stages.ingest.params import IngestParams, Sql


def pull_now(root: Path, params: Params, from_scratch: bool) -> None:
    """Pull for a pipeline, as a person asked.

    Raises:
        ParamsError: its source is no database.
        GristmillError: see `components.stages.ingest.database_pull`.
    """
    if (made := pull_first(root, params, from_scratch)) is None:
        raise ParamsError(
            "is no database: there is nothing to pull",
            where=f"{params.pipeline.params}: ingest.source.kind",
            remedy="set it to sql, with url, table and cursor",
        )
    if not made.new:
        print_line(f"nothing new: {made.mark.rows:,} rows are there, up to {made.mark.value}")


def pull_first(root: Path, params: Params, from_scratch: bool = False) -> Pulled | None:
    """Pull, if the source is a database. In the copy of a retrain, which has the source as it was, nothing is asked of anybody.

    Returns:
        What came; None where there is nobody to ask.

    Raises:
        EnvironmentFault: somebody else pulls into the same folder, or DVC reads it.
    """
    ingest: IngestParams = params.sections["ingest"]  # type: ignore[assignment]
    source = ingest.source
    if not isinstance(source, Sql) or home(root) != root:
        return None
    with only_one(lock_of(root, source), f"a pull into {source.path}"), _unread(root, source):
        made = pull(source, root, from_scratch)
    if made.new:
        print_line(
            f"pulled {made.new:,} new rows into {source.path}: {made.mark.rows:,} rows, {source.cursor} up to {made.mark.value}"
        )
    return made


def lock_of(root: Path, source: Sql) -> Path:
    """The lock of a folder of shards, whichever pipeline pulls into it."""
    return (
        root
        / "data"
        / ".state"
        / "pull"
        / f"{digest_of(bytes((root / source.path).resolve())).hexdigest()[:16]}.lock"
    )


@contextmanager
def _unread(root: Path, source: Sql) -> Iterator[None]:
    """Keep the folder from DVC's stages while the block runs: what a stage has read is hashed when it ends, and new rows among that would never be read."""
    from dvc import rwlock
    from dvc.config import Config
    from dvc.fs import localfs
    from dvc.lock import LockError

    own = root.resolve() / ".dvc"
    (own / "tmp").mkdir(parents=True, exist_ok=True)
    try:
        with rwlock(
            str(own / "tmp"),
            localfs,
            this_command(),
            [],
            [str(root.resolve() / source.path)],
            bool(Config(str(own))["core"].get("hardlink_lock")),
        ):
            yield
    except LockError as error:
        reason = " ".join(str(error).partition("\n\n")[0].split())
        raise EnvironmentFault(
            f"DVC reads the folder: {reason}",
            where=source.path,
            remedy="wait for it or end it, then run the same command again",
        ) from None
