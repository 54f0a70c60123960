"""Stage ingest: a source of any kind becomes one raw table in the task's columns."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.core.cache import Cache, cache_key
from components.core.errors import InputError, ParamsError
from components.core.files import sha256, to_json, write_atomic
from components.core.job import Job, Journal
from components.core.mapped_tables import MappedWriter, write_mapped
from components.core.parallel_map import has_ray, parallel_map
from components.core.tables import write_table
from components.stages.ingest import (
    contract,
    formats,
    mixed_source,
    sklearn_source,
    source_files,
    sql_source,
)
from components.stages.ingest.columns import Layout, layout
from components.stages.ingest.derived_columns import read_layout, with_derived
from components.stages.ingest.dialects import Dialect, dialect_of
from components.stages.ingest.params import (
    Contract,
    Files,
    HuggingFace,
    IngestParams,
    Mixed,
    Sql,
)
from components.stages.ingest.pictures import with_pictures
from components.stages.ingest.source_rows import (
    QUARANTINE,
    Format,
    Unit,
    shaped_parts,
    unique_ids,
    usable_splits,
)
from components.stages.ingest.sources import list_source
from components.stages.ingest.workbooks import sheet_rows
from components.tasks import base
from components.tasks.base import TargetRules

READERS: Mapping[Format, formats.Reader] = {
    "csv": formats.tables,
    "tsv": formats.tables,
    "jsonl": formats.objects,
    "json": formats.objects,
    "xlsx": formats.workbook,
    "parquet": formats.parquet,
    "arrow": formats.arrow,
    "text": formats.lines,
    "fasttext": formats.fasttext,
    "folders": formats.folder,
    "digits": sklearn_source.digits,
}
# Refused rows among which the first of each reason is searched.
_LOOKED_AT = 100_000
_EXCERPT = 80
# What the cache stores of a unit, beside its rows.
_METADATA = pa.schema(
    [("sha256", pa.string()), ("encoding", pa.string()), ("columns", pa.list_(pa.string()))]
)


@dataclass(frozen=True)
class ParseInput:
    """What a worker needs to read one unit.

    Args:
        unit: the unit.
        layout: the columns of the raw table.
        key: prefix of the ids of rows without one.
        folder: for its rows, until they are written as the raw table.
        sample: share of its rows that is read.
        contract: what its rows must be; None: what the task wants alone.
    """

    unit: Unit
    layout: Layout
    key: str
    folder: Path
    sample: float = 1.0
    contract: Contract | None = None


@dataclass(frozen=True)
class Parsed:
    """Rows of one unit."""

    rows: pa.Table
    quarantine: pa.Table
    metadata: Mapping[str, Any]


def run(job: Job) -> None:
    """Write `raw` (with `quarantine/` in it) and `report`.

    Raises:
        InputError: the source is missing, empty, lacks a column, has targets that nothing can be
            learned from, or is written to meanwhile.
        ParamsError: `ingest.columns` names something that the task does not have.
    """
    params: IngestParams = job.params
    wanted = _layout(job, params.columns)
    rules = base.schema(job.task).targets
    listing = list_source(params.source, job.root, rules.words, job.journal.progress)
    stamps = _stamps(params, job, listing.units)
    accepted = source_files.feedback(params.feedback, job.root) if params.feedback else []
    # DVC compares the params, not the folder of feedback.
    feedback = accepted if params.seen else []
    keys = unit_keys([unit.name for unit in (*listing.units, *feedback)])
    inputs = _parse_inputs(job, wanted, listing.units, feedback, keys)
    cache = Cache(job.cache, job.journal.log)
    parsed = _read(inputs, cache, job.journal)
    _log_feedback(job.journal, len(accepted), params.seen)
    for note in listing.notes:
        job.journal.log(note)
    tables = [part.rows for part in parsed]
    if isinstance(params.source, Mixed):
        parts = [piece.unit.part for piece in inputs]
        tables = mixed_source.draw(tables, parts, params.source, job.journal)
    of_source = len(listing.units)
    rows = _concatenated(tables[:of_source], wanted.schema)
    quarantine = _concatenated([part.quarantine for part in parsed], QUARANTINE)
    if params.contract:
        rows, repeated = contract.apply_uniqueness(rows, params.contract)
        quarantine = pa.concat_tables([quarantine, repeated])
        contract.check_kept(params.contract, quarantine)
    # Feedback may correct a row of the source, which it equals.
    rows = pa.concat_tables([rows, *tables[of_source:]])
    _check_rows(rows, quarantine, params.source.place, rules)
    target = wanted.target.name if wanted.target else None
    description: Mapping[str, Any] = {}
    if target:
        description = rules.describe_source(rows[target], target, params.source.place)
    rows, split_note = usable_splits(rows, target, listing.units, rules.words)
    rows, replaced = unique_ids(rows, keys)
    if replaced:
        job.journal.log(
            f"{replaced} ids occur more than once in the source: those rows got ids of their own"
        )
    _log_parsed(job.journal, parsed, quarantine)
    if split_note:
        job.journal.log(split_note)
    if target:
        for note in rules.source_notes(rows[target]):
            job.journal.log(note)
    files = [dict(part.metadata) for part in parsed]
    job.journal.params(_watermark(params, job, files, rows.num_rows + quarantine.num_rows))
    raw = job.outputs["raw"]
    chosen = schema_of_params(job.task, params).chosen
    manifest = {"files": files, **base.inputs_entry(chosen), **description}
    write_table(raw, {"rows": rows}, manifest)
    reasons = {"reasons": _reasons(quarantine)}
    write_table(raw / "quarantine", {"quarantine": quarantine}, reasons)
    report = {
        "rows": rows.num_rows,
        "quarantined": quarantine.num_rows,
        "files": len(parsed),
    }
    if target:
        report |= rules.count_source(description)
    write_atomic(job.outputs["report"], to_json(report))
    cache.close()
    _check_unchanged(params, job, listing.units, stamps)


def _parse_inputs(
    job: Job,
    wanted: Layout,
    units: Sequence[Unit],
    feedback: Sequence[Unit],
    keys: Mapping[str, str],
) -> list[ParseInput]:
    """Return what workers need to read the units of the source, and those of feedback.

    Args:
        job: ingest.
        wanted: the columns of the raw table.
        units: of the source.
        feedback: units of accepted feedback, which no contract concerns.
        keys: unit name -> prefix of the ids of its rows.

    Raises:
        ParamsError: the columns of a part, or the contract, do not fit the raw table.
    """
    params: IngestParams = job.params
    layouts = _layouts(job, wanted)
    if params.contract:
        contract.check_columns(params.contract, wanted)
    inputs = [
        ParseInput(
            unit=unit,
            layout=layouts[unit.part],
            key=keys[unit.name],
            folder=job.state,
            sample=params.sample,
            contract=params.contract,
        )
        for unit in units
    ]
    # Feedback has no ids, groups and splits of the source.
    feedback_columns = {}
    for role, name in params.columns.items():
        if role not in ("id", "group", "split"):
            feedback_columns[role] = name
    feedback_layout = _layout_of_feedback(_layout(job, feedback_columns))
    for unit in feedback:
        inputs.append(ParseInput(unit, feedback_layout, keys[unit.name], job.state))
    return inputs


def _layout(job: Job, columns: Mapping[str, str]) -> Layout:
    """Return the columns of the raw table.

    Args:
        columns: role -> column of the source.
    """
    params: IngestParams = job.params
    schema = schema_of_params(job.task, params)
    value_map = schema.targets.value_map(params)
    return layout(schema.roles, columns, params.max_bytes_per_value, value_map, params.time_order)


def _layouts(job: Job, wanted: Layout) -> dict[str, Layout]:
    """Return the columns of each part of a mix, by name; of other sources those of all, under "".

    Args:
        job: ingest.
        wanted: the columns of the raw table, by the names of all parts.
    """
    layouts = {"": wanted}
    params: IngestParams = job.params
    if isinstance(params.source, Mixed):
        for name, part in params.source.parts.items():
            columns = params.columns if part.columns is None else part.columns
            of_part = mixed_source.part_layout(_layout(job, columns), part, name)
            if of_part.schema != wanted.schema:
                raise ParamsError(
                    "has a column of times where ingest.columns has none, or lacks one",
                    where=f"params.yaml: ingest.source.parts.{name}.columns.time",
                    remedy="name the times of all parts and in ingest.columns, or of none",
                )
            layouts[name] = of_part
    return layouts


def _layout_of_feedback(wanted: Layout) -> Layout:
    """Return the columns of feedback.

    Its targets are those of a model, which need no conversion, and its rows may have no time.
    """
    columns = []
    for column in wanted.columns:
        must = column.must and column.role != "time"
        columns.append(replace(column, must=must, value_map=None))
    return replace(wanted, columns=columns)


def schema_of_params(task: str, params: IngestParams) -> base.Schema:
    """Return the schema of a pipeline.

    Args:
        task: the task's id.
        params: the section `ingest`.
    """
    schema = base.schema(task)
    return schema.with_inputs(schema.inputs(params))


def _concatenated(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Return tables as one, which is empty where there are none."""
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _log_feedback(journal: Journal, number: int, seen: str | None) -> None:
    """Log whether the files of feedback were read.

    Args:
        journal: where the message is logged.
        number: of the files.
        seen: digest of the files in a retrain; None outside of one.
    """
    if not number:
        return
    state = "left to gristmill retrain"
    if seen:
        state = f"read as a retrain found them ({seen[:12]})"
    journal.log(f"{number} files of feedback: {state}")


