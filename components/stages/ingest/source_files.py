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
from components.stages.ingest.dialects import FASTTEXT_MARK, is_header_line, with_shared_headers
from components.stages.ingest.encodings import detect
from components.stages.ingest.formats import HEIC, IMAGES
from components.stages.ingest.name_targets import (
    mask_folders,
    targets_in_names,
    without_contents,
)
from components.stages.ingest.params import FILE_TARGETS_KEY, FORMATS, FileParams, Files
from components.stages.ingest.pictures import PictureIndex, names_pictures
from components.stages.ingest.source_rows import TABLES, Format, Record, Unit
from components.stages.ingest.split_names import UNLABELLED, split_of, without_split
from components.stages.ingest.value_names import with_value_names
from components.tasks.base import ANY_TARGET, TargetWords

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
# What to do with files that are not read, by suffix. `_remedies` adds others.
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
    ".arrow": "set ingest.source.format to arrow",
    ".feather": "set ingest.source.format to arrow",
    ".pkl": "write it as Parquet or CSV: a pickle runs code when it is read",
    ".pickle": "write it as Parquet or CSV: a pickle runs code when it is read",
}
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_ARRAYS = (".npz", ".npy", ".mat", ".h5", ".hdf5", ".tfrecord")
_EXPORTED = (*_ARRAYS, ".db", ".sqlite", ".sqlite3", ".arff", ".pdf", ".doc", ".docx")
_JUNK = frozenset({"thumbs.db", "desktop.ini", "icon\r"})
_JUNK_FOLDERS = frozenset({"__macosx", "__pycache__"})
# Files beside data that hold no rows.
_DESCRIPTION_WORDS = """
    readme read_me license licence copying notice changelog changes authors citation requirements
    terms dataset_info dataset_infos metadata config package state datapackage
"""
_DESCRIPTIONS = frozenset(_DESCRIPTION_WORDS.split())
# Suffixes of texts in folders; mails and news often have none.
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
# Text files with numbers for names that are no targets.
_MANY_NUMBERS = 11


@dataclass
class Listing:
    """The units of a source, and remarks about them for a person."""

    units: list[Unit]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FilesSource:
    """A source of files.

    Args:
        params: the section `ingest.source`.
        words: of the task, for messages.
    """

    params: FileParams
    words: TargetWords


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


def units(params: Files, root: Path, words: TargetWords = ANY_TARGET) -> list[Unit]:
    """Return what there is to read, sorted by name.

    Args:
        params: the section `ingest.source`.
        root: of the project.
        words: of the task, for messages.

    Raises:
        InputError: nothing there, an unknown format, or the params name an absent file.
    """
    return list_source(params, root, words).units


def list_source(params: Files, root: Path, words: TargetWords = ANY_TARGET) -> Listing:
    """Return what there is to read, sorted by name, with remarks for a person.

    Args:
        params: the section `ingest.source`.
        root: of the project.
        words: of the task, for messages.

    Raises:
        InputError: nothing there, an unknown format, or the params name an absent file.
    """
    path = locate(params.path, root)
    if not path.is_dir():
        return list_files({PurePosixPath(path.name): path}, params, words)
    files = files_of(path, params.glob)
    if not files:
        raise InputError(
            f"holds no file that matches {params.glob!r}",
            where=params.path,
            remedy="put files into it, or set ingest.source.glob",
        )
    return list_files(files, params, words, path)


def list_files(
    files: Named, params: FileParams, words: TargetWords, folder: Path | None = None
) -> Listing:
    """Return what there is to read in some files, with remarks for a person.

    Args:
        files: name in the source -> path, in order.
        params: the section `ingest.source`.
        words: of the task, for messages.
        folder: the source, where it is one.

    Raises:
        InputError: an unknown format, or the params name an absent file.
    """
    source = FilesSource(params, words)
    if folder or len(files) > 1:
        listing = _several(files, source)
    else:
        listing = Listing([_single(path, source) for path in files.values()])
    _check_file_targets(source, listing.units)
    configured = [_configured(unit, source) for unit in listing.units]
    named, remarks = with_value_names(configured, folder)
    listing.notes += remarks
    listing.units = with_shared_headers(named)
    return listing


def _configured(unit: Unit, source: FilesSource) -> Unit:
    """Return a unit with the settings of the source that concern tables."""
    return replace(
        unit,
        header=source.params.header,
        column_names=tuple(source.params.column_names),
        sheet=source.params.sheet,
        one_hot=tuple(source.params.one_hot),
        has_file_target=_is_named(source.params.file_targets, unit.name),
    )


