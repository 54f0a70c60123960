"""Source `mlflow`: the table of an earlier run, which `gristmill pull` has copied."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from components.core.errors import InputError
from components.core.files import sha256, to_json, write_atomic
from components.stages.ingest.params import Mlflow
from components.stages.ingest.source_rows import Unit

DATASET = "dataset.json"
_ShardName = Annotated[str, Field(pattern=r"^[\w-]{1,60}\.parquet$")]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CopiedDataset(BaseModel):
    """A copied table.

    Args:
        run: of MLflow that wrote it.
        sha256: name of a file -> hash of its content.
    """

    run: str
    sha256: Annotated[dict[_ShardName, _Sha256], Field(min_length=1)]

    def write(self, folder: Path) -> None:
        """Write the description beside the files."""
        write_atomic(folder / DATASET, to_json(self.model_dump()))


def read(folder: Path) -> CopiedDataset | None:
    """Return the description of a folder; None where nothing was copied.

    Raises:
        InputError: it is none.
    """
    try:
        return CopiedDataset.model_validate_json((folder / DATASET).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise InputError(
            f"does not describe a copied dataset ({type(error).__name__})",
            where=str(folder / DATASET),
            remedy="move the folder away, then gristmill pull copies the dataset again",
        ) from None


def units(source: Mlflow, root: Path) -> list[Unit]:
    """Return the files of the table.

    Raises:
        InputError: nothing was copied, or a file is not what it was.
    """
    folder = root / source.path
    copied = read(folder)
    if copied is None:
        raise InputError(
            "holds no dataset yet",
            where=source.path,
            remedy="gristmill pull copies the dataset of the run",
        )
    for name, digest in copied.sha256.items():
        path = folder / name
        if not path.is_file() or sha256(path) != digest:
            raise InputError(
                "is missing or not what was copied: it was cut or edited",
                where=f"{source.path}/{name}",
                remedy="gristmill pull --from-scratch copies it again",
            )
    return [Unit(name, (folder / name,), "parquet") for name in sorted(copied.sha256)]