def _check_unchanged(
    params: IngestParams,
    job: Job,
    units: Sequence[Unit],
    stamps: Sequence[tuple[Any, ...]],
) -> None:
    """Check that a source was not written to since `stamps` were taken.

    DVC would record the new source as the one that was read.

    Raises:
        InputError: a file is new, gone or another one.
    """
    source = params.source
    is_folder = isinstance(source, HuggingFace) and not source.dataset
    if is_folder or isinstance(source, (Files, Mixed)):
        words = base.schema(job.task).targets.words
        units = list_source(source, job.root, words).units
    if _stamps(params, job, units) != stamps:
        raise InputError(
            "was written to while it was read",
            where=params.source.place,
            remedy="let the other program end, then run the same command again",
        )


def records(unit: Unit, wanted: Layout, used: set[str]) -> formats.Found:
    """Yield the records of a unit, with the pictures that it names.

    Args:
        unit: the unit.
        wanted: the columns.
        used: the encodings, to which those of the unit are added.
    """
    items = read_unit(unit, wanted, used)
    return with_pictures(items, unit, wanted) if unit.pictures else items


def read_unit(unit: Unit, wanted: Layout, used: set[str]) -> formats.Found:
    """Yield the records of a unit, without the pictures that it names.

    Args:
        unit: the unit.
        wanted: the columns of the raw table.
        used: the encodings, to which those of the unit are added.
    """
    items = READERS[unit.format](unit, read_layout(unit, wanted), used)
    return with_derived(items, unit)


