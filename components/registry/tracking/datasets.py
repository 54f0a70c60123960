"""Datasets of runs in MLflow: the table that ingest wrote, by place and hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field

from components.core.errors import InputError
from components.core.files import to_json
from components.core.tables import read_manifest
from components.registry.store.tracking_store import client, reached

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_WHERE = "ingest.source"
# Characters of a digest that MLflow accepts.
_DIGEST = 32
_CHUNK = 1 << 20


class LoggedShard(BaseModel):
    """One Parquet file of a dataset.

    Args:
        file: its name.
        rows: number of its rows.
        sha256: which the content is verified by.
        md5: by which DVC's cache knows it.
    """

    file: Annotated[str, Field(pattern=r"^[\w-]{1,60}\.parquet$")]
    rows: int
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class LoggedDataset(BaseModel):
    """A table that a run of ingest wrote.

    Args:
        place: folder of the table, absolute.
        cache: folder of DVC's cache, absolute.
        shards: of the table.
    """

    place: str
    cache: str
    shards: Annotated[list[LoggedShard], Field(min_length=1)]

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return sum(shard.rows for shard in self.shards)

    @property
    def sha256(self) -> str:
        """Return a hash of all shards."""
        hashes = [[shard.file, shard.sha256] for shard in self.shards]
        return hashlib.sha256(to_json(hashes).encode()).hexdigest()


def describe_table(table: Path, place: Path, cache: Path) -> LoggedDataset:
    """Return the dataset of a table.

    Args:
        table: folder of the table.
        place: folder where it stays.
        cache: folder of DVC's cache.
    """
    shards = []
    for shard in read_manifest(table)["shards"]:
        with (table / shard["file"]).open("rb") as stream:
            digest = hashlib.file_digest(
                stream, lambda: hashlib.md5(usedforsecurity=False)
            ).hexdigest()
        shards.append(LoggedShard(**shard, md5=digest))
    return LoggedDataset(place=str(place), cache=str(cache), shards=shards)


def mlflow_fields(dataset: LoggedDataset) -> dict[str, str]:
    """Return the fields of a dataset in MLflow, beside its name."""
    source = {"uri": Path(dataset.place).as_uri(), "cache": dataset.cache}
    shards = [shard.model_dump() for shard in dataset.shards]
    profile = {"num_rows": dataset.rows, "place": dataset.place, "shards": shards}
    return {
        "digest": dataset.sha256[:_DIGEST],
        "source_type": "local",
        "source": json.dumps(source),
        "profile": json.dumps(profile),
    }


def find_dataset(root: Path, run: str | None, name: str | None) -> tuple[str, LoggedDataset]:
    """Return the id of a run and the dataset that it logged.

    Args:
        root: of the project.
        run: id of a run of ingest, or of the pipeline's run above it; None: name is used.
        name: of a dataset, whose newest finished run is taken.

    Raises:
        InputError: there is no such run, or it logged no dataset that can be read.
        EnvironmentFault: MLflow does not answer.
    """
    opened = client(root)
    with reached(root):
        logged = _run(opened, run) if run else _newest_run(opened, str(name))
    for item in logged.inputs.dataset_inputs:
        if run or item.dataset.name == name:
            return logged.info.run_id, _read(item.dataset, logged.info.run_id)
    raise InputError(
        f"the run {logged.info.run_id} logged no dataset: DVC skipped its ingest, "
        "or it was made before Gristmill logged them",
        where=f"{_WHERE}.run",
        remedy="name a run whose ingest ran (gristmill mlflow up shows its datasets)",
    )


def _run(opened: MlflowClient, run: str) -> Run:
    """Return a run.

    Raises:
        InputError: there is none.
    """
    from mlflow.exceptions import MlflowException

    try:
        return opened.get_run(run)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise InputError(
            f"MLflow has no run {run!r}",
            where=f"{_WHERE}.run",
            remedy="copy the id of a run from its page (gristmill mlflow up)",
        ) from None


def _newest_run(opened: MlflowClient, name: str) -> Run:
    """Return the newest finished run that logged a dataset of a name.

    Raises:
        InputError: there is none.
    """
    experiment = opened.get_experiment_by_name(name)
    runs: Any = []
    if experiment:
        runs = opened.search_runs(
            [experiment.experiment_id],
            f"dataset.name = '{name}' and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
    if not runs:
        raise InputError(
            f"no finished run has logged the dataset {name!r}",
            where=f"{_WHERE}.dataset",
            remedy="name the pipeline whose ingest wrote it, or set ingest.source.run",
        )
    return runs[0]


def _read(dataset: Any, run: str) -> LoggedDataset:
    """Return the description of a dataset in MLflow, which is input from outside.

    Raises:
        InputError: it is not one of Gristmill, or damaged.
    """
    try:
        source = json.loads(dataset.source)
        profile = json.loads(dataset.profile)
        read = LoggedDataset.model_validate({**profile, "cache": source["cache"]})
        if read.sha256[:_DIGEST] != dataset.digest:
            raise ValueError("its digest is another one")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"the dataset {dataset.name!r} of the run {run} is none that ingest logged: {reason}",
            where=_WHERE,
            remedy="name a run of a stage ingest",
        ) from None
    return read
