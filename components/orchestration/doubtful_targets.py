"""List rows whose targets may be wrong for a person, and read the list that the person edited."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.core.errors import InputError
from components.core.files import write_atomic
from components.core.tables import read_manifest, read_table
from components.orchestration.pipeline_params import Params
from components.stages.ingest.encodings import detect
from components.tasks import base

COLUMNS = ("id", "given", "suggested", "score", "query")
# Characters of a query in the list.
_SHOWN = 300
# First characters of a cell that a program for tables would compute, and the mark before them.
_COMPUTED = "=+-@\t\r'"
_MARK = "'"
# Between cells, as programs for tables save them.
_SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Correction:
    """A row with the target that a person accepted.

    Args:
        id: of the row, with a digest of the target.
        columns: the inputs by role, as JSON.
        target: that a person accepted.
    """

    id: str
    columns: Mapping[str, Any]
    target: str


def clean_rows(root: Path, params: Params) -> pa.Table:
    """Return the train and validation rows of a pipeline.

    Raises:
        InputError: clean has not run.
    """
    folder = root / params.pipeline.data / "clean"
    if not (folder / "manifest.json").is_file():
        raise InputError(
            "is missing: the rows have not been cleaned",
            where=str(folder.relative_to(root)),
            remedy=f"gristmill run {params.name}",
        )
    tables = [read_table(folder, split) for split in ("train", "validation")]
    return pa.concat_tables(tables)


def write_doubts(root: Path, params: Params, path: Path, folds: int) -> int:
    """Write the rows whose targets may be wrong as CSV, the most doubtful first.

    Args:
        root: of the project.
        params: of the pipeline.
        path: of the CSV.
        folds: number of fits, each of which leaves one fold out.

    Returns:
        The number of rows that were written.

    Raises:
        InputError: clean has not run, or the task has no such test.
    """
    facet = base.baselines(params.task)
    if not isinstance(facet, base.DoubtsTargets):
        raise InputError(
            f"{params.task} has no test of its targets",
            where="gristmill feedback doubts",
            remedy="name a pipeline of another task",
        )
    rows = clean_rows(root, params)
    manifest = read_manifest(root / params.pipeline.data / "clean")
    doubts = facet.doubtful_targets(
        rows,
        base.schema(params.task).targets.info(manifest),
        params.sections["train"],
        params.sections["clean"],
        folds=folds,
        seed=params.seed,
        inputs=base.chosen_inputs(manifest),
    )
    evaluator = base.evaluator(params.task)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for doubt in doubts:
        (row,) = rows.slice(doubt.row, 1).to_pylist()
        query = evaluator.query(row).model_dump_json()[:_SHOWN]
        texts = [_as_text(value) for value in (row["id"], doubt.given, doubt.suggested)]
        writer.writerow([*texts, f"{doubt.score:.4f}", query])
    # With the mark programs for tables read it as UTF-8.
    write_atomic(path, "\ufeff" + stream.getvalue())
    return len(doubts)


def read_corrections(root: Path, params: Params, path: Path) -> list[Correction]:
    """Return the rows of an edited list, whose suggested targets a person accepts.

    Args:
        root: of the project.
        params: of the pipeline.
        path: of the CSV.

    Raises:
        InputError: the file is no such list, or a row or a target is not known.
    """
    entries = _entries(path)
    rows = clean_rows(root, params)
    known = set(_targets(params.task, rows))
    positions = {name: position for position, name in enumerate(rows["id"].to_pylist())}
    evaluator = base.evaluator(params.task)
    corrections = []
    for line, entry in enumerate(entries, 2):
        where = f"{path}: line {line}"
        if entry["id"] not in positions:
            raise InputError(
                f"{entry['id']!r} is no row of the cleaned data",
                where=where,
                remedy="write the list again: gristmill feedback doubts",
            )
        target = entry["suggested"].strip()
        if target not in known:
            raise InputError(
                f"{target!r} is no target of the cleaned data",
                where=where,
                remedy=f"write one of {', '.join(sorted(known)[:10])}, or delete the line",
            )
        (row,) = rows.slice(positions[entry["id"]], 1).to_pylist()
        digest = hashlib.sha256(target.encode()).hexdigest()[:8]
        columns = evaluator.query(row).model_dump(mode="json")
        corrections.append(Correction(f"{entry['id']}-{digest}", columns, target))
    return corrections


def _entries(path: Path) -> Sequence[Mapping[str, str]]:
    """Return the lines of the list by column.

    Raises:
        InputError: it cannot be read, or lacks a column.
    """
    try:
        content = path.read_bytes()
        encoding = detect(path, "auto", str(path))
    except (OSError, InputError) as error:
        what = error.what if isinstance(error, InputError) else f"cannot be read: {error.strerror}"
        raise InputError(
            what,
            where=str(path),
            remedy="name the file of gristmill feedback doubts, saved as CSV in UTF-8",
        ) from None
    text = content.decode(encoding).removeprefix("\ufeff")
    header = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restval="")
    missing = [name for name in ("id", "suggested") if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(
            f"has no column {missing[0]!r}",
            where=str(path),
            remedy="name the file of gristmill feedback doubts, with its first line",
        )
    return [{name: _from_text(entry[name]) for name in ("id", "suggested")} for entry in reader]


def _as_text(value: str) -> str:
    """Return a cell that no program for tables takes for a formula."""
    return _MARK + value if value[:1] and value[0] in _COMPUTED else value


def _from_text(cell: str) -> str:
    """Return the value of a cell of `_as_text`."""
    is_marked = cell.startswith(_MARK) and cell[1:2] and cell[1] in _COMPUTED
    return cell[1:] if is_marked else cell


def _targets(task: str, rows: pa.Table) -> list[str]:
    """Return the different targets of clean rows as text."""
    names = [role.name for role in base.schema(task).roles if role.role == "target"]
    return [str(value) for value in rows[names[0]].unique().to_pylist()]