def prepared(unit: Unit, wanted: Layout) -> tuple[Unit, Layout]:
    """Return a unit with its dialect, and the columns that it must have.

    A table of a validation or test split may have no targets.

    Args:
        unit: the unit.
        wanted: the columns of the raw table.
    """
    if unit.split in ("validation", "test"):
        columns = []
        for column in wanted.columns:
            must = column.must and column.role != "target"
            columns.append(replace(column, must=must))
        wanted = replace(wanted, columns=columns)
    if unit.paths and unit.paths[0].stat().st_size:
        dialect = _dialect(unit, read_layout(unit, wanted))
        unit = replace(unit, dialect=dialect)
    return unit, wanted


def _dialect(unit: Unit, wanted: Layout) -> Dialect | None:
    """Return how a table is written; None for a unit that is no table of text or cells."""
    if unit.format in ("csv", "tsv"):
        return dialect_of(unit, wanted)
    if unit.format != "xlsx":
        return None
    sheet = sheet_rows(unit, wanted)
    return Dialect("binary", "", quoted=False, skip=0, header=sheet.header, names=sheet.names)


def _stamps(params: IngestParams, job: Job, units: Sequence[Unit]) -> list[tuple[Any, ...]]:
    """Return name, size, time and inode of each file of a source, which a write changes."""
    paths: list[Path] = []
    for unit in units:
        paths.extend(unit.paths)
    if isinstance(params.source, Sql):
        paths.append(job.root / params.source.path / sql_source.WATERMARK)
    stamps: list[tuple[Any, ...]] = []
    for path in paths:
        if path.exists():
            stat = path.stat()
            stamps.append((path, stat.st_size, stat.st_mtime_ns, stat.st_ino))
        else:
            stamps.append((path,))
    return stamps


