"""`gristmill pull`: new rows of a database into the folder that ingest reads. `run`, `retrain` and `schedule` pull first; `dvc repro` uses what is there."""

from __future__ import annotations

from pathlib import Path

import typer

from components.core.errors import ParamsError
from components.ingest.params import IngestParams, Sql
from components.ingest.pull import Pulled, pull
from components.registry.store import home
from pipelines.lock import only_one
from pipelines.params import Params


def pull_now(root: Path, params: Params, from_scratch: bool) -> None:
    """Pull for a pipeline, as a person asked.

    Raises:
        ParamsError: its source is no database.
        GristmillError: see `components.ingest.pull`.
    """
    if (made := pull_first(root, params, from_scratch)) is None:
        raise ParamsError("is no database: there is nothing to pull", where=f"{params.pipeline.params}: ingest.source.kind", remedy="set it to sql, with url, table and cursor")
    if not made.new:
        typer.echo(f"nothing new: {made.mark.rows:,} rows are there, up to {made.mark.value}")


def pull_first(root: Path, params: Params, from_scratch: bool = False) -> Pulled | None:
    """Pull, if the source is a database. In the copy of a retrain, which has the source as it was, nothing is asked of anybody.

    Returns:
        What came; None where there is nobody to ask.
    """
    ingest: IngestParams = params.sections["ingest"]  # type: ignore[assignment]
    source = ingest.source
    if not isinstance(source, Sql) or home(root) != root:
        return None
    with only_one(root / params.pipeline.data / ".state" / "pull.lock", f"a pull of pipeline {params.name}"):
        made = pull(source, root, from_scratch)
    if made.new:
        typer.echo(f"pulled {made.new:,} new rows into {source.path}: {made.mark.rows:,} rows, {source.cursor} up to {made.mark.value}")
    return made
