"""ingest: a source of any kind becomes one raw table in the task's columns."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.core.cache import Cache, cache_key
from components.core.errors import InputError
from components.core.files import sha256, to_json, write_atomic
from components.core.job import Job, Journal
from components.core.parallel_map import parallel_map
from components.core.tables import write_table
from components.stages.ingest import (
    formats,
    package_source,
    sklearn_source,
    source_files,
    table_source,
)
from components.stages.ingest.columns import LabelRules, Layout, layout
from components.stages.ingest.derived_columns import read_layout, with_derived
from components.stages.ingest.dialects import Dialect, dialect_of
from components.stages.ingest.labels import label_notes
from components.stages.ingest.params import Files, IngestParams, Package, Sql
from components.stages.ingest.pictures import with_pictures
from components.stages.ingest.source_files import Listing
from components.stages.ingest.source_rows import (
    QUARANTINE,
    Format,
    Unit,
    settle_splits,
    shaped,
    unique_ids,
)
from components.stages.ingest.workbooks import sheet_rows
from components.tasks import base

READERS: Mapping[Format, formats.Reader] = {
    "csv": formats.tables,
    "tsv": formats.tables,
    "jsonl": formats.objects,
    "json": formats.objects,
    "xlsx": formats.workbook,
    "parquet": formats.parquet,
    "text": formats.lines,
    "fasttext": formats.fasttext,
    "folders": formats.folder,
    "digits": sklearn_source.digits,
}
_LOOKED_AT = 100_000  # refused rows, for the first of each reason
_EXCERPT = 80
_FACTS = pa.schema(
    [("sha256", pa.string()), ("encoding", pa.string()), ("columns", pa.list_(pa.string()))]
)  # of a unit, which its name and its rows do not say


@dataclass(frozen=True)
class Piece:
    """What a worker needs to read one unit."""

    unit: Unit
    layout: Layout
    key: str  # starts the ids of rows that bring none


@dataclass(frozen=True)
class Parsed:
    """One unit, read."""

    rows: pa.Table
    quarantine: pa.Table
    facts: Mapping[str, Any]


def run(job: Job) -> None:
    """Read the source and write `raw` (with `quarantine/` in it) and `report`.

    Raises:
        InputError: the source is missing, empty, lacks a column, cannot teach anything, or is written to meanwhile.
        ParamsError: `ingest.columns` names something that the task does not have.
    """
    params: IngestParams = job.params
    rules = label_rules(params)
    wanted = layout(base.schema(job.task).roles, params.columns, params.max_bytes_per_value, rules)
    listing = list_units(params, job.root)
    found = listing.units
    stamps = _stamps(params, job, found)
    accepted = source_files.feedback(params.feedback, job.root) if params.feedback else []
    told = accepted if params.seen else []  # DVC looks at the params, not at that folder
    # Feedback has no ids, groups and splits of the source.
    named = {
        role: name for role, name in params.columns.items() if role not in ("id", "group", "split")
    }
    own = layout(base.schema(job.task).roles, named, params.max_bytes_per_value, rules)
    keys = unit_keys([unit.name for unit in (*found, *told)])
    memo = Cache(job.cache, job.journal.log)
    parsed = _read(
        [Piece(unit, wanted, keys[unit.name]) for unit in found]
        + [Piece(unit, own, keys[unit.name]) for unit in told],
        memo,
        job.journal,
    )
    _say_feedback(job.journal, len(accepted), params.seen)
    for note in listing.notes:
        job.journal.log(note)
    rows = _concatenated([each.rows for each in parsed], wanted.schema)
    quarantine = _concatenated([each.quarantine for each in parsed], QUARANTINE)
    _check_rows(rows, quarantine, params.source.path)
    classes = _classes(rows, wanted, params.source.path)
    rows, note = settle_splits(rows, wanted.target.name if wanted.target else None, found)
    rows, replaced = unique_ids(rows, keys)
    if replaced:
        job.journal.log(
            f"{replaced} ids occur more than once in the source: those rows got ids of their own"
        )
    _say(job.journal, parsed, quarantine)
    for line in [*([note] if note else []), *label_notes(rows, wanted, classes)]:
        job.journal.log(line)
    facts = {"files": [dict(each.facts) for each in parsed], "classes": classes}
    job.journal.params(
        _watermark(
            params, job, [each.facts for each in parsed], rows.num_rows + quarantine.num_rows
        )
    )
    write_table(job.outputs["raw"], {"rows": rows}, facts)
    write_table(
        job.outputs["raw"] / "quarantine",
        {"quarantine": quarantine},
        {"reasons": _reasons(quarantine)},
    )
    report = {
        "rows": rows.num_rows,
        "quarantined": quarantine.num_rows,
        "classes": len(classes),
        "files": len(parsed),
    }
    write_atomic(job.outputs["report"], to_json(report))
    memo.close()
    _check_unchanged(params, job, found, stamps)


def _concatenated(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Return tables as one, which is empty where there are none."""
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _say_feedback(journal: Journal, number: int, seen: str | None) -> None:
    """Print whether the files of feedback were read.

    Args:
        journal: where the line is printed.
        number: of the files.
        seen: the digest under which a retrain found them; none outside of a retrain.
    """
    if not number:
        return
    state = f"read as a retrain found them ({seen[:12]})" if seen else "left to gristmill retrain"
    journal.log(f"{number} files of feedback: {state}")


