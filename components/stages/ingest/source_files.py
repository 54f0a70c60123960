"""Source `files`: one file, or a folder of them, cut into units that are read on their own."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path, PurePosixPath

from components.core import escaping
from components.core.errors import InputError
from components.stages.ingest import formats
from components.stages.ingest.columns import Layout, nearest
from components.stages.ingest.compressed import inner_name, open_text
from components.stages.ingest.derived_columns import with_class_names
from components.stages.ingest.dialects import is_header_line, with_shared_headers
from components.stages.ingest.encodings import detect
from components.stages.ingest.formats import HEIC, IMAGES, LABEL_MARK
from components.stages.ingest.name_labels import mask_folders, name_labels, without_contents
from components.stages.ingest.params import FORMATS, Files
from components.stages.ingest.pictures import PictureIndex, names_pictures
from components.stages.ingest.source_rows import TABLES, Format, Record, Unit
from components.stages.ingest.splits import UNLABELLED, split_of, without_split

SUFFIXES: Mapping[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "text",
}
_EXPORT = (
    "export it: texts as CSV, JSON lines or Parquet, pictures as PNG in a folder for each class"
)
_REMEDIES = {
    ".zip": "unpack it, and give the folder",
    ".tar": "unpack it, and give the folder",
    ".tgz": "unpack it, and give the folder",
    ".rar": "unpack it, and give the folder",
    ".7z": "unpack it, and give the folder",
    ".xls": "save it as .xlsx or CSV",
    ".ods": "save it as .xlsx or CSV",
    ".heic": "convert it to JPEG or PNG",
    ".heif": "convert it to JPEG or PNG",
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp"), "give the folder of the class folders"),
    **dict.fromkeys((".npz", ".npy", ".mat", ".h5", ".hdf5", ".tfrecord"), _EXPORT),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3", ".arff", ".pdf", ".doc", ".docx"), _EXPORT),
    ".feather": "write it as Parquet",
    ".pkl": "write it as Parquet or CSV: a pickle runs code when it is read",
    ".pickle": "write it as Parquet or CSV: a pickle runs code when it is read",
}
_JUNK = frozenset({"thumbs.db", "desktop.ini", "icon\r"})
_JUNK_FOLDERS = frozenset({"__macosx", "__pycache__"})
# Files beside data that hold no rows.
_DESCRIPTIONS = """
    readme read_me license licence copying notice changelog changes authors citation requirements terms
    dataset_info dataset_infos metadata config package state datapackage