def _watermark(
    params: IngestParams,
    job: Job,
    files: Sequence[Mapping[str, Any]],
    rows: int,
) -> dict[str, Any]:
    """Return what identifies the source, for the record of the run.

    It is a digest of all files, the number of their rows, and how far a database was pulled.

    Args:
        params: of ingest.
        job: ingest.
        files: name and SHA-256 of each file.
        rows: number of raw rows, refused ones included.
    """
    hashes = [[file["name"], file["sha256"]] for file in files]
    watermark = {"source.digest": cache_key({"files": hashes}), "source.rows": rows}
    if isinstance(params.source, Sql):
        mark = sql_source.read(job.root / params.source.path)
        if mark:
            watermark["source.cursor"] = mark.value
    return watermark


def parse(piece: ParseInput) -> Parsed:
    """Read one unit, as a Ray task.

    Args:
        piece: the unit, and the columns of the raw table.
    """
    used = set[str]()
    unit, wanted = prepared(piece.unit, piece.layout)
    items = records(unit, wanted, used)
    if piece.sample < 1:
        items = drawn(items, piece.key, piece.sample)
    rows_writer = MappedWriter(piece.folder / f"{piece.key}.arrow", wanted.schema)
    refused_writer = MappedWriter(piece.folder / f"{piece.key}-refused.arrow", QUARANTINE)
    for some_rows, refused in shaped_parts(items, wanted, unit, piece.key):
        if piece.contract:
            kept, broken = contract.apply_rules(some_rows, piece.contract, wanted)
            rows_writer.write(kept)
            refused_writer.write(pa.concat_tables([refused, broken]))
        else:
            rows_writer.write(some_rows)
            refused_writer.write(refused)
    rows = rows_writer.mapped()
    quarantine = refused_writer.mapped()
    digest = _digest(unit) or _values_digest(rows, wanted.input.name)
    metadata = {
        "name": unit.name,
        "sha256": digest,
        "encoding": ", ".join(sorted(used)) or "binary",
        "rows": rows.num_rows,
    }
    if unit.dialect and not unit.dialect.header:
        metadata["columns"] = list(unit.dialect.names)
    return Parsed(rows, quarantine, metadata)


def drawn(items: formats.Found, key: str, share: float) -> formats.Found:
    """Yield some of the records of a unit, the same ones each time.

    A hash of the position draws them, so a record that was drawn stays when the unit grows.

    Args:
        items: of the unit.
        key: of the unit.
        share: of the records, 0-1.
    """
    limit = share * 2**64
    for item in items:
        position = f"{key}/{item.file}/{item.row}"
        digest = hashlib.blake2b(position.encode(), digest_size=8).digest()
        if int.from_bytes(digest, "big") < limit:
            yield item


def _read(inputs: Sequence[ParseInput], cache: Cache, journal: Journal) -> list[Parsed]:
    """Return the rows of all units, in order.

    A unit that an earlier run has read in the same way, with the same bytes, is taken from the
    cache.

    Args:
        inputs: of the units.
        cache: of earlier runs.
        journal: where the progress is shown.
    """
    digests = [_digest(item.unit) for item in inputs]
    keys = [_key(item, digest) for item, digest in zip(inputs, digests, strict=True)]
    parsed: list[Parsed | None] = []
    for item, key in zip(inputs, keys, strict=True):
        tables = cache.get(key, [item.layout.schema, QUARANTINE, _METADATA])
        parsed.append(_from_cache(item, tables))
    new = [position for position, part in enumerate(parsed) if part is None]
    new_inputs = [inputs[position] for position in new]
    results: Iterable[Parsed]
    if len(new) > 1:
        results = map(_mapped, new_inputs, parallel_map(parse, new_inputs))
    else:
        # One unit is read here: a task of its own would only be started and waited for.
        results = map(parse, new_inputs)
    done = len(inputs) - len(new)
    for position, part in zip(new, results, strict=True):
        parsed[position] = part
        # A unit without files has another digest, and so has one that was written to meanwhile.
        if digests[position] == part.metadata["sha256"]:
            metadata = pa.Table.from_pylist([part.metadata], schema=_METADATA)
            cache.put(keys[position], [part.rows, part.quarantine, metadata])
        done += 1
        journal.progress(done, len(inputs), "files")
    return [part for part in parsed if part is not None]


