"""The data card for programs: the splits of clean in the vocabulary of Croissant 1.0.

See Akhtar et al. 2024 (arXiv:2403.19546) and https://docs.mlcommons.org/croissant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.files import sha256, to_json, write_atomic
from components.core.tables import MANIFEST, read_manifest
from components.stages.evaluate.params import CardParams

_CROISSANT = "http://mlcommons.org/croissant/"
# Terms of Croissant that its standard declares.
_TERMS = (
    "citeAs column equivalentProperty extract field fileProperty fileObject fileSet format "
    "includes isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated "
    "replace samplingRate separator source subField transform"
)
_DATA_TYPES = {
    "string": "sc:Text",
    "double": "sc:Float",
    "int64": "sc:Integer",
    "bool": "sc:Boolean",
    "binary": "sc:ImageObject",
}
_PARQUET = "application/x-parquet"
# From `reports/cards/` to the table.
_TABLE = "../../clean"
# The id of that folder in the card.
_FOLDER = "clean"


def write_croissant(folder: Path, table: Path, statements: CardParams) -> None:
    """Write the description of a table; equal content gives equal bytes.

    Args:
        folder: of the cards.
        table: of clean, in the folder of a pipeline's outputs.
        statements: of people.
    """
    data_hash = sha256(table / MANIFEST)
    card = describe_splits(table.parent.name, read_manifest(table), statements, data_hash)
    write_atomic(folder / "croissant.json", to_json(card))


def describe_splits(
    name: str, clean: Mapping[str, Any], statements: CardParams, data_hash: str
) -> dict[str, Any]:
    """Return the description of a table as JSON-LD; statements that nobody made are left out.

    Args:
        name: of the data.
        clean: manifest of clean: schema and shards, each with its SHA-256.
        statements: of people.
        data_hash: SHA-256 of the manifest.
    """
    shards: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for shard in clean["shards"]:
        shards[shard["file"].rsplit("-", 1)[0]].append(shard)
    files = [_file(shard) for split in shards.values() for shard in split]
    sets = [_file_set(split) for split, entries in shards.items() if len(entries) > 1]
    if sets:
        files.append(_folder(data_hash))
    rows = [_record_set(split, entries, clean["schema"]) for split, entries in shards.items()]
    card = {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": f"{_CROISSANT}1.0",
        "name": name,
        "description": statements.data_source,
        "license": statements.data_license,
        "identifier": f"sha256:{data_hash}",
        "distribution": [*files, *sets],
        "recordSet": rows,
    }
    return {key: value for key, value in card.items() if value is not None}


def _context() -> dict[str, Any]:
    """Return the context of JSON-LD, as the standard writes it."""
    context: dict[str, Any] = {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": _CROISSANT,
        "rai": f"{_CROISSANT}RAI/",
        "dct": "http://purl.org/dc/terms/",
        "conformsTo": "dct:conformsTo",
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    }
    context |= {term: f"cr:{term}" for term in _TERMS.split()}
    for term in ("data", "examples"):
        context[term] = {"@id": f"cr:{term}", "@type": "@json"}
    return context


def _file(shard: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a shard."""
    return {
        "@type": "cr:FileObject",
        "@id": shard["file"],
        "name": shard["file"],
        "contentUrl": f"{_TABLE}/{shard['file']}",
        "encodingFormat": _PARQUET,
        "sha256": shard["sha256"],
    }


def _folder(data_hash: str) -> dict[str, Any]:
    """Return the description of the folder of the table, which sets of files are a part of.

    Args:
        data_hash: SHA-256 of its manifest, which has those of all files.
    """
    return {
        "@type": "cr:FileObject",
        "@id": _FOLDER,
        "name": _FOLDER,
        "contentUrl": _TABLE,
        # What mlcroissant takes for a folder.
        "encodingFormat": "git+https",
        "sha256": data_hash,
    }


def _file_set(split: str) -> dict[str, Any]:
    """Return the description of all shards of a split."""
    return {
        "@type": "cr:FileSet",
        "@id": f"{split}-files",
        "name": f"{split}-files",
        "containedIn": {"@id": _FOLDER},
        "encodingFormat": _PARQUET,
        "includes": f"{split}-*.parquet",
    }


def _record_set(
    split: str, shards: Sequence[Mapping[str, Any]], schema: Mapping[str, str]
) -> dict[str, Any]:
    """Return the description of the rows of a split."""
    source = {"fileObject": {"@id": shards[0]["file"]}}
    if len(shards) > 1:
        source = {"fileSet": {"@id": f"{split}-files"}}
    fields = []
    for column, kind in schema.items():
        fields.append(
            {
                "@type": "cr:Field",
                "@id": f"{split}/{column}",
                "name": f"{split}/{column}",
                "dataType": _DATA_TYPES.get(kind.removeprefix("large_"), "sc:Text"),
                "source": {**source, "extract": {"column": column}},
            }
        )
    return {"@type": "cr:RecordSet", "@id": split, "name": split, "field": fields}