"""
_BESIDE = frozenset(_DESCRIPTIONS.split())
# Of texts without a known suffix in class folders, as mails and news have them.
_TEXT_SUFFIXES = frozenset({"", ".txt", ".text", ".md", ".eml"})
_PREFERRED: tuple[Format, ...] = ("parquet", "csv", "tsv", "jsonl", "json", "xlsx")
_LINES = 1000
_CHARACTERS = 1 << 18
_TXT_LOOKED_AT = 20
_SHARE_OF_TABS = 0.95
_RECORDS = 50
_PICTURES_PER_TABLE = 10
# Bytes of a text file, on average, above which its lines are the rows.
_LARGE_TEXT = 50_000
# Text files with numbers for names that are no classes.
_MANY_NUMBERS = 11


@dataclass
class Listing:
    """What a source consists of, and what is said of it."""

    units: list[Unit]
    notes: list[str] = field(default_factory=list)


Named = Mapping[PurePosixPath, Path]


def locate(path: str, root: Path) -> Path:
    """The file or folder that a path in the params means.

    Raises:
        InputError: there is none.
    """
    place = root / path
    if not place.exists():
        beside = [each.name for each in place.parent.iterdir()] if place.parent.is_dir() else []
        raise InputError(
            f"there is no file or folder {path!r}{nearest(place.name, beside)}",
            where="ingest.source.path",
            remedy="set ingest.source.path, relative to the repository's root or absolute",
        )
    return place


def units(source: Files, root: Path) -> list[Unit]:
    """What there is to read, sorted by name.

    Raises:
        InputError: nothing there, an unknown format, a class that no file has.
    """
    return list_source(source, root).units


def list_source(source: Files, root: Path) -> Listing:
    """Return what there is to read, sorted by name, with remarks for a person.

    Raises:
        InputError: nothing there, an unknown format, a class that no file has.
    """
    place = locate(source.path, root)
    listing = _in_folder(place, source) if place.is_dir() else Listing([_single(place, source)])
    _check_classes(source.classes, listing.units)
    listing.units = [
        replace(
            unit,
            header=source.header,
            column_names=tuple(source.column_names),
            sheet=source.sheet,
            one_hot=tuple(source.one_hot),
            is_class=_names(source.classes, unit.name),
        )
        for unit in listing.units
    ]
    listing.units, remarks = with_class_names(listing.units, place if place.is_dir() else None)
    listing.notes += remarks
    listing.units = with_shared_headers(listing.units)
    return listing


def _single(place: Path, source: Files) -> Unit:
    kind = _nameless_kind(place, source) or _format(place, source.format)
    if kind == "folders":
        raise InputError(
            "is a file, but format folders wants a folder of class folders",
            where=source.path,
            remedy="set ingest.source.path to the folder, or ingest.source.format to auto",
        )
    if kind == "text" and source.format == "auto" and not _names(source.classes, place.name):
        kind = _text_kind(place, source.encoding, place.name)
    return Unit(place.name, (place,), kind, source.encoding, _label(place.name, source.classes))


def _nameless_kind(place: Path, source: Files) -> Format | None:
    """Return the format of a file whose suffix says none, where its lines show it."""
    suffix = _suffix(place)
    if source.format != "auto" or suffix in SUFFIXES or suffix in _REMEDIES:
        return None
    kind = _text_kind(place, source.encoding, place.name)
    return None if kind == "text" else kind


def feedback(path: str, root: Path) -> list[Unit]:
    """The files of accepted feedback below a folder, sorted by name; none where nothing was accepted yet."""
    return [
        Unit(f"feedback/{each.name}", (each,), "jsonl", "utf-8")
        for each in sorted((root / path).glob("accepted-*.jsonl"))
        if each.stat().st_size
    ]


def _in_folder(place: Path, source: Files) -> Listing:
    files = _files(place, source.glob)
    if not files:
        raise InputError(
            f"holds no file that matches {source.glob!r}",
            where=source.path,
            remedy="put files into it, or set ingest.source.glob",
        )
    _check_encoding(files, source)
    if source.format == "folders":
        return _class_folders(files, source)
    if source.format != "auto":
        return _with_splits(
            Listing(
                [
                    _unit(name, path, source, _format(path, source.format))
                    for name, path in files.items()
                ]
            )
        )
    return _guessed(files, source)


def _files(place: Path, pattern: str) -> dict[PurePosixPath, Path]:
    """Return the files of a folder by their names in it, in order; links to folders are followed, hidden files are not seen."""
    paths = (
        _walk(place)
        if pattern == "**/*"
        else (path for path in place.glob(pattern) if path.is_file())
    )
    named = {path.relative_to(place).as_posix(): path for path in paths}
    return {
        PurePosixPath(name): path
        for name, path in sorted(named.items())
        if not _is_junk(PurePosixPath(name))
    }


def _check_encoding(files: Named, source: Files) -> None:
    """Refuse names in another encoding than UTF-8: Parquet, JSON and DVC cannot hold them."""
    wrong = [str(name) for name in files if not _is_utf8(str(name))]
    if wrong:
        raise InputError(
            f"{len(wrong):,} of {len(files):,} files have names that are not UTF-8, such as "
            f"{escaping.one_line(wrong[0])}",
            where=source.path,
            remedy="rename them; for names in GBK: convmv -f gbk -t utf-8 -r --notest FOLDER",
        )


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _walk(place: Path) -> Iterator[Path]:
    """Yield all files below a folder. A link to a folder is followed, unless that folder has been seen."""
    seen: set[tuple[int, int]] = set()
    links = [place]
    # Folders come before links, so that each has its own name.
    while links:
        start = links.pop(0)
        for folder, names, files in os.walk(start):
            told = Path(folder).stat()
            if (told.st_dev, told.st_ino) in seen:
                names.clear()
                continue
            seen.add((told.st_dev, told.st_ino))
            links += sorted(path for name in names if (path := Path(folder) / name).is_symlink())
            yield from (path for name in files if (path := Path(folder) / name).is_file())


def _is_junk(name: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") for part in name.parts)
    folders = any(part.casefold() in _JUNK_FOLDERS for part in name.parts[:-1])
    return hidden or folders or name.name.casefold() in _JUNK or name.name.startswith("~$")


def _guessed(files: Named, source: Files) -> Listing:
    """Return the units of a folder whose format is not said: its tables if it has any, else pictures or texts by class."""
    tables = {
        name: path for name, path in files.items() if SUFFIXES.get(_suffix(name), "text") in TABLES
    }
    pictures = {name: path for name, path in files.items() if _suffix(name) in IMAGES}
    texts = {name: path for name, path in files.items() if _suffix(name) == ".txt"}
    tables, notes = _useful_tables(tables)
    if tables and pictures:
        listed = _listed_pictures(tables, pictures, source)
        if listed:
            return _with_splits(Listing(listed, notes))
        folders = {name.parent for name in pictures if name.parent.parts}
        if len(folders) > 1 and len(pictures) >= _PICTURES_PER_TABLE * len(tables):
            notes.append(f"left out beside the pictures: {_some(tables)}")
            listing = _class_folders(pictures, source)
            return Listing(listing.units, notes + listing.notes)
    if tables:
        return _with_splits(
            Listing([_unit(name, path, source) for name, path in tables.items()], notes)
        )
    if pictures:
        return _class_folders(_without_beside(files), source)
    if texts:
        return _texts(files, texts, source)
    nested = {
        name: path for name, path in files.items() if len(name.parts) > 1 and _is_text_suffix(name)
    }
    if len({name.parent for name in nested}) > 1:
        return _class_folders(nested, source)
    raise _unknown(files)


def _unknown(files: Named) -> InputError:
    suffixes = sorted({_suffix(name) for name in files})
    remedy = next(
        (_REMEDIES[suffix] for suffix in suffixes if suffix in _REMEDIES),
        f"set ingest.source.format to one of {', '.join(FORMATS)}",
    )
    return InputError(
        f"holds files of no known format: {', '.join(suffixes)}",
        where="ingest.source.path",
        remedy=remedy,
    )


def _is_text_suffix(name: PurePosixPath) -> bool:
    return name.suffix.lower() in _TEXT_SUFFIXES or name.suffix[1:].isdecimal()


def _suffix(name: PurePosixPath | Path) -> str:
    return inner_name(Path(name)).suffix.lower()


def _stem(name: PurePosixPath) -> str:
    return inner_name(Path(name)).stem


def table_stem(name: PurePosixPath) -> str:
    """Return the name of a file without its folders, suffix and compression."""
    return _stem(name)


def _is_beside(name: PurePosixPath) -> bool:
    """Return whether a file explains data and holds none, by its name."""
    return _stem(name).casefold().replace("-", "_") in _BESIDE


def _without_beside(files: Named) -> Named:
    return {
        name: path
        for name, path in files.items()
        if len(name.parts) > 1 or _suffix(name) in IMAGES or _suffix(name) in HEIC
    }


def _some(
    names: Iterator[PurePosixPath] | Mapping[PurePosixPath, Path] | Sequence[PurePosixPath],
) -> str:
    shown = [str(name) for name in names]
    more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
    return f"{', '.join(shown[:5])}{more}"


# -- tables
def _useful_tables(tables: Named) -> tuple[dict[PurePosixPath, Path], list[str]]:
    """Return the tables of a folder without those that hold other things: descriptions, copies in another format, examples of answers."""
    kept = dict(tables)
    notes = []
    others = [name for name in kept if _is_beside(name)]
    if others and len(others) < len(kept):
        kept = {name: path for name, path in kept.items() if name not in others}
        notes.append(f"left out, for it describes the data: {_some(others)}")
    if copies := _copies(kept):
        kept = {name: path for name, path in kept.items() if name not in copies}
        notes.append(f"left out, for the same name is there in another format: {_some(copies)}")
    split = any(split_of(_stem(name)) == "train" for name in kept)
    answers = [name for name in kept if split and "submission" in _stem(name).casefold()]
    if answers:
        kept = {name: path for name, path in kept.items() if name not in answers}
        notes.append(f"left out, for it is an example of answers: {_some(answers)}")
    return kept, notes


def _copies(tables: Named) -> list[PurePosixPath]:
    """Return JSON files, workbooks and compressed files that lie beside a table of another kind with the same name."""
    by_stem: dict[tuple[PurePosixPath, str], list[PurePosixPath]] = defaultdict(list)
    for name in tables:
        by_stem[name.parent, _stem(name)].append(name)
    copies = []
    for names in by_stem.values():
        ranked = sorted(
            names,
            key=lambda name: (
                _PREFERRED.index(SUFFIXES[_suffix(name)]),
                _suffix(name) != name.suffix.lower(),
            ),
        )
        copies += [
            name
            for name in ranked[1:]
            if _suffix(name) in (".json", ".xlsx", ".xlsm") or _suffix(name) != name.suffix.lower()
        ]
    return sorted(copies)


def _unit(name: PurePosixPath, path: Path, source: Files, kind: Format | None = None) -> Unit:
    return Unit(
        str(name),
        (path,),
        kind or _format(path, source.format),
        source.encoding,
        _label(str(name), source.classes),
    )


def _format(path: Path, wanted: str) -> Format:
    if wanted in FORMATS:
        return wanted  # type: ignore[return-value]
    suffix = _suffix(path)
    try:
        return SUFFIXES[suffix]
    except KeyError:
        remedy = _REMEDIES.get(suffix, f"set ingest.source.format to one of {', '.join(FORMATS)}")
        raise InputError(
            f"has the unknown suffix {suffix!r}", where=path.name, remedy=remedy
        ) from None


# -- pictures
def _listed_pictures(tables: Named, pictures: Named, source: Files) -> list[Unit]:
    """Return the tables that name the pictures beside them, each with the pictures; none where no table does."""
    index = PictureIndex(pictures.values())
    listed = []
    for name, path in tables.items():
        unit = _unit(name, path, source)
        if unit.format == "parquet":
            continue
        if names_pictures(
            _first_records(
                replace(unit, header=source.header, column_names=tuple(source.column_names))
            ),
            index,
        ):
            listed.append(replace(unit, paths=(path, *pictures.values()), pictures=True))
    return listed


def _first_records(unit: Unit) -> list[Record]:
    readers = {"csv": formats.tables, "tsv": formats.tables, "xlsx": formats.workbook}
    reader = readers.get(unit.format, formats.objects)
    try:
        return [
            item
            for item in islice(reader(unit, Layout([], 1 << 31), set()), _RECORDS)
            if isinstance(item, Record)
        ]
    except InputError:
        # Whether it is used at all is not known yet.
        return []


def _class_folders(files: Named, source: Files) -> Listing:
    """Return a unit a folder, labeled by the folder's name, where that is not the name of a split."""
    folders: dict[PurePosixPath, list[Path]] = defaultdict(list)
    for name, path in files.items():
        folders[name.parent].append(path)
    listing = Listing([])
    if masks := mask_folders(folders):
        folders = {folder: paths for folder, paths in folders.items() if folder not in masks}
        listing.notes.append(f"left out, for they lie beside the pictures: {_some(masks)}")
    places = without_contents(folders)
    level = _split_level(list(places.values()))
    # A folder of a split that has class folders is none of them: its own files have no place.
    parents = set(chain.from_iterable(folder.parents for folder in places.values()))
    for folder, paths in folders.items():
        place = places[folder]
        split, label = _placed(place, level)
        label = source.classes.get(str(folder), source.classes.get(place.name, label or ""))
        nameless = label.casefold() in UNLABELLED and not _names(source.classes, place.name)
        unlabelled = nameless or (level is not None and not label and place not in parents)
        label = "" if nameless else label
        listing.units.append(
            Unit(
                str(folder),
                tuple(paths),
                "folders",
                source.encoding,
                label or None,
                split,
                unlabelled,
            )
        )
    _label_by_names(listing)
    if nameless_folders := [PurePosixPath(unit.name) for unit in listing.units if unit.unlabelled]:
        listing.notes.append(
            f"taken for rows without a label, for they lie in no folder of a class: the files of {_some(nameless_folders)}"
        )
    return listing