def _single(path: Path, source: FilesSource) -> Unit:
    """Return the unit of a source that is one file.

    Args:
        path: of the file.
        source: its params and the words of the task.

    Raises:
        InputError: the format is unknown, or is that of a folder.
    """
    kind = _nameless_kind(path, source) or _format(path, source)
    if kind == "folders":
        raise InputError(
            f"is a file, but format folders wants a folder of {source.words.category} folders",
            where=source.params.place,
            remedy="set ingest.source.path to the folder, or ingest.source.format to auto",
        )
    is_named = _is_named(source.params.file_targets, path.name)
    if kind == "text" and source.params.format == "auto" and not is_named:
        kind = _text_kind(path, source.params.encoding, path.name)
    target_value = _target_value(path.name, source.params.file_targets)
    return Unit(path.name, (path,), kind, source.params.encoding, target_value)


def _nameless_kind(path: Path, source: FilesSource) -> Format | None:
    """Return the format of a file whose suffix says none, where its lines show it."""
    suffix = _suffix(path)
    if source.params.format != "auto" or suffix in SUFFIXES or suffix in _remedies(source.words):
        return None
    kind = _text_kind(path, source.params.encoding, path.name)
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


def _several(files: Named, source: FilesSource) -> Listing:
    """Return the units of a source of several files, or of a folder.

    Args:
        files: name in the source -> path, in order.
        source: its params and the words of the task.

    Raises:
        InputError: names are not UTF-8, or the format is unknown.
    """
    _check_encoding(files, source)
    if source.params.format == "folders":
        return _folders(files, source)
    if source.params.format == "auto":
        return _guessed(files, source)
    return _with_splits(Listing(_units_of(files, source)))


def files_of(folder: Path, pattern: str) -> dict[PurePosixPath, Path]:
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


