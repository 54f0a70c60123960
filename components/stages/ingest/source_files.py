"""Source `files`: one file, or a folder of them, cut into units that are read on their own."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from components.stages.ingest.split_names import UNLABELLED, split_of, without_split

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
_DESCRIPTION_WORDS = """
    readme read_me license licence copying notice changelog changes authors citation requirements
    terms dataset_info dataset_infos metadata config package state datapackage
"""
_DESCRIPTIONS = frozenset(_DESCRIPTION_WORDS.split())
# Suffixes of texts in class folders; mails and news often have none.
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
    """The units of a source, and remarks about them for a person."""

    units: list[Unit]
    notes: list[str] = field(default_factory=list)


Named = Mapping[PurePosixPath, Path]


def locate(path: str, root: Path) -> Path:
    """Return the file or folder that a path in the params means.

    Args:
        path: absolute, or relative to the root.
        root: of the project.

    Raises:
        InputError: there is none.
    """
    location = root / path
    if location.exists():
        return location
    siblings: list[str] = []
    if location.parent.is_dir():
        siblings = [sibling.name for sibling in location.parent.iterdir()]
    raise InputError(
        f"there is no file or folder {path!r}{nearest(location.name, siblings)}",
        where="ingest.source.path",
        remedy="set ingest.source.path, relative to the repository's root or absolute",
    )


def units(source: Files, root: Path) -> list[Unit]:
    """Return what there is to read, sorted by name.

    Raises:
        InputError: nothing there, an unknown format, a class that no file has.

    Args:
        source: the section `ingest.source`.
        root: of the project.
    """
    return list_source(source, root).units


def list_source(source: Files, root: Path) -> Listing:
    """Return what there is to read, sorted by name, with remarks for a person.

    Args:
        source: the section `ingest.source`.
        root: of the project.

    Raises:
        InputError: nothing there, an unknown format, a class that no file has.
    """
    path = locate(source.path, root)
    if path.is_dir():
        folder: Path | None = path
        listing = _in_folder(path, source)
    else:
        folder = None
        listing = Listing([_single(path, source)])
    _check_classes(source.classes, listing.units)
    configured = [_configured(unit, source) for unit in listing.units]
    labeled, remarks = with_class_names(configured, folder)
    listing.notes += remarks
    listing.units = with_shared_headers(labeled)
    return listing


def _configured(unit: Unit, source: Files) -> Unit:
    """Return a unit with the settings of the source that concern tables."""
    return replace(
        unit,
        header=source.header,
        column_names=tuple(source.column_names),
        sheet=source.sheet,
        one_hot=tuple(source.one_hot),
        is_class=_is_named(source.classes, unit.name),
    )


def _single(path: Path, source: Files) -> Unit:
    """Return the unit of a source that is one file.

    Args:
        path: of the file.
        source: the section `ingest.source`.

    Raises:
        InputError: the format is unknown, or is that of a folder.
    """
    kind = _nameless_kind(path, source) or _format(path, source.format)
    if kind == "folders":
        raise InputError(
            "is a file, but format folders wants a folder of class folders",
            where=source.path,
            remedy="set ingest.source.path to the folder, or ingest.source.format to auto",
        )
    is_class = _is_named(source.classes, path.name)
    if kind == "text" and source.format == "auto" and not is_class:
        kind = _text_kind(path, source.encoding, path.name)
    return Unit(path.name, (path,), kind, source.encoding, _label(path.name, source.classes))


def _nameless_kind(path: Path, source: Files) -> Format | None:
    """Return the format of a file whose suffix says none, where its lines show it."""
    suffix = _suffix(path)
    if source.format != "auto" or suffix in SUFFIXES or suffix in _REMEDIES:
        return None
    kind = _text_kind(path, source.encoding, path.name)
    return None if kind == "text" else kind


def feedback(path: str, root: Path) -> list[Unit]:
    """Return the files of accepted feedback below a folder, sorted by name.

    The list is empty where nothing was accepted yet.

    Args:
        path: of the folder, relative to the root.
        root: of the project.
    """
    files = sorted((root / path).glob("accepted-*.jsonl"))
    return [
        Unit(f"feedback/{file.name}", (file,), "jsonl", "utf-8")
        for file in files
        if file.stat().st_size
    ]


def _in_folder(folder: Path, source: Files) -> Listing:
    """Return the units of a source that is a folder.

    Args:
        folder: the source.
        source: the section `ingest.source`.

    Raises:
        InputError: no file matches, names are not UTF-8, or the format is unknown.
    """
    files = _files(folder, source.glob)
    if not files:
        raise InputError(
            f"holds no file that matches {source.glob!r}",
            where=source.path,
            remedy="put files into it, or set ingest.source.glob",
        )
    _check_encoding(files, source)
    if source.format == "folders":
        return _class_folders(files, source)
    if source.format == "auto":
        return _guessed(files, source)
    return _with_splits(Listing(_units_of(files, source)))


def _files(folder: Path, pattern: str) -> dict[PurePosixPath, Path]:
    """Return the files of a folder by their names in it, in order.

    Links to folders are followed. Hidden files are left out.

    Args:
        folder: the source.
        pattern: of `Path.glob`, relative to the folder.
    """
    paths: Iterable[Path] = _walk(folder)
    if pattern != "**/*":
        paths = (path for path in folder.glob(pattern) if path.is_file())
    by_name = {path.relative_to(folder).as_posix(): path for path in paths}
    files = {PurePosixPath(name): path for name, path in sorted(by_name.items())}
    return {name: path for name, path in files.items() if not _is_junk(name)}


def _check_encoding(files: Named, source: Files) -> None:
    """Refuse names in another encoding than UTF-8: Parquet, JSON and DVC cannot hold them.

    Args:
        files: of the source.
        source: the section `ingest.source`.

    Raises:
        InputError: a name is not UTF-8.
    """
    wrong = [str(name) for name in files if not _is_utf8(str(name))]
    if wrong:
        raise InputError(
            f"{len(wrong):,} of {len(files):,} files have names that are not UTF-8, such as "
            f"{escaping.one_line(wrong[0])}",
            where=source.path,
            remedy="rename them; for names in GBK: convmv -f gbk -t utf-8 -r --notest FOLDER",
        )


def _is_utf8(name: str) -> bool:
    """Return whether the name of a file can be encoded as UTF-8."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _walk(root: Path) -> Iterator[Path]:
    """Yield all files below a folder.

    A link to a folder is followed, unless that folder was visited before.
    """
    visited: set[tuple[int, int]] = set()
    links = [root]
    # Folders come before links, so that a file is listed under its name without a link.
    while links:
        start = links.pop(0)
        for folder, names, files in os.walk(start):
            stat = Path(folder).stat()
            identity = (stat.st_dev, stat.st_ino)
            if identity in visited:
                names.clear()
                continue
            visited.add(identity)
            folders = [Path(folder) / name for name in names]
            links += sorted(path for path in folders if path.is_symlink())
            paths = [Path(folder) / name for name in files]
            yield from (path for path in paths if path.is_file())