def _label_by_names(listing: Listing) -> None:
    """Label files by their own names where no folder is a class: cat.0.jpg, dog.0.jpg."""
    if any(unit.label for unit in listing.units):
        return
    for number, unit in enumerate(listing.units):
        labels = name_labels(unit.paths)
        if unit.split == "test" or not labels:
            continue
        file_labels = tuple(labels.get(path) for path in unit.paths)
        listing.units[number] = replace(unit, file_labels=file_labels, unlabelled=False)
        first = next(iter(labels))
        listing.notes.append(
            f"no folder is a class: the labels are those in the file names, {first.name} is {labels[first]!r}"
        )


def _split_level(folders: Sequence[PurePosixPath]) -> int | None:
    """Return at which depth of the tree the folders are splits; None where they are not.

    One folder `train` beside `bus` and `car` is a class. Names such as seg_train count only where all folders of that
    depth say a split, or where those that do hold the same class folders.
    """
    for depth in range(max(len(folder.parts) for folder in folders)):
        names = {folder.parts[depth] for folder in folders if len(folder.parts) > depth}
        splits = {name: split_of(name) for name in names}
        exact = {split_of(name) for name in names if not without_split(name)} - {None}
        several = "train" in splits.values() and len(set(splits.values()) - {None}) > 1
        if several and (
            None not in splits.values() or len(exact) > 1 or _share_classes(folders, depth)
        ):
            return depth
        deeper = [folder for folder in folders if len(folder.parts) > depth + 1]
        if len(names) == 1 and splits[next(iter(names))] == "train" and len(deeper) == len(folders):
            return depth
    return None


