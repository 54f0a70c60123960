"""Source `mlflow`: the table of an earlier run, which `gristmill pull` has copied."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from components.core.errors import InputError
from components.core.files import sha256, to_json, write_atomic
from components.stages.ingest.params import Mlflow
from components.stages.ingest.source_rows import Unit

DATASET = "dataset.json"


@dataclass(frozen=True)
class CopiedDataset:
    """A copied table.

    Args:
        run: of MLflow that wrote it.
        sha256: name of a file -> hash of its content.
    """

    run: str
    sha256: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write the description beside the files."""
        write_atomic(folder / DATASET, to_json(asdict(self)))


def read(folder: Path) -> CopiedDataset | None:
    """Return the description of a folder; None where nothing was copied.

    Raises:
        InputError: it is none.
    """
    try:
        stored = json.loads((folder / DATASET).read_text(encoding="utf-8"))
        hashes = {str(name): str(value) for name, value in stored["sha256"].items()}
        if any(Path(name).name != name for name in hashes):
            raise ValueError("a name leads out of the folder")
        return CopiedDataset(str(stored["run"]), hashes)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"is not readable ({type(error).__name__})",
            where=str(folder / DATASET),
            remedy="gristmill pull --from-scratch makes the folder anew",
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
