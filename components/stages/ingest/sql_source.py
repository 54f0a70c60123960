"""Source `sql`: the shards that `gristmill pull` appends, and the watermark that names them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.files import sha256, to_json, write_atomic
from components.stages.ingest.params import Sql
from components.stages.ingest.source_rows import Unit

WATERMARK = "watermark.json"
_PULL = "gristmill pull brings the rows of the database"


@dataclass(frozen=True)
class Shard:
    """One Parquet file."""

    file: str
    rows: int
    sha256: str
    last: str  # the greatest cursor in it, as in `Watermark.value`


@dataclass(frozen=True)
class Watermark:
    """How far a source was pulled."""

    asked: dict[str, str | None]  # table, query and cursor
    kind: str = ""  # of the cursor's values; "" before the first row
    value: str = ""  # the greatest that was pulled
    rows: int = 0
    columns: dict[str, str] = field(
        default_factory=dict
    )  # name -> type; "null" where no row had a value yet
    shards: tuple[Shard, ...] = ()

    def write(self, folder: Path) -> None:
        """Write the watermark beside the shards; from then on they are the source."""
        write_atomic(folder / WATERMARK, to_json(asdict(self)))


def read(folder: Path) -> Watermark | None:
    """Return the watermark of a folder; None where nothing was pulled.

    Raises:
        InputError: it is none.
    """
    try:
        stored: dict[str, Any] = json.loads((folder / WATERMARK).read_text(encoding="utf-8"))
        return replace(
            Watermark(**stored), shards=tuple(Shard(**shard) for shard in stored["shards"])
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"is not readable ({type(error).__name__})",
            where=str(folder / WATERMARK),
            remedy="gristmill pull --from-scratch makes the folder anew",
        ) from None


def units(source: Sql, root: Path) -> list[Unit]:
    """Return the shards of the watermark.

    Other shards were left by a pull that was killed, and are no part of the source.

    Raises:
        InputError: nothing was pulled, or a shard is not what it was.
    """
    folder = root / source.path
    mark = read(folder)
    if mark is None or not mark.shards:
        raise InputError("holds no rows of the database yet", where=source.path, remedy=_PULL)
    for shard in mark.shards:
        path = folder / shard.file
        if not path.is_file() or sha256(path) != shard.sha256:
            raise InputError(
                "is missing or not what was pulled: it was cut or edited",
                where=f"{source.path}/{shard.file}",
                remedy="bring it back (dvc checkout), or gristmill pull --from-scratch",
            )
    return [Unit(shard.file, (folder / shard.file,), "parquet") for shard in mark.shards]