def _is_junk(name: PurePosixPath) -> bool:
    """Return whether a file is hidden, or was written by a program for itself."""
    is_hidden = any(part.startswith(".") for part in name.parts)
    in_junk_folder = any(part.casefold() in _JUNK_FOLDERS for part in name.parts[:-1])
    is_junk_file = name.name.casefold() in _JUNK
    # Office writes such a file while a document is open.
    is_lock_file = name.name.startswith("~$")
    return is_hidden or in_junk_folder or is_junk_file or is_lock_file


def _guessed(files: Named, source: Files) -> Listing:
    """Return the units of a folder of format `auto`.

    They are its tables if it has any, else pictures or texts by class.

    Args:
        files: of the source.
        source: the section `ingest.source`.

    Raises:
        InputError: no file has a known format.
    """
    tables: Named = {name: path for name, path in files.items() if _is_table(name)}
    pictures = {name: path for name, path in files.items() if _suffix(name) in IMAGES}
    texts = {name: path for name, path in files.items() if _suffix(name) == ".txt"}
    tables, notes = _useful_tables(tables)
    if tables and pictures:
        listing = _tables_and_pictures(tables, pictures, source, notes)
        if listing:
            return listing
    if tables:
        return _with_splits(Listing(_units_of(tables, source), notes))
    if pictures:
        return _class_folders(_without_descriptions(files), source)
    if texts:
        return _texts(files, texts, source)
    nested = {name: path for name, path in _nested(files).items() if _is_text_suffix(name)}
    if len({name.parent for name in nested}) > 1:
        return _class_folders(nested, source)
    raise _unknown(files)