def _check_unchanged(
    params: IngestParams, job: Job, found: Sequence[Unit], stamps: Sequence[tuple[Any, ...]]
) -> None:
    """Refuse a source that was written to since `stamps` were taken.

    DVC would take the new source for what was read.

    Raises:
        InputError: a file is new, gone or another one.
    """
    if isinstance(params.source, Files):
        found = source_files.units(params.source, job.root)
    if _stamps(params, job, found) != stamps:
        raise InputError(
            "was written to while it was read",
            where=params.source.path,
            remedy="let the other program end, then run the same command again",
        )


def label_rules(params: IngestParams) -> LabelRules:
    """Return what becomes of the source's labels."""
    return LabelRules(params.labels, fold=params.label_case == "fold")


def list_units(params: IngestParams, root: Path) -> Listing:
    """Return what the source consists of, and what is said of it."""
    source = params.source
    if isinstance(source, Files):
        return source_files.list_source(source, root)
    if isinstance(source, Sql):
        return Listing(table_source.units(source, root))
    return Listing(
        package_source.units(source, root)
        if isinstance(source, Package)
        else sklearn_source.units(source, root)
    )


def records(unit: Unit, wanted: Layout, used: set[str]) -> formats.Found:
    """Read a unit: its records, and what is none."""
    found = read_unit(unit, wanted, used)
    return with_pictures(found, unit, wanted) if unit.pictures else found


def read_unit(unit: Unit, wanted: Layout, used: set[str]) -> formats.Found:
    """Read a unit, without the pictures that it names."""
    found = READERS[unit.format](unit, read_layout(unit, wanted), used)
    return with_derived(found, unit)


def prepared(unit: Unit, wanted: Layout) -> tuple[Unit, Layout]:
    """Return a unit that has been looked at, and the columns that it must have.

    A table whose name says that it is for judging may come without labels: its rows have none.
    """
    if unit.split in ("validation", "test"):
        columns = [
            replace(column, must=column.must and column.role != "target")
            for column in wanted.columns
        ]
        wanted = replace(wanted, columns=columns)
    if unit.paths and unit.paths[0].stat().st_size:
        return replace(unit, dialect=_dialect(unit, read_layout(unit, wanted))), wanted
    return unit, wanted


def _dialect(unit: Unit, wanted: Layout) -> Dialect | None:
    if unit.format in ("csv", "tsv"):
        return dialect_of(unit, wanted)
    if unit.format != "xlsx":
        return None
    sheet = sheet_rows(unit, wanted)
    return Dialect("binary", "", quoted=False, skip=0, header=sheet.header, names=sheet.names)


def _stamps(params: IngestParams, job: Job, found: Sequence[Unit]) -> list[tuple[Any, ...]]:
    """Name, size and times of each file of a source: others when somebody has written to it."""
    paths = [path for unit in found for path in unit.paths] + (
        [job.root / params.source.path / table_source.WATERMARK]
        if isinstance(params.source, Sql)
        else []
    )
    told = [(path, path.stat()) if path.exists() else (path, None) for path in paths]
    return [
        (path, stat.st_size, stat.st_mtime_ns, stat.st_ino) if stat else (path,)
        for path, stat in told
    ]


def _watermark(
    params: IngestParams, job: Job, found: Sequence[Mapping[str, Any]], rows: int
) -> dict[str, Any]:
    """What the run is said to have seen of the source: a digest of all its files, their rows, and how far a database was pulled."""
    mark = (
        table_source.read(job.root / params.source.path) if isinstance(params.source, Sql) else None
    )
    digest = cache_key({"files": [[each["name"], each["sha256"]] for each in found]})
    return {
        "source.digest": digest,
        "source.rows": rows,
        **({"source.cursor": mark.value} if mark else {}),
    }


