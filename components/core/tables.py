"""Write and read tables: a folder of zstd Parquet shards and a `manifest.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.core.files import sha256, to_json, write_atomic

MANIFEST = "manifest.json"
# Folder beside tokens, with the network whose vocabulary they come from.
PRETRAINED = "pretrained"
ROWS_PER_SHARD = 50_000


def write_table(
    folder: Path,
    parts: Mapping[str, pa.Table],
    metadata: Mapping[str, Any] | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
) -> dict[str, Any]:
    """Write named parts as `<part>-NNNNN.parquet` shards and a manifest.

    Args:
        folder: created. It must not hold other shards.
        parts: part name (a split, or "rows") -> rows. An empty part gives no shard.
        metadata: more about the content for the manifest (counts, targets): no times, ids or paths.
        rows_per_shard: rows of a shard.

    Returns:
        The manifest as written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Any]] = []
    for name, table in parts.items():
        for number, start in enumerate(range(0, table.num_rows, rows_per_shard)):
            piece = table.slice(start, rows_per_shard)
            path = folder / f"{name}-{number:05d}.parquet"
            pq.write_table(piece, path, compression="zstd")
            shards.append({"file": path.name, "rows": piece.num_rows, "sha256": sha256(path)})
    schema = next(iter(parts.values())).schema if parts else pa.schema([])
    manifest = {
        "rows": sum(shard["rows"] for shard in shards),
        "parts": {name: table.num_rows for name, table in parts.items()},
        "schema": {field.name: str(field.type) for field in schema},
        "shards": shards,
        **(metadata or {}),
    }
    write_atomic(folder / MANIFEST, to_json(manifest))
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a table.

    Raises:
        InputError: there is no manifest, or it is invalid.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if not {"schema", "shards"} <= manifest.keys():
            raise ValueError("shards and schema are missing")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"holds no readable {MANIFEST} ({type(error).__name__})",
            where=str(folder),
            remedy="dvc repro the stage that writes it",
        ) from None
    return manifest


def read_table(folder: Path, part: str | None = None, columns: list[str] | None = None) -> pa.Table:
    """Return a part of a table, or all of it, after comparing each shard with its SHA-256.

    Args:
        folder: of the table.
        part: name of the part. None: all parts.
        columns: names of the columns. None: all columns.

    Raises:
        InputError: a shard is missing or differs from the manifest.
    """
    shards = list(_verified(folder, part))
    if not shards:
        return _empty_table(read_manifest(folder)["schema"], columns)
    tables = [pq.read_table(path, columns=columns, memory_map=True) for path in shards]
    return pa.concat_tables(tables)


def sample(table: pa.Table, most: int, seed: int) -> pa.Table:
    """Return at most so many rows of a table, in their order.

    Args:
        table: of any rows.
        most: a table with at most so many rows is returned as it is.
        seed: of the draw.
    """
    if table.num_rows <= most:
        return table
    drawn = np.random.default_rng(seed).choice(table.num_rows, most, replace=False)
    return table.take(pa.array(np.sort(drawn)))


def _empty_table(schema: Mapping[str, str], columns: list[str] | None) -> pa.Table:
    """Return a table without rows.

    Its columns are in the given order, so that it can be joined to a part with rows.
    """
    types = {}
    for name, kind in schema.items():
        is_simple = kind in ("string", "int64", "double", "binary")
        types[name] = pa.type_for_alias(kind) if is_simple else pa.null()
    return pa.table({name: pa.array([], types[name]) for name in columns or types})


def _verified(folder: Path, part: str | None) -> Iterator[Path]:
    """Yield the paths of a part's shards, each after a comparison with its SHA-256."""
    for shard in read_manifest(folder)["shards"]:
        if part is not None and shard["file"].rsplit("-", 1)[0] != part:
            continue
        path = folder / shard["file"]
        if not path.is_file() or sha256(path) != shard["sha256"]:
            raise InputError(
                "is missing or does not match its manifest: it was cut or edited",
                where=str(path),
                remedy=f"dvc checkout {folder.name}, or dvc repro the stage that writes it",
            )
        yield path
