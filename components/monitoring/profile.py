"""Profile of the inputs: features of a row, and their distribution over the training rows.

The bundle carries the profile. It holds features of the content only, and no row of the data.
"""

from __future__ import annotations

import base64
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.core.sorted_arrays import distinct
from components.fields.base import Field, Reject
from components.metrics.distributions import names, numbers
from components.monitoring import embedding, word_rarity
from components.monitoring.embedding import Space, describe_points
from components.monitoring.word_rarity import Rarity
from components.tasks.base import INPUTS, TaskEvaluator, schema

# "text.length" -> 71.0, "text.script" -> "han", "text.words" -> ["酒店", "早餐"],
# "image.embedding" -> (0.12, -0.031, …)
Features = dict[str, float | str | list[str] | tuple[float, ...]]
# the shares of the most common pieces are stored
_WORDS = 300
# a piece in this share of the rows is common
_COMMON = 0.005
# columns that are described: the card of a bundle has a limit
_MOST_COLUMNS = 400
# bits of the hash of a piece
_BITS = 17
# a piece in so many training rows is known
_SEEN = 2
_DISTRIBUTIONS: Mapping[str, Callable[[Sequence[Any]], dict[str, Any]]] = {
    "names": names,
    "numbers": numbers,
}


def profile_of(
    columns: Mapping[str, Sequence[Any]], fields: Mapping[str, Field], clean: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe training rows.

    Whether a piece is known is judged for each row from the other rows, as for new rows. Otherwise
    training would look more familiar than any new row can.

    Args:
        columns: input columns of clean train rows, nothing added to them. Beyond 400 columns the
            others are left out.
        fields: by column.
        clean: the params that shape the fields, so that new inputs are normalized alike.

    Returns:
        {"rows", "clean", "fields": {name: distribution}, and by column "known": a bitmap of words,
        "rarity": of words, "spaces": axes of its embedding}.
    """
    profile: dict[str, Any] = {
        "rows": len(next(iter(columns.values()))),
        "clean": dict(clean),
        "fields": {},
        "known": {},
        "rarity": {},
        "spaces": {},
    }
    for column, values in islice(columns.items(), _MOST_COLUMNS):
        _describe_column(profile, column, values, fields[column])
    return profile


def _describe_column(
    profile: dict[str, Any], column: str, values: Sequence[Any], field: Field
) -> None:
    """Add a column to a profile."""
    distributions = profile["fields"]
    features = [field.profile(value) for value in values]
    # Not all rows have all statistics: a missing number has no value.
    keys: dict[str, None] = {}
    for row in features:
        keys |= dict.fromkeys(row)
    for key in keys:
        values_of_key = [row[key] for row in features if key in row]
        distributions[f"{column}.{key}"] = _distribution(values_of_key)
    pieces = [set(field.pieces(value)) for value in values]
    counts = _count_rows_with(pieces)
    hash_of = dict(zip(counts, _hashes(counts).tolist(), strict=True))
    hashes = []
    for row_pieces in pieces:
        hashes.append(np.array([hash_of[piece] for piece in row_pieces], dtype=np.int64))
    if counts:
        axes, points = embedding.learn_words(hashes)
    else:
        vectors = [field.vector(value) for value in values]
        axes, points = embedding.learn([vector for vector in vectors if vector is not None])
    if points:
        profile["spaces"][column] = axes
        distributions[f"{column}.embedding"] = describe_points(points)
    if counts:
        _describe_pieces(profile, column, hashes, counts)


def _describe_pieces(
    profile: dict[str, Any],
    column: str,
    hashes: Sequence[NDArray[np.int64]],
    counts: Mapping[str, int],
) -> None:
    """Add the pieces of a column to a profile.

    Args:
        profile: to add to.
        column: the name of the column.
        hashes: of each row the hashes of its different pieces.
        counts: piece -> rows that have it.
    """
    rows = profile["rows"]
    distributions = profile["fields"]
    flat = np.concatenate(hashes)
    sizes = np.array([len(row_hashes) for row_hashes in hashes])
    text_of_piece = np.repeat(np.arange(len(hashes)), sizes)
    pairs = distinct((text_of_piece << _BITS) + flat)
    seen = np.bincount(pairs & ((1 << _BITS) - 1), minlength=1 << _BITS)
    known = np.packbits(seen >= _SEEN)
    profile["known"][column] = base64.b64encode(known.tobytes()).decode()
    unknown = np.bincount(text_of_piece, seen[flat] <= _SEEN, len(hashes))
    distributions[f"{column}.unknown"] = numbers((unknown / np.maximum(sizes, 1)).tolist())
    profile["rarity"][column], rarities = word_rarity.learn(hashes)
    distributions[f"{column}.rarity"] = numbers(rarities)
    common = [piece for piece, count in counts.items() if count >= _COMMON * rows]
    common.sort(key=lambda piece: (-counts[piece], piece))
    distributions[f"{column}.words"] = {
        "kind": "words",
        "rows": rows,
        "counts": {piece: counts[piece] for piece in sorted(common[:_WORDS])},
    }


def _distribution(values: Sequence[Any]) -> dict[str, Any]:
    if isinstance(values[0], float):
        return numbers([float(value) for value in values])
    return names(map(str, values))


def _count_rows_with(pieces: Iterable[set[str]]) -> Counter[str]:
    """Return in how many rows each piece occurs."""
    counts: Counter[str] = Counter()
    for row_pieces in pieces:
        counts.update(row_pieces)
    return counts


def predictions_of(
    rules: TaskEvaluator, answers: Sequence[Any], truths: Sequence[Any]
) -> dict[str, Any]:
    """Describe a model's answers to the validation split.

    Args:
        rules: of the task.
        answers: (n,) of the model.
        truths: (n,) of the cases.

    Returns:
        What `TaskFeedback.profile` says of them, and "fields": the distributions of their
        features that any answer has.
    """
    feedback = rules.feedback
    rows = []
    for answer in answers:
        rows.append(feedback.features_of(feedback.text(answer), rules.confidence(answer)))
    fields = {}
    for name, kind in feedback.features.items():
        values = [row[name] for row in rows if row[name] is not None]
        if values:
            fields[name] = _DISTRIBUTIONS[kind](values)
    return {**feedback.profile(answers, truths), "fields": fields}


class Profiler:
    """Computes the features of new inputs as those of training were computed.

    Args:
        task: id.
        profile: of a bundle's card; one without fields gives no features.
    """

    def __init__(self, task: str, profile: Mapping[str, Any]) -> None:
        task_schema = schema(task)
        self._distributions: Mapping[str, Any] = profile.get("fields", {})
        self._fields: Mapping[str, Field] = {}
        if self._distributions:
            clean = task_schema.options["clean"].model_validate(profile["clean"])
            self._fields = task_schema.with_inputs(profile.get(INPUTS, {})).fields(clean)
        self._known = {
            column: _unpack_bits(encoded) for column, encoded in profile.get("known", {}).items()
        }
        self._words = {
            column: frozenset(self._distributions[f"{column}.words"]["counts"])
            for column in self._known
        }
        self._rarity = {
            column: Rarity(counts) for column, counts in profile.get("rarity", {}).items()
        }
        self._spaces = {column: Space(axes) for column, axes in profile.get("spaces", {}).items()}

    def features(self, row: Mapping[str, Any]) -> Features:
        """Return the features of the input columns of one query.

        A column that cannot be used has none.
        """
        features: Features = {}
        for column, value in row.items():
            if column not in self._fields:
                continue
            try:
                normalized = self._fields[column].normalize(value)
            except Reject:
                continue
            features |= self._column_features(column, normalized)
        return {name: value for name, value in features.items() if name in self._distributions}

    def _column_features(self, column: str, value: Any) -> Features:
        field = self._fields[column]
        features: Features = {
            f"{column}.{key}": feature for key, feature in field.profile(value).items()
        }
        pieces = set(field.pieces(value))
        hashes = _hashes(pieces)
        vector: NDArray[np.float32] | None
        if column in self._known:
            features[f"{column}.unknown"] = _share(~self._known[column][hashes])
            features[f"{column}.words"] = sorted(pieces & self._words[column])
            if column in self._rarity:
                features[f"{column}.rarity"] = self._rarity[column].of(hashes)
            vector = embedding.words(hashes)
        else:
            vector = field.vector(value)
        if column in self._spaces and vector is not None:
            features[f"{column}.embedding"] = self._spaces[column].at(vector)
        return features

    def check(self) -> None:
        """Raise a LookupError or a ValueError if a query's features could not be computed."""
        for name in self._distributions:
            if name.rpartition(".")[0] not in self._fields:
                raise ValueError(f"{name[:60]!r} is no feature of a column")
        last = np.array([(1 << _BITS) - 1])
        for column, known in self._known.items():
            _ = known[last]
            if column in self._rarity:
                self._rarity[column].of(np.arange(1 << _BITS))
            if column in self._spaces:
                self._spaces[column].at(embedding.words(last))


def _hashes(pieces: Iterable[str]) -> NDArray[np.int64]:
    mask = (1 << _BITS) - 1
    hashes = [zlib.crc32(piece.encode("utf-8", "replace")) & mask for piece in pieces]
    return np.array(hashes, dtype=np.int64)


def _unpack_bits(encoded: str) -> NDArray[np.bool_]:
    packed = np.frombuffer(base64.b64decode(encoded), dtype=np.uint8)
    return np.unpackbits(packed).astype(bool)


def _share(flags: NDArray[np.bool_]) -> float:
    if not len(flags):
        return 0.0
    return float(flags.mean())