def parse(piece: Piece) -> Parsed:
    """Read one unit."""
    used = set[str]()
    unit, wanted = prepared(piece.unit, piece.layout)
    rows, quarantine = shaped(records(unit, wanted, used), wanted, unit, piece.key)
    digest = _digest(unit) or _of_values(rows, wanted.input.name)
    facts = {
        "name": unit.name,
        "sha256": digest,
        "encoding": ", ".join(sorted(used)) or "binary",
        "rows": rows.num_rows,
    }
    if unit.dialect and not unit.dialect.header:
        facts["columns"] = list(unit.dialect.names)
    return Parsed(rows, quarantine, facts)


def _read(pieces: Sequence[Piece], memo: Cache, journal: Journal) -> list[Parsed]:
    """All units in their order: those that an earlier run has read, byte for byte the same and in the same way, are not read again."""
    digests = [_digest(piece.unit) for piece in pieces]
    keys = [_key(piece, digest) for piece, digest in zip(pieces, digests, strict=True)]
    parsed = [
        _remembered(piece, memo.get(key, [piece.layout.schema, QUARANTINE, _FACTS]))
        for piece, key in zip(pieces, keys, strict=True)
    ]
    new = [place for place, each in enumerate(parsed) if each is None]
    fresh = [pieces[place] for place in new]
    # One unit is read here: a task of its own would only be started and waited for.
    for done, (place, each) in enumerate(
        zip(new, parallel_map(parse, fresh) if len(new) > 1 else map(parse, fresh), strict=True), 1
    ):
        parsed[place] = each
        if (
            digests[place] == each.facts["sha256"]
        ):  # else it has no files, or somebody wrote to them meanwhile
            memo.put(
                keys[place],
                [each.rows, each.quarantine, pa.Table.from_pylist([each.facts], schema=_FACTS)],
            )
        journal.progress(len(pieces) - len(new) + done, len(pieces), "files")
    return [each for each in parsed if each is not None]


def _key(piece: Piece, digest: str) -> str:
    """Covers all that reading a unit depends on."""
    unit, wanted = piece.unit, piece.layout
    columns = [
        [column.name, column.source, str(column.type), column.role, column.must]
        for column in wanted.columns
    ]
    return cache_key(
        {
            "files": digest,
            "unit": [
                unit.name,
                unit.format,
                unit.encoding,
                unit.label,
                unit.split,
                piece.key,
                unit.header,
                unit.column_names,
                unit.unlabelled,
                unit.pictures,
                unit.file_labels,
                unit.one_hot,
                unit.is_class,
                unit.class_names,
                unit.sheet,
            ],
            "limit": wanted.limit,
            "columns": columns,
            "labels": _rules_key(wanted),
        }
    )


def _rules_key(wanted: Layout) -> list[Any]:
    rules = wanted.target.labels if wanted.target else None
    return [sorted(rules.renames.items()), rules.fold] if rules else []


def _remembered(piece: Piece, found: Sequence[pa.Table] | None) -> Parsed | None:
    if found is None:
        return None
    rows, quarantine, facts = found
    told = {name: value for name, value in facts.to_pylist()[0].items() if value is not None}
    return Parsed(rows, quarantine, {"name": piece.unit.name, "rows": rows.num_rows, **told})


def _digest(unit: Unit) -> str:
    """SHA-256 of the file; of several, over their names and hashes; nothing where there are none."""
    if len(unit.paths) == 1 and unit.format != "folders":
        return sha256(unit.paths[0])
    whole = hashlib.sha256()
    for path in unit.paths:
        whole.update(f"{path.name}\0{sha256(path)}\n".encode())
    return whole.hexdigest() if unit.paths else ""


def _of_values(rows: pa.Table, column: str) -> str:
    whole = hashlib.sha256()
    for value in rows[column].to_pylist():
        whole.update(value)
    return whole.hexdigest()


def unit_keys(names: Sequence[str]) -> dict[str, str]:
    """A short hash of each name; longer ones in the rare case that two are equal."""
    length = 8
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    while len({each[:length] for each in hashes.values()}) < len(hashes):
        length *= 2
    return {name: each[:length] for name, each in hashes.items()}