def _share_classes(folders: Sequence[PurePosixPath], depth: int) -> bool:
    """Return whether all folders of splits at a depth hold folders of the same names."""
    inside: dict[str, set[str]] = defaultdict(set)
    for folder in folders:
        if len(folder.parts) > depth + 1 and split_of(folder.parts[depth]):
            inside[folder.parts[depth]].add(folder.name)
    return len(inside) > 1 and bool(set.intersection(*inside.values()))


def _placed(folder: PurePosixPath, level: int | None) -> tuple[str | None, str | None]:
    """Return the split and the label that a folder's place says."""
    if level is None or len(folder.parts) <= level:
        return None, (folder.name if level is None else None)
    split = split_of(folder.parts[level])
    # Archives often repeat the name of a folder inside it: seg_train/seg_train/forest.
    after = [part for part in folder.parts[level + 1 :] if part != folder.parts[level]]
    if after:
        return split, after[-1]
    # cats/train beside dogs/train: the class comes first.
    return split, (folder.parts[level - 1] if level else None)


# -- texts
def _texts(files: Named, texts: Named, source: Files) -> Listing:
    """Return the units of a folder of .txt: tables, a file per class, or class folders.

    Raises:
        InputError: the files are named after splits, and nothing says their labels.
    """
    useful = {
        name: path
        for name, path in texts.items()
        if not _is_beside(name) or _names(source.classes, str(name))
    } or texts
    notes = (
        [f"left out, for it describes the data: {_some(sorted(set(texts) - set(useful)))}"]
        if len(useful) < len(texts)
        else []
    )
    if not source.classes and len(useful) <= _TXT_LOOKED_AT:
        kinds = {
            name: _text_kind(path, source.encoding, str(name)) for name, path in useful.items()
        }
        tables = {name: kind for name, kind in kinds.items() if kind != "text"}
        others = sorted(set(useful) - set(tables))
        if tables and (not others or all(split_of(_stem(name)) for name in tables)):
            if others:
                notes.append(f"left out, for its lines are no rows of a table: {_some(others)}")
            return _with_splits(
                Listing(
                    [_unit(name, useful[name], source, kind) for name, kind in tables.items()],
                    notes,
                )
            )
    if _same_files_per_split(list(useful)):
        return _with_splits(
            Listing([_unit(name, path, source) for name, path in useful.items()], notes)
        )
    if not source.classes and _is_flat(useful):
        if labels := name_labels(list(useful.values())):
            return _labelled_by_names(useful, labels, source, notes)
        _check_not_numbered(useful, source)
    if all(len(name.parts) > 1 for name in useful):
        listing = _class_folders(
            {name: path for name, path in files.items() if len(name.parts) > 1}, source
        )
        return Listing(listing.units, notes + listing.notes)
    return _by_file(useful, source, notes)


