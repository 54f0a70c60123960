"""What a worker of batch scoring does with a piece: the model is loaded once a process, and what cannot be answered gets a reason."""

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

ANSWER = "predicted_"  # begins the names of all columns that are added
REASON = f"{ANSWER}reason"
_BATCH = 64


@dataclass(frozen=True)
class Model:
    """What a worker loads: a bundle as `read_bundle` verified it, or a reference to that in Ray."""

    digest: str  # of the card, which holds the hashes of the files
    name: str  # NAME version N
    # One item, (card, files). In a sequence Ray hands a reference over as it is.
    bundle: Sequence[Any]
    abstain: float | None = None  # of section `serve`


@dataclass(frozen=True)
class Piece:
    """A part of the input for a worker."""

    number: int
    rows: Rows
    columns: Sequence[Column]  # that are asked, the first above all
    limit: int  # bytes of one value
    model: Model


def score(piece: Piece) -> tuple[int, pa.Table]:
    """The number of the piece, and its rows with the answers' columns.

    Raises:
        InputError: the bundle is not whole, or the input has a column of an answer's name.
    """
    predictor = _loaded(piece.model)
    values = {column.name: raw_values(piece.rows, column) for column in piece.columns}
    reasons: list[str | None] = list(piece.rows.broken)
    queries: dict[int, Any] = {}
    for row in range(len(reasons)):
        if reasons[row] is None:
            try:
                raw = {name: column[row] for name, column in values.items()}
                queries[row] = _query(predictor.card.task, piece.columns, piece.limit, raw)
            except Reject as reject:
                reasons[row] = reject.reason
    answers: list[Any] = [None] * len(reasons)
    order = sorted(
        queries, key=lambda row: len(queries[row].model_dump_json())
    )  # texts of like length together waste no padding
    for start in range(0, len(order), _BATCH):
        chunk = order[start : start + _BATCH]
        for row, given in zip(chunk, _ask(predictor, [queries[row] for row in chunk]), strict=True):
            answers[row], reasons[row] = (
                (None, given.reason) if isinstance(given, Reject) else (given, None)
            )
    return piece.number, _joined(piece, predictor.card.data_hash, answers, reasons)


def first_queries(task: str, wanted: Layout, rows: Rows | None) -> list[str]:
    """Return the first query that can be made of some rows, as a list of JSON; or an empty list."""
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


def _query(task: str, columns: Sequence[Column], limit: int, values: Mapping[str, Any]) -> Any:
    """Return the query of one row. Raises `Reject`."""
    from pydantic import ValidationError

    roles = {role.name: role for role in base.schema(task).roles}
    inputs = {column.name: column.convert(values[column.name], limit) for column in columns}
    for name, value in inputs.items():
        if value is None:
            if roles[name].required:
                raise Reject(f"no_{name}")
            inputs[name] = roles[name].field.normalize(None)
    try:
        return base.evaluator(task).query(inputs)
    except ValidationError as error:
        raise Reject(error.errors()[0]["type"]) from None


def _ask(predictor: Predictor, queries: Sequence[Any]) -> list[Any]:
    """An answer or a `Reject` for each query: one that is refused takes no other with it."""
    try:
        return list(predictor.predict(queries))
    except Reject as reject:
        if len(queries) == 1:
            return [reject]
        middle = len(queries) // 2
        return [*_ask(predictor, queries[:middle]), *_ask(predictor, queries[middle:])]


def _joined(
    piece: Piece, data_hash: str, answers: Sequence[Any], reasons: Sequence[str | None]
) -> pa.Table:
    rows = [_flat(answer) if answer is not None else {} for answer in answers]
    names = dict.fromkeys(name for row in rows for name in row)
    by = [None if answer is None else piece.model.name for answer in answers]
    added = {
        **{f"{ANSWER}{name}": pa.array([row.get(name) for row in rows]) for name in names},
        f"{ANSWER}by": pa.array(by, pa.string()),
        f"{ANSWER}data_hash": pa.array(
            [None if answer is None else data_hash for answer in answers], pa.string()
        ),
        REASON: pa.array(reasons, pa.string()),
    }
    table = piece.rows.originals
    for name, column in added.items():
        if name in table.column_names:
            raise InputError(
                f"has a column {name!r} already, which answers would hide",
                where="--in",
                remedy="rename or drop it",
            )
        table = table.append_column(name, column)
    return table


def _flat(answer: Any) -> dict[str, Any]:
    """The fields of an answer; one that is a mapping becomes a column a key."""
    flat: dict[str, Any] = {}
    for name, value in answer.model_dump().items():
        flat |= (
            {f"{name}_{key}": each for key, each in value.items()}
            if isinstance(value, Mapping)
            else {name: value}
        )
    return flat


def _loaded(model: Model) -> Predictor:
    key = (model.digest, model.abstain)
    held = _HELD.get(key)
    if held is None:
        _HELD.clear()  # one at a time: a worker of Ray outlives a run
        held = _HELD[key] = _load(model)
    return held


def _load(model: Model) -> Predictor:
    from components.inference.predictor import predictor_of

    (bundle,) = model.bundle
    if not isinstance(bundle, tuple):
        import ray

        bundle = ray.get(bundle)
    card, files = bundle
    return predictor_of(card, files, Path(model.name), model.abstain)


_HELD: dict[tuple[str, float | None], Predictor] = {}