def _tables_and_pictures(
    tables: Named, pictures: Named, source: Files, notes: list[str]
) -> Listing | None:
    """Return the units of a folder of tables and pictures; None where the tables are the source.

    Args:
        tables: the tables.
        pictures: the pictures.
        source: the section `ingest.source`.
        notes: remarks about the tables; extended where the pictures are the source.
    """
    listed = _listed_pictures(tables, pictures, source)
    if listed:
        return _with_splits(Listing(listed, notes))
    folders = {name.parent for name in pictures if name.parent.parts}
    if len(folders) <= 1 or len(pictures) < _PICTURES_PER_TABLE * len(tables):
        return None
    notes.append(f"left out beside the pictures: {_some(tables)}")
    listing = _class_folders(pictures, source)
    return Listing(listing.units, notes + listing.notes)


def _is_table(name: PurePosixPath) -> bool:
    """Return whether the suffix of a file is that of a table."""
    return SUFFIXES.get(_suffix(name), "text") in TABLES


def _nested(files: Named) -> dict[PurePosixPath, Path]:
    """Return the files that lie in folders of the source."""
    return {name: path for name, path in files.items() if len(name.parts) > 1}


def _unknown(files: Named) -> InputError:
    """Return the error for a folder whose files have no known format."""
    suffixes = sorted({_suffix(name) for name in files})
    remedies = [_REMEDIES[suffix] for suffix in suffixes if suffix in _REMEDIES]
    remedies.append(f"set ingest.source.format to one of {', '.join(FORMATS)}")
    return InputError(
        f"holds files of no known format: {', '.join(suffixes)}",
        where="ingest.source.path",
        remedy=remedies[0],
    )


def _is_text_suffix(name: PurePosixPath) -> bool:
    """Return whether a file in a class folder is a text, by its suffix."""
    return name.suffix.lower() in _TEXT_SUFFIXES or name.suffix[1:].isdecimal()


def _suffix(name: PurePosixPath | Path) -> str:
    """Return the suffix of a file in small letters, without that of its compression."""
    return inner_name(Path(name)).suffix.lower()


def _stem(name: PurePosixPath) -> str:
    """Return the name of a file without its folders, suffix and compression."""
    return inner_name(Path(name)).stem


def table_stem(name: PurePosixPath) -> str:
    """Return the name of a file without its folders, suffix and compression."""
    return _stem(name)


def _is_description(name: PurePosixPath) -> bool:
    """Return whether a file explains data and holds none, by its name."""
    return _stem(name).casefold().replace("-", "_") in _DESCRIPTIONS


def _without_descriptions(files: Named) -> Named:
    """Return the files in folders and the pictures: other files beside them hold no rows."""
    return {
        name: path
        for name, path in files.items()
        if len(name.parts) > 1 or _suffix(name) in IMAGES or _suffix(name) in HEIC
    }


def _some(names: Iterable[PurePosixPath]) -> str:
    """Return the first of some names, and how many more there are."""
    listed = [str(name) for name in names]
    shown = ", ".join(listed[:5])
    if len(listed) > 5:
        return f"{shown} and {len(listed) - 5} more"
    return shown


# -- tables
def _useful_tables(tables: Named) -> tuple[dict[PurePosixPath, Path], list[str]]:
    """Return the tables of a folder that hold rows, and remarks about the others.

    Descriptions, copies in another format and examples of answers are left out.

    Args:
        tables: name -> path of the tables.
    """
    useful = dict(tables)
    notes = []
    descriptions = [name for name in useful if _is_description(name)]
    if descriptions and len(descriptions) < len(useful):
        useful = _without(useful, descriptions)
        notes.append(f"not read, because it describes the data: {_some(descriptions)}")
    copies = _copies(useful)
    if copies:
        useful = _without(useful, copies)
        notes.append(f"not read, because the same file is there in another format: {_some(copies)}")
    has_train = any(split_of(_stem(name)) == "train" for name in useful)
    answers = [name for name in useful if has_train and "submission" in _stem(name).casefold()]
    if answers:
        useful = _without(useful, answers)
        notes.append(f"not read, because it is a sample of answers: {_some(answers)}")
    return useful, notes