def _labelled_by_names(
    texts: Named, labels: Mapping[Path, str], source: Files, notes: list[str]
) -> Listing:
    """Return the units of texts such as pos_1.txt: a row a file, or a row a line where files are large."""
    size = sum(path.stat().st_size for path in texts.values())
    if size <= _LARGE_TEXT * len(texts):
        listing = _class_folders(texts, source)
        return Listing(listing.units, notes + listing.notes)
    units = [
        replace(_unit(name, path, source), label=labels.get(path)) for name, path in texts.items()
    ]
    note = f"the labels are those in the file names, {units[0].name} is {units[0].label!r}"
    return Listing([unit for unit in units if unit.label], [*notes, note])


def _check_not_numbered(texts: Named, source: Files) -> None:
    """Refuse texts whose names are nothing but numbers: they would be a class each.

    Raises:
        InputError: so it is.
    """
    names = [name.stem for name in texts]
    if len(names) < _MANY_NUMBERS or not all(name.isdecimal() for name in names):
        return
    raise InputError(
        f"has {len(names):,} texts whose names are numbers, and nothing says their labels",
        where=source.path,
        remedy="put the files into a folder for each class, or name them after it: good_1.txt",
    )


def _is_flat(names: Named) -> bool:
    """Return whether all files lie in the source itself."""
    return all(len(name.parts) == 1 for name in names)