def _check_encoding(files: Named, source: FilesSource) -> None:
    """Refuse names in another encoding than UTF-8: Parquet, JSON and DVC cannot hold them.

    Args:
        files: of the source.
        source: its params and the words of the task.

    Raises:
        InputError: a name is not UTF-8.
    """
    wrong = [str(name) for name in files if not _is_utf8(str(name))]
    if wrong:
        raise InputError(
            f"{len(wrong):,} of {len(files):,} files have names that are not UTF-8, such as "
            f"{escaping.one_line(wrong[0])}",
            where=source.params.place,
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


def _guessed(files: Named, source: FilesSource) -> Listing:
    """Return the units of a folder of format `auto`.

    They are its tables if it has any, else pictures or texts by value of the target.

    Args:
        files: of the source.
        source: its params and the words of the task.

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
        return _folders(_without_descriptions(files), source)
    if texts:
        return _texts(files, texts, source)
    nested = {name: path for name, path in _nested(files).items() if _is_text_suffix(name)}
    if len({name.parent for name in nested}) > 1:
        return _folders(nested, source)
    raise _unknown(files, source.words)


def _tables_and_pictures(
    tables: Named, pictures: Named, source: FilesSource, notes: list[str]
) -> Listing | None:
    """Return the units of a folder of tables and pictures; None where the tables are the source.

    Args:
        tables: the tables.
        pictures: the pictures.
        source: its params and the words of the task.
        notes: remarks about the tables; extended where the pictures are the source.
    """
    listed = _listed_pictures(tables, pictures, source)
    if listed:
        return _with_splits(Listing(listed, notes))
    folders = {name.parent for name in pictures if name.parent.parts}
    if len(folders) <= 1 or len(pictures) < _PICTURES_PER_TABLE * len(tables):
        return None
    notes.append(f"left out beside the pictures: {_some(tables)}")
    listing = _folders(pictures, source)
    return Listing(listing.units, notes + listing.notes)


def _is_table(name: PurePosixPath) -> bool:
    """Return whether the suffix of a file is that of a table."""
    return SUFFIXES.get(_suffix(name), "text") in TABLES


def _nested(files: Named) -> dict[PurePosixPath, Path]:
    """Return the files that lie in folders of the source."""
    return {name: path for name, path in files.items() if len(name.parts) > 1}


def _unknown(files: Named, words: TargetWords) -> InputError:
    """Return the error for a folder whose files have no known format."""
    suffixes = sorted({_suffix(name) for name in files})
    by_suffix = _remedies(words)
    remedies = [by_suffix[suffix] for suffix in suffixes if suffix in by_suffix]
    remedies.append(f"set ingest.source.format to one of {', '.join(FORMATS)}")
    return InputError(
        f"holds files of no known format: {', '.join(suffixes)}",
        where="ingest.source.path",
        remedy=remedies[0],
    )


def _remedies(words: TargetWords) -> dict[str, str]:
    """Return what to do with files that are not read, by suffix."""
    export = (
        "export it: texts as CSV, JSON lines or Parquet, "
        f"pictures as PNG in a folder for each {words.category}"
    )
    folders = f"give the folder of the {words.category} folders"
    return {
        **_REMEDIES,
        **dict.fromkeys(_PICTURES, folders),
        **dict.fromkeys(_EXPORTED, export),
    }


def _is_text_suffix(name: PurePosixPath) -> bool:
    """Return whether a file in a folder of a value is a text, by its suffix."""
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


def _units_of(files: Named, source: FilesSource) -> list[Unit]:
    """Return a unit for each file, in order."""
    return [_unit(name, path, source) for name, path in files.items()]


def _unit(
    name: PurePosixPath,
    path: Path,
    source: FilesSource,
    kind: Format | None = None,
) -> Unit:
    """Return the unit of one file.

    Args:
        name: of the file in the source.
        path: of the file.
        source: its params and the words of the task.
        kind: the format; None takes that of the params, or of the suffix.
    """
    return Unit(
        name=str(name),
        paths=(path,),
        format=kind or _format(path, source),
        encoding=source.params.encoding,
        target_value=_target_value(str(name), source.params.file_targets),
    )


def _format(path: Path, source: FilesSource) -> Format:
    """Return the format of a file: the one of the params, or that of its suffix.

    Args:
        path: of the file.
        source: its params and the words of the task.

    Raises:
        InputError: the suffix is unknown.
    """
    if source.params.format != "auto":
        return source.params.format
    suffix = _suffix(path)
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    formats_listed = ", ".join(FORMATS)
    default = f"set ingest.source.format to one of {formats_listed}"
    remedy = _remedies(source.words).get(suffix, default)
    raise InputError(f"has the unknown suffix {suffix!r}", where=path.name, remedy=remedy)


# -- pictures
def _listed_pictures(tables: Named, pictures: Named, source: FilesSource) -> list[Unit]:
    """Return the tables that name the pictures beside them, with the pictures.

    The list is empty where no table does.

    Args:
        tables: name -> path of the tables.
        pictures: name -> path of the pictures.
        source: its params and the words of the task.
    """
    index = PictureIndex(pictures.values())
    listed = []
    for name, path in tables.items():
        unit = _unit(name, path, source)
        if unit.format in ("parquet", "arrow"):
            continue
        with_header = replace(
            unit, header=source.params.header, column_names=tuple(source.params.column_names)
        )
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


def _folders(files: Named, source: FilesSource) -> Listing:
    """Return a unit a folder, whose name is the value of the target in its rows.

    A folder that is named after a split gives the split in place of the value.

    Args:
        files: of the source.
        source: its params and the words of the task.
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
    _take_targets_of_names(listing, source.words)
    nameless_folders = [PurePosixPath(unit.name) for unit in listing.units if unit.unlabelled]
    if nameless_folders:
        listing.notes.append(
            f"read as rows without a {source.words.value}, because they are in no folder of a "
            f"{source.words.category}: the files of {_some(nameless_folders)}"
        )
    return listing


def _folder_units(folders: Mapping[PurePosixPath, list[Path]], source: FilesSource) -> list[Unit]:
    """Return a unit for each folder, with its split and its value of the target.

    Args:
        folders: folder -> its files.
        source: its params, which may give folders other values, and the words of the task.
    """
    value_paths = without_contents(folders)
    level = _split_level(list(value_paths.values()))
    # A folder of a split that has folders of values is no value: its files have no target.
    parents = set(chain.from_iterable(folder.parents for folder in value_paths.values()))
    folder_units = []
    for folder, paths in folders.items():
        value_path = value_paths[folder]
        split, folder_name = _split_and_value(value_path, level)
        default = source.params.file_targets.get(value_path.name, folder_name or "")
        value = source.params.file_targets.get(str(folder), default)
        is_named = _is_named(source.params.file_targets, value_path.name)
        nameless = value.casefold() in UNLABELLED and not is_named
        beside_splits = level is not None and not value and value_path not in parents
        unit = Unit(
            name=str(folder),
            paths=tuple(paths),
            format="folders",
            encoding=source.params.encoding,
            target_value=None if nameless else value or None,
            split=split,
            unlabelled=nameless or beside_splits,
            outside=source.words.outside,
        )
        folder_units.append(unit)
    return folder_units


def _take_targets_of_names(listing: Listing, words: TargetWords) -> None:
    """Take the targets from file names where no folder is one: cat.0.jpg, dog.0.jpg.

    Args:
        listing: whose units are replaced, and whose notes are extended.
        words: of the task.
    """
    if any(unit.target_value for unit in listing.units):
        return
    for number, unit in enumerate(listing.units):
        targets = targets_in_names(unit.paths)
        if unit.split == "test" or not targets:
            continue
        file_targets = tuple(targets.get(path) for path in unit.paths)
        listing.units[number] = replace(unit, file_targets=file_targets, unlabelled=False)
        first = next(iter(targets))
        listing.notes.append(
            f"no folder is a {words.category}: the {words.values} are those in the file names, "
            f"{first.name} is {targets[first]!r}"
        )


def _split_level(folders: Sequence[PurePosixPath]) -> int | None:
    """Return at which depth of the tree the folders are splits; None where they are not.

    One folder `train` beside `bus` and `car` is no split. Names such as seg_train count only where
    all folders of that depth are named after splits, or where those that are hold folders of the
    same names.

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
            None not in splits.values() or len(exact) > 1 or _share_folders(folders, depth)
        ):
            return depth
        deeper = [folder for folder in folders if len(folder.parts) > depth + 1]
        if len(names) == 1 and splits[next(iter(names))] == "train" and len(deeper) == len(folders):
            return depth
    return None


def _split_and_value(folder: PurePosixPath, level: int | None) -> tuple[str | None, str | None]:
    """Return the split and the value of the target that the path of a folder says.

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
    # cats/train beside dogs/train: the split comes last.
    return split, folder.parts[level - 1]


def _share_folders(folders: Sequence[PurePosixPath], depth: int) -> bool:
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
def _texts(files: Named, texts: Named, source: FilesSource) -> Listing:
    """Return the units of a folder of .txt: tables, or a file or folder per value of the target.

    Args:
        files: all files of the folder.
        texts: those of suffix .txt.
        source: its params and the words of the task.

    Raises:
        InputError: the files are named after splits, and nothing says their targets.
    """
    useful, notes = _useful_texts(texts, source)
    if not source.params.file_targets and len(useful) <= _TXT_LOOKED_AT:
        listing = _text_tables(useful, source, notes)
        if listing:
            return listing
    if _same_files_per_split(list(useful)):
        return _with_splits(Listing(_units_of(useful, source), notes))
    if not source.params.file_targets and _is_flat(useful):
        targets = targets_in_names(list(useful.values()))
        if targets:
            return _with_targets_of_names(useful, targets, source, notes)
        _check_not_numbered(useful, source)
    if all(len(name.parts) > 1 for name in useful):
        listing = _folders(_nested(files), source)
        return Listing(listing.units, notes + listing.notes)
    return _by_file(useful, source, notes)


def _useful_texts(texts: Named, source: FilesSource) -> tuple[Named, list[str]]:
    """Return the texts that do not describe the data, and a remark about the others.

    All are returned where all describe it.

    Args:
        texts: the files of suffix .txt.
        source: its params and the words of the task. A file that they name is no description.
    """
    useful = {
        name: path
        for name, path in texts.items()
        if not _is_description(name) or _is_named(source.params.file_targets, str(name))
    }
    if not useful or len(useful) == len(texts):
        return useful or texts, []
    descriptions = sorted(set(texts) - set(useful))
    return useful, [f"not read, because it describes the data: {_some(descriptions)}"]


def _text_tables(texts: Named, source: FilesSource, notes: list[str]) -> Listing | None:
    """Return the units of texts whose lines are rows of tables; None where they are not.

    Args:
        texts: the files.
        source: its params and the words of the task.
        notes: remarks about the source; extended where files are left out.
    """
    kinds: dict[PurePosixPath, Format] = {}
    for name, path in texts.items():
        kinds[name] = _text_kind(path, source.params.encoding, str(name))
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


def _with_targets_of_names(
    texts: Named, targets: Mapping[Path, str], source: FilesSource, notes: list[str]
) -> Listing:
    """Return the units of texts such as pos_1.txt.

    A file is a row, or a line is a row where files are large.

    Args:
        texts: the files of suffix .txt.
        targets: file -> the value of the target in its name.
        source: its params and the words of the task.
        notes: remarks about the source.
    """
    size = sum(path.stat().st_size for path in texts.values())
    if size <= _LARGE_TEXT * len(texts):
        listing = _folders(texts, source)
        return Listing(listing.units, notes + listing.notes)
    named = []
    for name, path in texts.items():
        unit = _unit(name, path, source)
        named.append(replace(unit, target_value=targets.get(path)))
    first = named[0]
    note = (
        f"the {source.words.values} are those in the file names, "
        f"{first.name} is {first.target_value!r}"
    )
    return Listing([unit for unit in named if unit.target_value], [*notes, note])


def _check_not_numbered(texts: Named, source: FilesSource) -> None:
    """Check that texts are not named after nothing but numbers, which would be their targets.

    Raises:
        InputError: they are.

    Args:
        texts: the files of suffix .txt.
        source: its params and the words of the task.
    """
    names = [name.stem for name in texts]
    if len(names) < _MANY_NUMBERS or not all(name.isdecimal() for name in names):
        return
    raise InputError(
        f"has {len(names):,} texts whose names are numbers, "
        f"and nothing says their {source.words.values}",
        where=source.params.place,
        remedy=f"put the files into a folder for each {source.words.category}, "
        "or name them after it: good_1.txt",
    )


def _is_flat(names: Named) -> bool:
    """Return whether all files lie in the source itself."""
    return all(len(name.parts) == 1 for name in names)


def _same_files_per_split(names: Sequence[PurePosixPath]) -> bool:
    """Return whether the folders of all splits hold files of the same few names.

    These names are the values of the target: train/pos.txt, test/pos.txt.
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


def _by_file(texts: Named, source: FilesSource, notes: list[str]) -> Listing:
    """Return a unit a text file, whose target is what its name says beside a split.

    Raises:
        InputError: the files are named after splits, and nothing says their targets.
    """
    listing = Listing(_units_of(texts, source), notes)
    splits = {name: split_of(_stem(name)) for name in texts}
    if (
        source.params.file_targets
        or "train" not in splits.values()
        or len(set(splits.values())) < 2
    ):
        return _with_splits(listing)
    if None in splits.values():
        return listing
    targets = {name: without_split(_stem(name)) for name in texts}
    if len(set(targets.values()) - {""}) < 2:
        words = source.words
        raise InputError(
            "has files that are named after splits, "
            f"and their lines have no {words.value}: {_some(texts)}",
            where=source.params.place,
            remedy=f"put the {words.value} before each text with a tab between them, "
            f"or a file of each {words.category} into the folders train and test",
        )
    listing.units = [
        replace(unit, target_value=targets[name], split=splits[name])
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
    all_marked = all(FASTTEXT_MARK in line for line in lines[:20])
    if all_marked and any(line.startswith(FASTTEXT_MARK) for line in lines):
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


def _target_value(name: str, targets: Mapping[str, str]) -> str:
    """Return the target of a file: that of the params, or its name without folders and suffix."""
    path = PurePosixPath(name)
    for key in (name, path.name, path.stem):
        if key in targets:
            return targets[key]
    return path.stem


def _is_named(targets: Mapping[str, str], name: str) -> bool:
    """Return whether the params give the target of a file or folder."""
    path = PurePosixPath(name)
    return any(key in targets for key in (name, path.name, path.stem))


def _check_file_targets(source: FilesSource, listed: Sequence[Unit]) -> None:
    """Check that the params give targets of files and folders that exist.

    Raises:
        InputError: they do not.
    """
    names: set[str] = set()
    for unit in listed:
        if unit.format in ("text", "folders", *TABLES):
            path = PurePosixPath(unit.name)
            names |= {unit.name, path.name, path.stem}
    for name in source.params.file_targets:
        if name not in names:
            raise InputError(
                f"no file or folder of {source.words.categories} is named "
                f"{name!r}{nearest(name, names)}",
                where=FILE_TARGETS_KEY,
                remedy=f"use the name of a text file or of a {source.words.category} folder",
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
