"""The units of a source of any kind."""

from __future__ import annotations

from pathlib import Path

from components.stages.ingest import (
    huggingface_source,
    mixed_source,
    mlflow_source,
    package_source,
    sklearn_source,
    source_files,
    sql_source,
    url_source,
)
from components.stages.ingest.params import (
    AnySource,
    Files,
    HuggingFace,
    Mixed,
    Mlflow,
    Package,
    Sql,
    Url,
)
from components.stages.ingest.source_files import Listing
from components.tasks.base import TargetWords


def list_source(
    source: AnySource,
    root: Path,
    words: TargetWords,
    progress: url_source.Progress = url_source.silent,
) -> Listing:
    """Return the units of a source, with remarks for the log.

    Args:
        source: section of the params.
        root: of the project.
        words: of the task, for messages.
        progress: called while files are downloaded.

    Raises:
        InputError: the source is missing or has no known format.
        EnvironmentFault: a server cannot be reached.
    """
    match source:
        case Files():
            return source_files.list_source(source, root, words)
        case HuggingFace():
            return huggingface_source.list_source(source, root, words)
        case Mixed():
            return _list_parts(source, root, words, progress)
        case Mlflow():
            return Listing(mlflow_source.units(source, root))
        case Package():
            return Listing(package_source.units(source, root))
        case Sql():
            return Listing(sql_source.units(source, root))
        case Url():
            return url_source.list_source(source, root, words, progress)
    return Listing(sklearn_source.units(source, root))


def _list_parts(
    source: Mixed, root: Path, words: TargetWords, progress: url_source.Progress
) -> Listing:
    """Return the units of all parts of a mix, with the names of the parts before theirs."""
    listing = Listing([])
    for name, part in sorted(source.parts.items()):
        listed = list_source(part.source, root, words, progress)
        listing.units += [mixed_source.named(unit, name) for unit in listed.units]
        listing.notes += [f"{name}: {note}" for note in listed.notes]
    return listing