def _mapped(piece: ParseInput, part: Parsed) -> Parsed:
    """Return what a task has read, in files in place of the shared memory of Ray."""
    if not has_ray():
        return part
    file = piece.folder / f"{piece.key}-read.arrow"
    refused = piece.folder / f"{piece.key}-read-refused.arrow"
    return Parsed(
        write_mapped([part.rows], part.rows.schema, file),
        write_mapped([part.quarantine], QUARANTINE, refused),
        part.metadata,
    )


def _key(piece: ParseInput, digest: str) -> str:
    """Return the cache key of a unit: a hash of all that reading it depends on."""
    unit = piece.unit
    wanted = piece.layout
    columns = [
        [
            column.name,
            column.source,
            str(column.type),
            column.role,
            column.must,
            column.field_settings,
        ]
        for column in wanted.columns
    ]
    return cache_key(
        {
            "files": digest,
            "unit": [
                unit.name,
                unit.format,
                unit.encoding,
                unit.target_value,
                unit.split,
                piece.key,
                piece.sample,
                unit.header,
                unit.column_names,
                unit.unlabelled,
                unit.pictures,
                unit.file_targets,
                unit.one_hot,
                unit.has_file_target,
                unit.value_names,
                unit.sheet,
                unit.first_line,
                unit.other_lines,
            ],
            "limit": wanted.limit,
            "columns": columns,
            "values": _values_key(wanted),
            "contract": repr(piece.contract),
        }
    )


def _values_key(wanted: Layout) -> Sequence[Any]:
    """Return the conversion of the target's values, as a part of the cache key."""
    if wanted.target is None or wanted.target.value_map is None:
        return []
    return wanted.target.value_map.cache_key()


def _from_cache(piece: ParseInput, tables: Sequence[pa.Table] | None) -> Parsed | None:
    """Return the rows of a unit from tables of the cache; None if there are none."""
    if tables is None:
        return None
    rows, quarantine, stored = tables
    metadata = {"name": piece.unit.name, "rows": rows.num_rows}
    for name, value in stored.to_pylist()[0].items():
        if value is not None:
            metadata[name] = value
    return Parsed(rows, quarantine, metadata)


