"""Tables: a folder of zstd Parquet shards and `manifest.json` beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.core.files import sha256, to_json, write_atomic

MANIFEST = "manifest.json"
PRETRAINED = "pretrained"  # folder beside tokens: the network whose vocabulary they are of
ROWS_PER_SHARD = 50_000


def write_table(
    folder: Path,
    parts: Mapping[str, pa.Table],
    facts: Mapping[str, Any] | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
) -> dict[str, Any]:
    """Write named parts as `<part>-NNNNN.parquet` shards and a manifest.

    Args:
        folder: created; must not hold other shards.
        parts: part name (a split, or "rows") -> rows. An empty part gives no shard.
        facts: further content facts for the manifest (counts, classes); no times, no ids, no paths.

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
        **(facts or {}),
    }
    write_atomic(folder / MANIFEST, to_json(manifest))
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a table.

    Raises:
        InputError: no manifest, or one that is none.
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
    """Read a part (or all) of a table after comparing each shard with its SHA-256.

    Raises:
        InputError: a shard is missing or differs from the manifest.
    """
    shards = list(_verified(folder, part))
    if not shards:
        types = {
            name: pa.type_for_alias(kind)
            if kind in ("string", "int64", "double", "binary")
            else pa.null()
            for name, kind in read_manifest(folder)["schema"].items()
        }
        return pa.table(
            {name: pa.array([], types[name]) for name in columns or types}
        )  # in the order asked for, or it could not be joined to a part with rows
    return pa.concat_tables(
        [pq.read_table(path, columns=columns, memory_map=True) for path in shards]
    )


def _verified(folder: Path, part: str | None) -> Iterator[Path]:
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
