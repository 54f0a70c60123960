"""The work of one process of batch scoring: the answers to a chunk of rows.

A process loads the model once. A row that cannot be answered gets a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from components.core.errors import InputError
from components.fields.base import Reject
from components.orchestration.batch.batch_input import Rows, raw_values
from components.stages.ingest.columns import Column, Layout
from components.tasks import base

if TYPE_CHECKING:
    from components.inference.predictor import Predictor

# Begins the names of all columns that are added.
ANSWER = "predicted_"
REASON = f"{ANSWER}reason"
_BATCH = 64


@dataclass(frozen=True)
class Model:
    """Describes the model that a worker loads.

    Args:
        digest: of the card, which holds the hashes of the files.
        name: NAME version N.
        bundle: one item, the card and the files as `read_bundle` verified them, or a reference to
            that in Ray. Inside a sequence Ray does not resolve the reference.
        abstain: of section `serve`.
    """

    digest: str
    name: str
    bundle: Sequence[Any]
    abstain: float | None = None


@dataclass(frozen=True)
class Piece:
    """Holds a chunk of the input for a worker.

    Args:
        number: of the chunk.
        rows: of the chunk.
        columns: the input columns, the main one first.
        limit: bytes of one value.
        model: to answer with.
    """

    number: int
    rows: Rows
    columns: Sequence[Column]
    limit: int
    model: Model


def score(piece: Piece) -> tuple[int, pa.Table]:
    """Answer the rows of a chunk.

    Args:
        piece: the chunk.

    Returns:
        The number of the chunk, and its rows with the columns of the answers.

    Raises:
        InputError: the bundle is damaged, or the input has a column with the name of an answer.
    """
    predictor = _loaded(piece.model)
    reasons: list[str | None] = list(piece.rows.broken)
    queries = _queries(piece, predictor.card.task, reasons)
    answers: list[Any] = [None] * len(reasons)
    # Batches of texts of similar length need less padding.
    order = sorted(queries, key=lambda row: len(queries[row].model_dump_json()))
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        results = _predict(predictor, [queries[row] for row in batch])
        for row, result in zip(batch, results, strict=True):
            if isinstance(result, Reject):
                reasons[row] = result.reason
            else:
                answers[row] = result
    return piece.number, _with_answers(piece, predictor.card.data_hash, answers, reasons)


def _queries(piece: Piece, task: str, reasons: list[str | None]) -> dict[int, Any]:
    """Return row -> query. Rows without a query get a reason."""
    values = {column.name: raw_values(piece.rows, column) for column in piece.columns}
    queries: dict[int, Any] = {}
    for row, reason in enumerate(reasons):
        if reason is not None:
            continue
        try:
            raw = {name: column[row] for name, column in values.items()}
            queries[row] = _query(task, piece.columns, piece.limit, raw)
        except Reject as reject:
            reasons[row] = reject.reason
    return queries


def first_queries(task: str, wanted: Layout, rows: Rows | None) -> list[str]:
    """Return the first query that can be made of some rows.

    Args:
        task: its id.
        wanted: the input columns.
        rows: of the input; None: there are none.

    Returns:
        The query as JSON in a list, or an empty list.
    """
    if rows is None:
        return []
    head = Rows(rows.originals.slice(0, _BATCH), rows.broken[:_BATCH])
    values = {column.name: raw_values(head, column) for column in wanted.columns}
    for row, reason in enumerate(head.broken):
        if reason is None:
            raw = {name: column[row] for name, column in values.items()}
            with suppress(Reject):
                return [_query(task, wanted.columns, wanted.limit, raw).model_dump_json()]
    return []


def _query(
    task: str,
    columns: Sequence[Column],
    limit: int,
    values: Mapping[str, Any],
) -> Any:
    """Return the query of one row.

    Raises:
        Reject: the row cannot be a query.
    """
    from pydantic import ValidationError

    inputs = {}
    for column in columns:
        value = column.convert(values[column.name], limit)
        if value is None:
            if column.needs_value:
                raise Reject(f"no_{column.name}")
            assert column.field is not None
            value = column.field.normalize(None)
        inputs[column.name] = value
    try:
        return base.evaluator(task).query(inputs)
    except ValidationError as error:
        raise Reject(error.errors()[0]["type"]) from None


def _predict(predictor: Predictor, queries: Sequence[Any]) -> list[Any]:
    """Return an answer or a `Reject` for each query. A rejected query does not affect others."""
    try:
        return list(predictor.predict(queries))
    except Reject as reject:
        if len(queries) == 1:
            return [reject]
        middle = len(queries) // 2
        return [*_predict(predictor, queries[:middle]), *_predict(predictor, queries[middle:])]


def _with_answers(
    piece: Piece, data_hash: str, answers: Sequence[Any], reasons: Sequence[str | None]
) -> pa.Table:
    """Return the rows of a chunk with the columns of the answers."""
    table = piece.rows.originals
    columns = _answer_columns(answers, piece.model.name, data_hash)
    columns[REASON] = pa.array(reasons, pa.string())
    for name, column in columns.items():
        if name in table.column_names:
            raise InputError(
                f"has a column {name!r} already, which answers would hide",
                where="--in",
                remedy="rename or drop it",
            )
        table = table.append_column(name, column)
    return table


def _answer_columns(answers: Sequence[Any], model: str, data_hash: str) -> dict[str, pa.Array]:
    rows = [{} if answer is None else _flat(answer) for answer in answers]
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(row)
    columns: dict[str, pa.Array] = {}
    for name in names:
        columns[f"{ANSWER}{name}"] = pa.array([row.get(name) for row in rows])
    columns[f"{ANSWER}by"] = _constant(model, answers)
    columns[f"{ANSWER}data_hash"] = _constant(data_hash, answers)
    return columns


def _constant(text: str, answers: Sequence[Any]) -> pa.Array:
    """Return a column with a text in each row that has an answer."""
    return pa.array([None if answer is None else text for answer in answers], pa.string())


def _flat(answer: Any) -> dict[str, Any]:
    """Return the fields of an answer. Each key of a mapping becomes a field."""
    flat: dict[str, Any] = {}
    for name, value in answer.model_dump().items():
        if isinstance(value, Mapping):
            flat |= {f"{name}_{key}": entry for key, entry in value.items()}
        else:
            flat[name] = value
    return flat


def _loaded(model: Model) -> Predictor:
    key = (model.digest, model.abstain)
    predictor = _PREDICTORS.get(key)
    if predictor is None:
        # A worker of Ray outlives a run. It must not hold the models of several runs.
        _PREDICTORS.clear()
        predictor = _load(model)
        _PREDICTORS[key] = predictor
    return predictor


def _load(model: Model) -> Predictor:
    from components.inference.predictor import predictor_of

    (bundle,) = model.bundle
    if not isinstance(bundle, tuple):
        import ray

        bundle = ray.get(bundle)
    card, files = bundle
    return predictor_of(card, files, Path(model.name), model.abstain)


_PREDICTORS: dict[tuple[str, float | None], Predictor] = {}
