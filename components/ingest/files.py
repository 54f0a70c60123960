"""Source `files`: one file, or a folder of them, cut into units that are read on their own."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from components.core.errors import InputError
from components.ingest.columns import CANONICAL, nearest
from components.ingest.formats import IMAGES
from components.ingest.params import FORMATS, Files
from components.ingest.rows import Format, Unit

SUFFIXES: Mapping[str, Format] = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet", ".txt": "text"}


def locate(path: str, root: Path) -> Path:
    """The file or folder that a path in the params means.

    Raises:
        InputError: there is none.
    """
    place = root / path
    if not place.exists():
        beside = [each.name for each in place.parent.iterdir()] if place.parent.is_dir() else []
        raise InputError(
            f"there is no file or folder {path!r}{nearest(place.name, beside)}", where="ingest.source.path", remedy="set ingest.source.path, relative to the repository's root or absolute"
        )
    return place


def units(source: Files, root: Path) -> list[Unit]:
    """What there is to read, sorted by name.

    Raises:
        InputError: nothing there, an unknown format, a class that no file has.
    """
    place = locate(source.path, root)
    if place.is_dir():
        found = _in_folder(place, source)
    else:
        found = [Unit(place.name, (place,), _format(place, source.format), source.encoding, _label(place.name, source.classes))]
        if found[0].format == "folders":
            raise InputError("is a file, but format folders wants a folder of class folders", where=source.path, remedy="set ingest.source.path to the folder, or ingest.source.format to auto")
    _check_classes(source.classes, found)
    return [replace(unit, header=source.header, column_names=tuple(source.column_names)) for unit in found]


def feedback(path: str, root: Path) -> list[Unit]:
    """The files of accepted feedback below a folder, sorted by name; none where nothing was accepted yet."""
    return [Unit(f"feedback/{each.name}", (each,), "jsonl", "utf-8") for each in sorted((root / path).glob("accepted-*.jsonl")) if each.stat().st_size]


def _in_folder(place: Path, source: Files) -> list[Unit]:
    named = {path.relative_to(place).as_posix(): path for path in place.glob(source.glob) if path.is_file()}
    files = {PurePosixPath(name): path for name, path in sorted(named.items()) if not any(part.startswith(".") for part in PurePosixPath(name).parts)}
    if not files:
        raise InputError(f"holds no file that matches {source.glob!r}", where=source.path, remedy="put files into it, or set ingest.source.glob")
    if (kind := _folder_format(list(files)) if source.format == "auto" else source.format) == "folders":
        found = _class_folders(files, source)
    else:
        wanted = {name: path for name, path in files.items() if source.format != "auto" or _belongs(name, kind)}
        found = [Unit(str(name), (path,), _format(path, source.format), source.encoding, _label(str(name), source.classes)) for name, path in wanted.items()]
    return _with_splits(found)


def _folder_format(names: Sequence[PurePosixPath]) -> str:
    """How to read a folder: its tables if it has any, else pictures or texts by class."""
    suffixes = {name.suffix.lower() for name in names}
    if any(SUFFIXES.get(suffix, "text") != "text" for suffix in suffixes):
        return "tables"
    if suffixes & set(IMAGES):
        return "folders"
    if ".txt" not in suffixes:
        raise InputError(f"holds files of no known format: {', '.join(sorted(suffixes))}", where="ingest.source.path", remedy=f"set ingest.source.format to one of {', '.join(FORMATS)}")
    return "folders" if all(len(name.parts) > 1 for name in names if name.suffix.lower() == ".txt") else "text"


def _belongs(name: PurePosixPath, kind: str) -> bool:
    """Whether a file is of a folder's format, and not a README beside it."""
    own = SUFFIXES.get(name.suffix.lower())
    return own is not None and (own == "text") == (kind == "text")


def _format(path: Path, wanted: str) -> Format:
    if wanted in FORMATS:
        return wanted  # type: ignore[return-value]
    try:
        return SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise InputError(f"has the unknown suffix {path.suffix!r}", where=path.name, remedy=f"set ingest.source.format to one of {', '.join(FORMATS)}") from None


def _class_folders(files: Mapping[PurePosixPath, Path], source: Files) -> list[Unit]:
    folders: dict[PurePosixPath, list[Path]] = defaultdict(list)
    for name, path in files.items():
        folders[name.parent].append(path)
    return [Unit(str(name), tuple(paths), "folders", source.encoding, source.classes.get(str(name), source.classes.get(name.name, name.name)) or None) for name, paths in folders.items()]


def _label(name: str, classes: Mapping[str, str]) -> str:
    path = PurePosixPath(name)
    return classes.get(name, classes.get(path.name, classes.get(path.stem, path.stem)))


def _check_classes(classes: Mapping[str, str], found: Sequence[Unit]) -> None:
    known = {each for unit in found if unit.format in ("text", "folders") for each in (unit.name, PurePosixPath(unit.name).name, PurePosixPath(unit.name).stem)}
    for name in classes:
        if name not in known:
            raise InputError(f"no file or folder of classes is named {name!r}{nearest(name, known)}", where="ingest.source.classes", remedy="use the name of a text file or of a class folder")


def _with_splits(found: list[Unit]) -> list[Unit]:
    """Canonical splits, where the names of *all* units say them and one is train: train.csv beside test.csv, train/pos beside test/pos."""
    splits = [_split(unit) for unit in found]
    if None in splits or "train" not in splits or len(set(splits)) < 2:
        return found
    return [replace(unit, split=split) for unit, split in zip(found, splits, strict=True)]


def _split(unit: Unit) -> str | None:
    parts = PurePosixPath(unit.name).parts
    words = [*parts[:-1], *([] if unit.format in ("text", "folders") else [re.split(r"[-_.]", parts[-1])[0]])]
    return next((CANONICAL[word.casefold()] for word in words if word.casefold() in CANONICAL), None)