def _same_files_per_split(names: Sequence[PurePosixPath]) -> bool:
    """Return whether each folder of a split holds files of the same few names, which are the classes: train/pos.txt, test/pos.txt."""
    if (
        any(len(name.parts) < 2 for name in names)
        or _split_level([name.parent for name in names]) is None
    ):
        return False
    files: dict[PurePosixPath, set[str]] = defaultdict(set)
    for name in names:
        files[name.parent].add(name.name)
    first, *others = files.values()
    return 1 < len(first) <= _LINES and len(others) > 0 and all(other == first for other in others)


def _by_file(texts: Named, source: Files, notes: list[str]) -> Listing:
    """Return a unit a text file, labeled by what its name says beside a split."""
    listing = Listing([_unit(name, path, source) for name, path in texts.items()], notes)
    splits = {name: split_of(_stem(name)) for name in texts}
    if source.classes or "train" not in splits.values() or len(set(splits.values())) < 2:
        return _with_splits(listing)
    labels = {name: without_split(_stem(name)) for name in texts}
    if None not in splits.values() and len({label for label in labels.values() if label}) < 2:
        raise InputError(
            f"has files that are named after splits, and their lines have no label: {_some(list(texts))}",
            where=source.path,
            remedy="put the label before each text with a tab between them, or a file of each class into the folders train and test",
        )
    if None in splits.values():
        return listing
    listing.units = [
        replace(unit, label=labels[name], split=splits[name])
        for unit, name in zip(listing.units, texts, strict=True)
    ]
    return listing