def _reasons(quarantine: pa.Table) -> dict[str, int]:
    return dict(sorted(Counter(quarantine["reason"].to_pylist()).items()))


_MEND = "mend the file, or set ingest.source.format and ingest.columns to what it holds"
_NONE_USABLE = {
    "too_large": "raise ingest.max_bytes_per_value",
    "in_no_class_folder": "put the files into a folder for each class, or put a table beside them that lists file and label",
    "not_bytes": "set ingest.source.path to the folder that holds both the table and the pictures that it lists",
    "several_labels": "write one label in each row: rows with several labels, and spans of a text, are not learned yet",
    "heic": "convert the pictures to JPEG or PNG",
    "git_lfs_pointer": "fetch the files themselves: git lfs pull",
    "picture_for_a_text": "take a task for pictures (gristmill tasks), or give a folder of texts",
}


def _check_rows(rows: pa.Table, quarantine: pa.Table, path: str) -> None:
    if rows.num_rows:
        return
    if not quarantine.num_rows:
        raise InputError(
            "holds no rows",
            where=path,
            remedy="put rows into it, or set ingest.source.path to another file",
        )
    reasons = _reasons(quarantine)
    first = quarantine.slice(0, 1).to_pylist()[0]
    what = f"none of its {quarantine.num_rows} rows can be used: {', '.join(f'{reason} ({count})' for reason, count in reasons.items())}; the first: {first['excerpt']}"
    raise InputError(what, where=first["origin"], remedy=remedy_for(reasons))


def remedy_for(reasons: Iterable[str]) -> str:
    """Return what to do where all rows are refused for these reasons."""
    return known_remedy(reasons) or _MEND


def known_remedy(reasons: Iterable[str]) -> str | None:
    """Return what to do where all rows are refused for one reason that says it; None for others."""
    several = set(reasons)
    return _NONE_USABLE.get(several.pop()) if len(several) == 1 else None


def _classes(rows: pa.Table, wanted: Layout, path: str) -> dict[str, int]:
    """Rows per class, where the target is a class.

    Raises:
        InputError: there are fewer than two.
    """
    if wanted.target is None or wanted.target.type != pa.string():
        return {}
    counts = {
        each["values"]: each["counts"]
        for each in rows[wanted.target.name].drop_null().value_counts().to_pylist()
    }
    if len(counts) < 2:
        what = (
            f"has in its {rows.num_rows} rows only the class {next(iter(counts))!r}; at least two are needed"
            if counts
            else f"has no row with a label among {rows.num_rows}"
        )
        raise InputError(
            what,
            where=path,
            remedy=f"bring rows of another class, or set ingest.columns.{wanted.target.name} to the column that holds the label",
        )
    return dict(sorted(counts.items()))


def _say(journal: Journal, parsed: Sequence[Parsed], quarantine: pa.Table) -> None:
    by_encoding: dict[str, list[str]] = defaultdict(list)
    for each in parsed:
        by_encoding[each.facts["encoding"]].append(each.facts["name"])
    for encoding, names in sorted(by_encoding.items()):
        journal.log(f"read as {encoding}: {some(names)}")
    by_columns: dict[str, list[str]] = defaultdict(list)
    for each in parsed:
        if "columns" in each.facts:
            by_columns[", ".join(each.facts["columns"])].append(each.facts["name"])
    for columns, names in sorted(by_columns.items()):
        journal.log(
            f"without a header (ingest.source.header): {some(names)}; its columns: {columns}"
        )
    for line in refusal_notes(quarantine):
        journal.log(line)


def some(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"


def refusal_notes(quarantine: pa.Table) -> list[str]:
    """Return how many rows are refused for which reason, with the first of each reason by file and line."""
    if not quarantine.num_rows:
        return []
    counts = _reasons(quarantine)
    notes = [
        f"quarantined {quarantine.num_rows}: "
        + ", ".join(f"{reason} {count}" for reason, count in counts.items())
    ]
    shown = set[str]()
    for row in quarantine.slice(0, _LOOKED_AT).to_pylist():
        if row["reason"] not in shown:
            shown.add(row["reason"])
            excerpt = f": {' '.join(row['excerpt'].split())[:_EXCERPT]}" if row["excerpt"] else ""
            remedy = (
                "; a larger ingest.max_bytes_per_value lets it in"
                if row["reason"] == "too_large"
                else ""
            )
            notes.append(f"the first {row['reason']}: {row['origin']}{excerpt}{remedy}")
    return notes
