"""What inputs look like: facts of a row, and their distribution over the training rows, which the bundle carries. Content facts only, no row of the data."""

from __future__ import annotations

import base64
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.fields.base import Field, Reject
from components.monitoring import embedding, word_rarity
from components.monitoring.embedding import Space, cloud
from components.monitoring.word_rarity import Rarity
from components.tasks.base import schema

# "text.length" -> 71.0, "text.script" -> "han", "text.words" -> ["酒店", "早餐"], "image.embedding" -> (0.12, -0.031, …)
Facts = dict[str, float | str | list[str] | tuple[float, ...]]
_EDGES = 100  # quantiles of a number that are kept
_NAMES = 200  # values of a name that are kept; the rest are "other"
OTHER = "other"
_WORDS = 300  # the commonest pieces, whose shares are watched
_COMMON = 0.005  # share of the rows from which a piece is common
_BITS = 17  # of the hash under which pieces are known
_SEEN = 2  # rows of train with a piece, from which it is known


def profile_of(
    columns: Mapping[str, Sequence[Any]], fields: Mapping[str, Field], clean: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe training rows.

    Whether a piece is known is judged of each row by the others, as it will be of new rows: else training would look more familiar than anything new can.

    Args:
        columns: input columns of clean train rows, nothing added to them.
        fields: by column.
        clean: the knobs that shape the fields, so that new inputs are normalized alike.

    Returns:
        {"rows", "clean", "fields": {name: distribution}, and by column "known": a bitmap of words, "rarity": of words, "spaces": axes of its embedding}.
    """
    rows = len(next(iter(columns.values())))
    told: dict[str, Any] = {}
    known, rare, spaces = dict[str, str](), dict[str, Any](), dict[str, Any]()
    for column, values in columns.items():
        facts = [fields[column].profile(value) for value in values]
        for key in facts[0]:
            found = [fact[key] for fact in facts]
            told[f"{column}.{key}"] = (
                numbers([float(each) for each in found])
                if isinstance(found[0], float)
                else names(map(str, found))
            )
        pieces = [set(fields[column].pieces(value)) for value in values]
        counts = Counter(piece for each in pieces for piece in each)
        places = [_places(each) for each in pieces]
        axes, points = (
            embedding.learn_words(places)
            if counts
            else embedding.learn(
                [look for value in values if (look := fields[column].vector(value)) is not None]
            )
        )
        if points:
            spaces[column], told[f"{column}.embedding"] = axes, cloud(points)
        if not counts:
            continue
        seen = np.zeros(1 << _BITS, dtype=np.int64)
        for each in places:
            seen[np.unique(each)] += 1
        known[column] = base64.b64encode(np.packbits(seen >= _SEEN).tobytes()).decode()
        told[f"{column}.unknown"] = numbers([_share(seen[each] <= _SEEN) for each in places])
        rare[column], rarities = word_rarity.learn(places)
        told[f"{column}.rarity"] = numbers(rarities)
        common = sorted(
            (piece for piece, count in counts.items() if count >= _COMMON * rows),
            key=lambda piece: (-counts[piece], piece),
        )[:_WORDS]
        told[f"{column}.words"] = {
            "kind": "words",
            "rows": rows,
            "counts": {piece: counts[piece] for piece in sorted(common)},
        }
    return {
        "rows": rows,
        "clean": dict(clean),
        "fields": told,
        "known": known,
        "rarity": rare,
        "spaces": spaces,
    }


def predictions_of(
    labels: Sequence[str], probabilities: Sequence[float | None], right: Sequence[bool]
) -> dict[str, Any]:
    """Describe a model's answers to the validation split: {"rows", "right", "fields"}."""
    stated = [each for each in probabilities if each is not None]
    fields = {
        "prediction.label": names(labels),
        **({"prediction.probability": numbers(stated)} if stated else {}),
    }
    return {"rows": len(labels), "right": int(sum(right)), "fields": fields}


def numbers(values: Sequence[float]) -> dict[str, Any]:
    """A distribution of numbers: at up to a hundred of its values, how many are no larger."""
    ranked = np.sort(np.asarray(values, dtype=float))
    edges = np.unique(np.percentile(ranked, np.linspace(0, 100, _EDGES + 1), method="inverted_cdf"))
    return {
        "kind": "numbers",
        "rows": len(ranked),
        "edges": edges.round(9).tolist(),
        "below": np.searchsorted(ranked, edges, side="right").tolist(),
    }


def names(values: Iterable[str]) -> dict[str, Any]:
    """A distribution of names: how often each occurs."""
    counts = Counter(values)
    kept = dict(sorted(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_NAMES]))
    rest = sum(counts.values()) - sum(kept.values())
    return {
        "kind": "names",
        "rows": sum(counts.values()),
        "counts": kept | ({OTHER: kept.get(OTHER, 0) + rest} if rest else {}),
    }


class Profiler:
    """Facts of new inputs, made as those of training were.

    Args:
        task: id.
        profile: of a bundle's card; one without fields gives no facts.
    """

    def __init__(self, task: str, profile: Mapping[str, Any]) -> None:
        facet = schema(task)
        self._told: Mapping[str, Any] = profile.get("fields", {})
        self._fields = (
            facet.fields(facet.options["clean"].model_validate(profile["clean"]))
            if self._told
            else {}
        )
        self._known = {
            column: np.unpackbits(np.frombuffer(base64.b64decode(bits), dtype=np.uint8)).astype(
                bool
            )
            for column, bits in profile.get("known", {}).items()
        }
        self._words = {
            column: frozenset(self._told[f"{column}.words"]["counts"]) for column in self._known
        }
        self._rarity = {column: Rarity(told) for column, told in profile.get("rarity", {}).items()}
        self._spaces = {column: Space(axes) for column, axes in profile.get("spaces", {}).items()}

    def facts(self, row: Mapping[str, Any]) -> Facts:
        """Facts of the input columns of one query; none of a column that cannot be used."""
        told: Facts = {}
        for column, value in row.items():
            if column not in self._fields:
                continue
            try:
                value = self._fields[column].normalise(value)
            except Reject:
                continue
            told |= {
                f"{column}.{key}": fact for key, fact in self._fields[column].profile(value).items()
            }
            pieces = set(self._fields[column].pieces(value))
            places = _places(pieces)
            if column in self._known:
                told[f"{column}.unknown"] = _share(~self._known[column][places])
                told[f"{column}.words"] = sorted(pieces & self._words[column])
                if column in self._rarity:
                    told[f"{column}.rarity"] = self._rarity[column].of(places)
            vector = (
                embedding.words(places)
                if column in self._known
                else self._fields[column].vector(value)
            )
            if column in self._spaces and vector is not None:
                told[f"{column}.embedding"] = self._spaces[column].at(vector)
        return {name: fact for name, fact in told.items() if name in self._told}

    def check(self) -> None:
        """Raise a LookupError or a ValueError if facts of some query could not be made."""
        for name in self._told:
            if name.rpartition(".")[0] not in self._fields:
                raise ValueError(f"{name[:60]!r} is no fact of a column")
        last = np.array([(1 << _BITS) - 1])
        for column, known in self._known.items():
            _ = known[last]
            if column in self._rarity:
                self._rarity[column].of(np.arange(1 << _BITS))
            if column in self._spaces:
                self._spaces[column].at(embedding.words(last))


def _places(pieces: Iterable[str]) -> NDArray[np.int64]:
    return np.array(
        [zlib.crc32(piece.encode("utf-8", "replace")) & ((1 << _BITS) - 1) for piece in pieces],
        dtype=np.int64,
    )


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else 0.0