def _without(files: Named, names: Sequence[PurePosixPath]) -> dict[PurePosixPath, Path]:
    """Return the files but those of some names."""
    return {name: path for name, path in files.items() if name not in names}


def _copies(tables: Named) -> list[PurePosixPath]:
    """Return tables that lie beside a table of another kind with the same name.

    Only JSON files, workbooks and compressed files count as copies.

    Args:
        tables: name -> path of the tables.

    Returns:
        The names of the copies, sorted.
    """
    by_stem: dict[tuple[PurePosixPath, str], list[PurePosixPath]] = defaultdict(list)
    for name in tables:
        by_stem[name.parent, _stem(name)].append(name)
    copies = []
    for names in by_stem.values():
        for name in sorted(names, key=_preference)[1:]:
            if _suffix(name) in (".json", ".xlsx", ".xlsm") or _is_compressed(name):
                copies.append(name)
    return sorted(copies)


def _preference(name: PurePosixPath) -> tuple[int, bool]:
    """Return the sort key of tables of one name: the best format first, then uncompressed ones."""
    return _PREFERRED.index(SUFFIXES[_suffix(name)]), _is_compressed(name)


def _is_compressed(name: PurePosixPath) -> bool:
    """Return whether the last suffix of a file is that of its compression."""
    return _suffix(name) != name.suffix.lower()


def _units_of(files: Named, source: Files) -> list[Unit]:
    """Return a unit for each file, in order."""
    return [_unit(name, path, source) for name, path in files.items()]


def _unit(name: PurePosixPath, path: Path, source: Files, kind: Format | None = None) -> Unit:
    """Return the unit of one file.

    Args:
        name: of the file in the source.
        path: of the file.
        source: the section `ingest.source`.
        kind: the format; None takes that of the params, or of the suffix.
    """
    return Unit(
        name=str(name),
        paths=(path,),
        format=kind or _format(path, source.format),
        encoding=source.encoding,
        label=_label(str(name), source.classes),
    )


def _format(path: Path, wanted: str) -> Format:
    """Return the format of a file: the one of the params, or that of its suffix.

    Raises:
        InputError: the suffix is unknown.
    """
    if wanted in FORMATS:
        return wanted  # type: ignore[return-value]
    suffix = _suffix(path)
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    remedy = _REMEDIES.get(suffix, f"set ingest.source.format to one of {', '.join(FORMATS)}")
    raise InputError(f"has the unknown suffix {suffix!r}", where=path.name, remedy=remedy)


# -- pictures
def _listed_pictures(tables: Named, pictures: Named, source: Files) -> list[Unit]:
    """Return the tables that name the pictures beside them, with the pictures.

    The list is empty where no table does.

    Args:
        tables: name -> path of the tables.
        pictures: name -> path of the pictures.
        source: the section `ingest.source`.
    """
    index = PictureIndex(pictures.values())
    listed = []
    for name, path in tables.items():
        unit = _unit(name, path, source)
        if unit.format == "parquet":
            continue
        with_header = replace(unit, header=source.header, column_names=tuple(source.column_names))
        if names_pictures(_first_records(with_header), index):
            listed.append(replace(unit, paths=(path, *pictures.values()), pictures=True))
    return listed


def _first_records(unit: Unit) -> list[Record]:
    """Return the first records of a table; none where it cannot be read."""
    readers = {"csv": formats.tables, "tsv": formats.tables, "xlsx": formats.workbook}
    reader = readers.get(unit.format, formats.objects)
    everything = Layout([], 1 << 31)
    try:
        items = list(islice(reader(unit, everything, set()), _RECORDS))
    except InputError:
        # Whether it is used at all is not known yet.
        return []
    return [item for item in items if isinstance(item, Record)]


def _class_folders(files: Named, source: Files) -> Listing:
    """Return a unit a folder, labeled by the folder's name.

    A folder that is named after a split gives the split in place of the label.

    Args:
        files: of the source.
        source: the section `ingest.source`.
    """
    folders: dict[PurePosixPath, list[Path]] = defaultdict(list)
    for name, path in files.items():
        folders[name.parent].append(path)
    listing = Listing([])
    masks = mask_folders(folders)
    if masks:
        folders = {folder: paths for folder, paths in folders.items() if folder not in masks}
        listing.notes.append(
            f"not read, because they are masks beside the pictures: {_some(masks)}"
        )
    listing.units = _folder_units(folders, source)
    _label_by_names(listing)
    nameless_folders = [PurePosixPath(unit.name) for unit in listing.units if unit.unlabelled]
    if nameless_folders:
        listing.notes.append(
            "read as rows without a label, because they are in no folder of a class: "
            f"the files of {_some(nameless_folders)}"
        )
    return listing