def _text_kind(path: Path, encoding: str, where: str) -> Format:
    """Return what the lines of a .txt are: rows of a table, rows of fastText, or texts."""
    if not path.stat().st_size:
        return "text"
    try:
        found = detect(path, encoding, where)
    except InputError:
        # It is refused where it is read.
        return "text"
    with open_text(path, found, where) as stream:
        head = stream.read(_CHARACTERS)
    lines = head.split("\n")[:_LINES]
    if len(head) == _CHARACTERS and len(lines) > 1:
        lines.pop()
    lines = [line.strip("\ufeff\r") for line in lines if line.strip()]
    if (
        lines
        and all(LABEL_MARK in line for line in lines[:20])
        and any(line.startswith(LABEL_MARK) for line in lines)
    ):
        return "fasttext"
    if lines and _starts_json(lines[0].strip()):
        return "json"
    tabs = Counter(line.count("\t") for line in lines)
    if len(lines) > 1 and is_header_line(lines[0]):
        return "csv" if set(tabs) == {0} else "tsv"
    most, count = tabs.most_common(1)[0] if tabs else (0, 0)
    # A line with a tab too many is set aside where it is read.
    return "tsv" if most and count >= _SHARE_OF_TABS * len(lines) else "text"


def _starts_json(line: str) -> bool:
    """Return whether a line starts JSON objects, and is no heading in brackets."""
    if line in ("[", "{") or line.startswith("[{"):
        return True
    try:
        return isinstance(json.loads(line.rstrip(",")), dict)
    except (ValueError, RecursionError):
        return False


def _label(name: str, classes: Mapping[str, str]) -> str:
    path = PurePosixPath(name)
    return classes.get(name, classes.get(path.name, classes.get(path.stem, path.stem)))


def _names(classes: Mapping[str, str], name: str) -> bool:
    path = PurePosixPath(name)
    return any(each in classes for each in (name, path.name, path.stem))


def _check_classes(classes: Mapping[str, str], found: Sequence[Unit]) -> None:
    known = {
        each
        for unit in found
        if unit.format in ("text", "folders", *TABLES)
        for each in (unit.name, PurePosixPath(unit.name).name, PurePosixPath(unit.name).stem)
    }
    for name in classes:
        if name not in known:
            raise InputError(
                f"no file or folder of classes is named {name!r}{nearest(name, known)}",
                where="ingest.source.classes",
                remedy="use the name of a text file or of a class folder",
            )


# -- splits
def _with_splits(listing: Listing) -> Listing:
    """Return units with canonical splits, where their names say at least two and one is train: train.csv beside test.csv, train/pos.txt beside test/pos.txt."""
    splits = [_split(unit) for unit in listing.units]
    if "train" not in splits or len(set(splits) - {None}) < 2:
        return listing
    listing.units = [
        replace(unit, split=split) for unit, split in zip(listing.units, splits, strict=True)
    ]
    if None in splits:
        others = [PurePosixPath(unit.name) for unit in listing.units if unit.split is None]
        listing.notes.append(f"taken for train, for its name says no split: {_some(others)}")
    return listing


def _split(unit: Unit) -> str | None:
    """Return the split that a unit's folders say, or else its file name."""
    path = PurePosixPath(unit.name)
    folders = [split_of(part) for part in path.parts[:-1] if not without_split(part)]
    found = next((split for split in folders if split), None)
    if found or unit.format == "text":
        return found
    return split_of(_stem(path))