def _digest(unit: Unit) -> str:
    """Return the SHA-256 of a unit's file; empty if it has none.

    Of several files it is taken over their names and hashes.
    """
    if len(unit.paths) == 1 and unit.format != "folders":
        return sha256(unit.paths[0])
    if not unit.paths:
        return ""
    digest = hashlib.sha256()
    for path in unit.paths:
        digest.update(f"{path.name}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


def _values_digest(rows: pa.Table, column: str) -> str:
    """Return the SHA-256 of the values of a column."""
    digest = hashlib.sha256()
    for chunk in rows[column].chunks:
        for value in chunk.to_pylist():
            digest.update(value)
    return digest.hexdigest()


def unit_keys(names: Sequence[str]) -> dict[str, str]:
    """Return a short hash of each name; longer ones in the rare case that two are equal.

    Args:
        names: of the units.

    Returns:
        Name -> prefix of its SHA-256 in hexadecimal, at least 8 digits.
    """
    length = 8
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    while len({digest[:length] for digest in hashes.values()}) < len(hashes):
        length *= 2
    return {name: digest[:length] for name, digest in hashes.items()}


def _reasons(quarantine: pa.Table) -> dict[str, int]:
    """Return the number of refused rows for each reason."""
    counts = quarantine["reason"].value_counts().to_pylist()
    return dict(sorted((entry["values"], entry["counts"]) for entry in counts))


_MEND = "mend the file, or set ingest.source.format and ingest.columns to what it holds"
_NONE_USABLE = {
    "too_large": "raise ingest.max_bytes_per_value",
    "not_bytes": (
        "set ingest.source.path to the folder that holds both the table "
        "and the pictures that it lists"
    ),
    "heic": "convert the pictures to JPEG or PNG",
    "git_lfs_pointer": "fetch the files themselves: git lfs pull",
    "picture_for_a_text": "take a task for pictures (gristmill tasks), or give a folder of texts",
}


def _check_rows(
    rows: pa.Table,
    quarantine: pa.Table,
    path: str,
    targets: TargetRules,
) -> None:
    """Check that a source has rows.

    Args:
        rows: that can be used.
        quarantine: the others.
        path: of the source.
        targets: rules of the task.

    Raises:
        InputError: it has none that can be used.
    """
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
    counts = ", ".join(f"{reason} ({count})" for reason, count in reasons.items())
    raise InputError(
        f"none of its {quarantine.num_rows} rows can be used: {counts}; "
        f"the first: {first['excerpt']}",
        where=first["origin"],
        remedy=remedy_for(reasons, targets),
    )


def remedy_for(reasons: Iterable[str], targets: TargetRules) -> str:
    """Return what to do where all rows are refused for these reasons.

    Args:
        reasons: of the refused rows.
        targets: rules of the task.
    """
    return known_remedy(reasons, targets) or _MEND


def known_remedy(reasons: Iterable[str], targets: TargetRules) -> str | None:
    """Return what to do where all rows are refused for one reason that says it; None for others.

    All rules of the contract count as one reason.

    Args:
        reasons: of the refused rows.
        targets: rules of the task.
    """
    distinct = set(reasons)
    if all(reason.startswith(f"{contract.REASON}_") for reason in distinct):
        return "correct the rows, or ingest.contract"
    if len(distinct) != 1:
        return None
    words = targets.words
    folders = (
        f"put the files into a folder for each {words.category}, "
        f"or put a table beside them that lists file and {words.value}"
    )
    remedies = {**_NONE_USABLE, words.outside: folders, **targets.remedies}
    return remedies.get(distinct.pop())


def _log_parsed(journal: Journal, parsed: Sequence[Parsed], quarantine: pa.Table) -> None:
    """Log encodings, tables without a header, and refused rows."""
    by_encoding: dict[str, list[str]] = defaultdict(list)
    by_columns: dict[str, list[str]] = defaultdict(list)
    for part in parsed:
        name = part.metadata["name"]
        by_encoding[part.metadata["encoding"]].append(name)
        if "columns" in part.metadata:
            by_columns[", ".join(part.metadata["columns"])].append(name)
    for encoding, names in sorted(by_encoding.items()):
        journal.log(f"read as {encoding}: {some(names)}")
    for columns, names in sorted(by_columns.items()):
        journal.log(
            f"without a header (ingest.source.header): {some(names)}; its columns: {columns}"
        )
    for line in refusal_notes(quarantine):
        journal.log(line)


def some(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are.

    Args:
        names: of files.
    """
    shown = ", ".join(names[:5])
    if len(names) > 5:
        return f"{shown} and {len(names) - 5} more"
    return shown


def refusal_notes(quarantine: pa.Table) -> list[str]:
    """Return messages about refused rows: how many for each reason, and the first of each.

    Args:
        quarantine: the refused rows.
    """
    if not quarantine.num_rows:
        return []
    counts = [f"{reason} {count}" for reason, count in _reasons(quarantine).items()]
    notes = [f"quarantined {quarantine.num_rows}: {', '.join(counts)}"]
    shown = set[str]()
    for row in quarantine.slice(0, _LOOKED_AT).to_pylist():
        if row["reason"] not in shown:
            shown.add(row["reason"])
            notes.append(_first_note(row))
    return notes


def _first_note(row: Mapping[str, Any]) -> str:
    """Return a message about the first row that was refused for a reason."""
    note = f"the first {row['reason']}: {row['origin']}"
    if row["excerpt"]:
        note += f": {' '.join(row['excerpt'].split())[:_EXCERPT]}"
    if row["reason"] == "too_large":
        note += "; a larger ingest.max_bytes_per_value lets it in"
    return note