def _folder_units(folders: Mapping[PurePosixPath, list[Path]], source: Files) -> list[Unit]:
    """Return a unit for each folder, with its split and its label.

    Args:
        folders: folder -> its files.
        source: the section `ingest.source`, whose classes rename the folders.
    """
    class_paths = without_contents(folders)
    level = _split_level(list(class_paths.values()))
    # A folder of a split that has class folders is no class: its files have no label.
    parents = set(chain.from_iterable(folder.parents for folder in class_paths.values()))
    folder_units = []
    for folder, paths in folders.items():
        class_path = class_paths[folder]
        split, folder_label = _split_and_label(class_path, level)
        default = source.classes.get(class_path.name, folder_label or "")
        label = source.classes.get(str(folder), default)
        is_named = _is_named(source.classes, class_path.name)
        nameless = label.casefold() in UNLABELLED and not is_named
        beside_splits = level is not None and not label and class_path not in parents
        unit = Unit(
            name=str(folder),
            paths=tuple(paths),
            format="folders",
            encoding=source.encoding,
            label=None if nameless else label or None,
            split=split,
            unlabelled=nameless or beside_splits,
        )
        folder_units.append(unit)
    return folder_units


def _label_by_names(listing: Listing) -> None:
    """Label files by their names where no folder is a class: cat.0.jpg, dog.0.jpg.

    Args:
        listing: whose units are replaced, and whose notes are extended.
    """
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
            "no folder is a class: the labels are those in the file names, "
            f"{first.name} is {labels[first]!r}"
        )


def _split_level(folders: Sequence[PurePosixPath]) -> int | None:
    """Return at which depth of the tree the folders are splits; None where they are not.

    One folder `train` beside `bus` and `car` is a class. Names such as seg_train count only where
    all folders of that depth are named after splits, or where those that are hold the same class
    folders.

    Args:
        folders: their paths in the source.

    Returns:
        A depth from 0, or None.
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


def _split_and_label(folder: PurePosixPath, level: int | None) -> tuple[str | None, str | None]:
    """Return the split and the label that the path of a folder says.

    Args:
        folder: its path in the source.
        level: the depth at which folders are splits; None where they are not.
    """
    if level is None:
        return None, folder.name
    if len(folder.parts) <= level:
        return None, None
    split = split_of(folder.parts[level])
    # Archives often repeat the name of a folder inside it: seg_train/seg_train/forest.
    after = [part for part in folder.parts[level + 1 :] if part != folder.parts[level]]
    if after:
        return split, after[-1]
    if not level:
        return split, None
    # cats/train beside dogs/train: the class comes first.
    return split, folder.parts[level - 1]


def _share_classes(folders: Sequence[PurePosixPath], depth: int) -> bool:
    """Return whether all folders of splits at a depth hold folders of the same names.

    Args:
        folders: their paths in the source.
        depth: of the folders of splits, from 0.
    """
    inside: dict[str, set[str]] = defaultdict(set)
    for folder in folders:
        if len(folder.parts) > depth + 1 and split_of(folder.parts[depth]):
            inside[folder.parts[depth]].add(folder.name)
    return len(inside) > 1 and bool(set.intersection(*inside.values()))


# -- texts
def _texts(files: Named, texts: Named, source: Files) -> Listing:
    """Return the units of a folder of .txt: tables, a file per class, or class folders.

    Args:
        files: all files of the folder.
        texts: those of suffix .txt.
        source: the section `ingest.source`.

    Raises:
        InputError: the files are named after splits, and nothing says their labels.
    """
    useful, notes = _useful_texts(texts, source)
    if not source.classes and len(useful) <= _TXT_LOOKED_AT:
        listing = _text_tables(useful, source, notes)
        if listing:
            return listing
    if _same_files_per_split(list(useful)):
        return _with_splits(Listing(_units_of(useful, source), notes))
    if not source.classes and _is_flat(useful):
        labels = name_labels(list(useful.values()))
        if labels:
            return _labeled_by_names(useful, labels, source, notes)
        _check_not_numbered(useful, source)
    if all(len(name.parts) > 1 for name in useful):
        listing = _class_folders(_nested(files), source)
        return Listing(listing.units, notes + listing.notes)
    return _by_file(useful, source, notes)


def _useful_texts(texts: Named, source: Files) -> tuple[Named, list[str]]:
    """Return the texts that do not describe the data, and a remark about the others.

    All are returned where all describe it.

    Args:
        texts: the files of suffix .txt.
        source: the section `ingest.source`. A file that it names as a class is no description.
    """
    useful = {
        name: path
        for name, path in texts.items()
        if not _is_description(name) or _is_named(source.classes, str(name))
    }
    if not useful or len(useful) == len(texts):
        return useful or texts, []
    descriptions = sorted(set(texts) - set(useful))
    return useful, [f"not read, because it describes the data: {_some(descriptions)}"]


def _text_tables(texts: Named, source: Files, notes: list[str]) -> Listing | None:
    """Return the units of texts whose lines are rows of tables; None where they are not.

    Args:
        texts: the files.
        source: the section `ingest.source`.
        notes: remarks about the source; extended where files are left out.
    """
    kinds: dict[PurePosixPath, Format] = {}
    for name, path in texts.items():
        kinds[name] = _text_kind(path, source.encoding, str(name))
    tables = {name: kind for name, kind in kinds.items() if kind != "text"}
    others = sorted(set(texts) - set(tables))
    if not tables:
        return None
    if others and not all(split_of(_stem(name)) for name in tables):
        return None
    if others:
        notes.append(f"not read, because its lines are not rows of a table: {_some(others)}")
    listed = [_unit(name, texts[name], source, kind) for name, kind in tables.items()]
    return _with_splits(Listing(listed, notes))


def _labeled_by_names(
    texts: Named, labels: Mapping[Path, str], source: Files, notes: list[str]
) -> Listing:
    """Return the units of texts such as pos_1.txt.

    A file is a row, or a line is a row where files are large.

    Args:
        texts: the files of suffix .txt.
        labels: file -> the label in its name.
        source: the section `ingest.source`.
        notes: remarks about the source.
    """
    size = sum(path.stat().st_size for path in texts.values())
    if size <= _LARGE_TEXT * len(texts):
        listing = _class_folders(texts, source)
        return Listing(listing.units, notes + listing.notes)
    labeled = []
    for name, path in texts.items():
        unit = _unit(name, path, source)
        labeled.append(replace(unit, label=labels.get(path)))
    first = labeled[0]
    note = f"the labels are those in the file names, {first.name} is {first.label!r}"
    return Listing([unit for unit in labeled if unit.label], [*notes, note])


def _check_not_numbered(texts: Named, source: Files) -> None:
    """Check that texts are not named after nothing but numbers: each would be a class.

    Raises:
        InputError: they are.

    Args:
        texts: the files of suffix .txt.
        source: the section `ingest.source`.
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
    """Return whether the folders of all splits hold files of the same few names.

    These names are the classes: train/pos.txt, test/pos.txt.
    """
    if any(len(name.parts) < 2 for name in names):
        return False
    if _split_level([name.parent for name in names]) is None:
        return False
    files: dict[PurePosixPath, set[str]] = defaultdict(set)
    for name in names:
        files[name.parent].add(name.name)
    first, *others = files.values()
    if not others or not 1 < len(first) <= _LINES:
        return False
    return all(other == first for other in others)


def _by_file(texts: Named, source: Files, notes: list[str]) -> Listing:
    """Return a unit a text file, labeled by what its name says beside a split.

    Raises:
        InputError: the files are named after splits, and nothing says their labels.
    """
    listing = Listing(_units_of(texts, source), notes)
    splits = {name: split_of(_stem(name)) for name in texts}
    if source.classes or "train" not in splits.values() or len(set(splits.values())) < 2:
        return _with_splits(listing)
    if None in splits.values():
        return listing
    labels = {name: without_split(_stem(name)) for name in texts}
    if len({label for label in labels.values() if label}) < 2:
        raise InputError(
            f"has files that are named after splits, and their lines have no label: {_some(texts)}",
            where=source.path,
            remedy="put the label before each text with a tab between them, "
            "or a file of each class into the folders train and test",
        )
    listing.units = [
        replace(unit, label=labels[name], split=splits[name])
        for unit, name in zip(listing.units, texts, strict=True)
    ]
    return listing


def _text_kind(path: Path, encoding: str, where: str) -> Format:
    """Return what the lines of a .txt are: rows of a table, rows of fastText, or texts.

    Args:
        path: of the file.
        encoding: of the params.
        where: name of the file in error messages.
    """
    lines = _first_lines(path, encoding, where)
    if not lines:
        return "text"
    all_marked = all(LABEL_MARK in line for line in lines[:20])
    if all_marked and any(line.startswith(LABEL_MARK) for line in lines):
        return "fasttext"
    if _starts_json(lines[0].strip()):
        return "json"
    tabs = Counter(line.count("\t") for line in lines)
    if len(lines) > 1 and is_header_line(lines[0]):
        return "csv" if set(tabs) == {0} else "tsv"
    most, count = tabs.most_common(1)[0]
    # A line with a tab too many is set aside where it is read.
    return "tsv" if most and count >= _SHARE_OF_TABS * len(lines) else "text"


def _first_lines(path: Path, encoding: str, where: str) -> list[str]:
    """Return the first lines of a text that are not blank; none where it cannot be decoded."""
    if not path.stat().st_size:
        return []
    try:
        detected = detect(path, encoding, where)
    except InputError:
        # It is refused where it is read.
        return []
    with open_text(path, detected, where) as stream:
        head = stream.read(_CHARACTERS)
    lines = head.split("\n")[:_LINES]
    if len(head) == _CHARACTERS and len(lines) > 1:
        lines.pop()
    return [line.strip("\ufeff\r") for line in lines if line.strip()]


def _starts_json(line: str) -> bool:
    """Return whether a line starts JSON objects, and is no heading in brackets."""
    if line in ("[", "{") or line.startswith("[{"):
        return True
    try:
        return isinstance(json.loads(line.rstrip(",")), dict)
    except (ValueError, RecursionError):
        return False


def _label(name: str, classes: Mapping[str, str]) -> str:
    """Return the class of a file: that of the params, or its name without folders and suffix."""
    path = PurePosixPath(name)
    for key in (name, path.name, path.stem):
        if key in classes:
            return classes[key]
    return path.stem


def _is_named(classes: Mapping[str, str], name: str) -> bool:
    """Return whether the params name the class of a file or folder."""
    path = PurePosixPath(name)
    return any(key in classes for key in (name, path.name, path.stem))


def _check_classes(classes: Mapping[str, str], listed: Sequence[Unit]) -> None:
    """Check that the params name classes of files and folders that exist.

    Raises:
        InputError: they do not.
    """
    names: set[str] = set()
    for unit in listed:
        if unit.format in ("text", "folders", *TABLES):
            path = PurePosixPath(unit.name)
            names |= {unit.name, path.name, path.stem}
    for name in classes:
        if name not in names:
            raise InputError(
                f"no file or folder of classes is named {name!r}{nearest(name, names)}",
                where="ingest.source.classes",
                remedy="use the name of a text file or of a class folder",
            )


# -- splits
def _with_splits(listing: Listing) -> Listing:
    """Return units with canonical splits, where their names say at least two and one is train.

    Examples are train.csv beside test.csv, and train/pos.txt beside test/pos.txt.
    """
    splits = [_split(unit) for unit in listing.units]
    if "train" not in splits or len(set(splits) - {None}) < 2:
        return listing
    listing.units = [
        replace(unit, split=split) for unit, split in zip(listing.units, splits, strict=True)
    ]
    if None in splits:
        others = [PurePosixPath(unit.name) for unit in listing.units if unit.split is None]
        listing.notes.append(f"read as train, because its name contains no split: {_some(others)}")
    return listing


def _split(unit: Unit) -> str | None:
    """Return the split that a unit's folders say, or else its file name."""
    path = PurePosixPath(unit.name)
    for part in path.parts[:-1]:
        split = None if without_split(part) else split_of(part)
        if split:
            return split
    if unit.format == "text":
        return None
    return split_of(_stem(path))
