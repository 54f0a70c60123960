"""Measure what a model does with the columns of a table, from its answers alone.

Permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019, arXiv:1801.01489): by how
much the error grows when the values of a column are shuffled. Partial dependence (Friedman 2001):
the mean answer where all rows have one value in a column.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
# Column -> (n,) raw values, None where one is missing.
Columns = Mapping[str, Sequence[Any]]
# Columns of n rows -> (n,) answers.
Predict = Callable[[Columns], Sequence[Any]]
# (n,) answers and (n,) truths -> their error, the smaller the better.
Error = Callable[[Sequence[Any], Sequence[Any]], float]
# (n,) answers -> name of an output -> (n,) its values, such as the probability of a class.
Outputs = Callable[[Sequence[Any]], Mapping[str, Values]]
Kind = Literal["number", "time", "name"]

# Rows that are answered to measure the importance of all columns.
_MOST_ANSWERS = 6000
_SHUFFLES = 3
# Rows that are answered at once: the memory of a network grows with them.
_BATCH = 256
_MOST_ROWS = 1000
_FEWEST_ROWS = 20
# Rows, numbers and names of a partial dependence.
_ROWS_OF_A_CURVE = 60
_MOST_NUMBERS = 12
_MOST_NAMES = 10
# Quantiles between which the numbers of a curve are, because few rows are beyond them.
_NUMBERS_BETWEEN = (0.02, 0.98)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class ColumnImportance:
    """By how much the error grows when a column is shuffled.

    Args:
        name: of the column.
        growth: mean over the shuffles. It may be below 0 by chance.
        least: of the shuffles.
        largest: of the shuffles.
    """

    name: str
    growth: float
    least: float
    largest: float


@dataclass(frozen=True)
class Importances:
    """The importance of the columns of a table.

    Args:
        columns: the most important first.
        error: without shuffling.
        rows: on which it was measured.
        unmeasured: number of columns beyond those that were measured.
    """

    columns: Sequence[ColumnImportance]
    error: float
    rows: int
    unmeasured: int = 0


@dataclass(frozen=True)
class Dependence:
    """The mean answers by the value of one column.

    Args:
        name: of the column.
        values: (k,) numbers and times ascending, or names, the most frequent first.
        outputs: name of an output -> (k,) its mean.
        kind: of the values.
    """

    name: str
    values: Sequence[Any]
    outputs: Mapping[str, Values]
    kind: Kind

    @property
    def numbers(self) -> Values:
        """Return (k,) the values as numbers: times in seconds since 1970."""
        if self.kind == "time":
            return np.array([seconds_of(value) for value in self.values])
        return np.array(self.values, dtype=np.float64)


def answers_by_columns(
    predict: Callable[[Sequence[Any]], Sequence[Any]],
    query: Callable[[dict[str, Any]], Any],
) -> Predict:
    """Return a function from columns to answers.

    Args:
        predict: queries -> answers.
        query: a row, column -> value, -> its query.
    """

    def predict_columns(columns: Columns) -> Sequence[Any]:
        """Return the answers to the rows of columns."""
        names = list(columns)
        rows = zip(*columns.values(), strict=True)
        queries = [query(dict(zip(names, row, strict=True))) for row in rows]
        answers: list[Any] = []
        for start in range(0, len(queries), _BATCH):
            answers.extend(predict(queries[start : start + _BATCH]))
        return answers

    return predict_columns


def permutation_importance(
    predict: Predict,
    columns: Columns,
    truths: Sequence[Any],
    error: Error,
    seed: int,
) -> Importances:
    """Return the importance of each column with more than one value and a finite error.

    At most 6,000 rows are answered, because an ensemble takes milliseconds for each: of many
    columns fewer rows, and of more than 100 the first.

    Args:
        predict: the model.
        columns: n rows, which it has not learned from.
        truths: (n,) of the rows.
        error: of answers.
        seed: of the rows and the shuffles.
    """
    varied = [name for name, values in columns.items() if len(set(values)) > 1]
    measured = varied[: _MOST_ANSWERS // (_SHUFFLES * _FEWEST_ROWS)]
    affordable = _MOST_ANSWERS // (_SHUFFLES * max(1, len(measured)))
    positions = _sample(len(truths), min(_MOST_ROWS, affordable), seed)
    sample = _rows(columns, positions)
    truths = [truths[position] for position in positions]
    before = error(predict(sample), truths)
    importances = []
    for number, name in enumerate(measured):
        rng = np.random.default_rng([seed, number])
        errors = _shuffled_errors(predict, sample, name, truths, error, rng)
        growths = [shuffled - before for shuffled in errors]
        growth = float(np.mean(growths))
        # The error of few cases may be no number, such as an area under a curve of one class.
        if np.isfinite(growth):
            importances.append(ColumnImportance(name, growth, min(growths), max(growths)))
    importances.sort(key=lambda column: -column.growth)
    return Importances(importances, before, len(truths), len(varied) - len(measured))


def _shuffled_errors(
    predict: Predict,
    sample: Columns,
    name: str,
    truths: Sequence[Any],
    error: Error,
    rng: np.random.Generator,
) -> list[float]:
    """Return the error after each shuffle of one column. All shuffles are answered at once."""
    rows = len(truths)
    values = sample[name]
    shuffled: list[Any] = []
    for _ in range(_SHUFFLES):
        shuffled.extend(values[position] for position in rng.permutation(rows))
    repeated = {column: list(sample[column]) * _SHUFFLES for column in sample}
    answers = predict({**repeated, name: shuffled})
    starts = range(0, _SHUFFLES * rows, rows)
    return [error(answers[start : start + rows], truths) for start in starts]


def partial_dependence(
    predict: Predict, columns: Columns, name: str, outputs: Outputs, seed: int
) -> Dependence | None:
    """Return the mean answers by the value of a column; None where it has fewer than two.

    There is none of a column of texts either, whose values hardly come again.

    At most 60 rows are answered for each of at most 12 numbers or 10 names.

    Args:
        predict: the model.
        columns: n rows.
        name: of the column.
        outputs: numbers of answers.
        seed: of the rows.
    """
    known = [value for value in columns[name] if value is not None]
    kind = _kind_of(known)
    if kind == "name":
        if len(set(known)) > len(known) / 2:
            return None
        values = _frequent_names(known)
    else:
        values = _typical_values(sorted(known, key=seconds_of if kind == "time" else None))
    if len(values) < 2:
        return None
    positions = _sample(len(columns[name]), _ROWS_OF_A_CURVE, seed)
    sample = _rows(columns, positions)
    rows = len(positions)
    repeated: dict[str, Sequence[Any]] = {}
    for column, sampled in sample.items():
        repeated[column] = list(sampled) * len(values)
    asked: list[Any] = []
    for value in values:
        asked.extend([value] * rows)
    repeated[name] = asked
    means = {}
    for output, numbers in outputs(predict(repeated)).items():
        means[output] = np.asarray(numbers, dtype=np.float64).reshape(-1, rows).mean(axis=1)
    return Dependence(name, values, means, kind)


def seconds_of(moment: str) -> float:
    """Return a date or time, such as "2026-11-27 10:30:00", in seconds since 1970.

    Raises:
        ValueError: it is none.
    """
    if not _DATE.match(moment):
        raise ValueError(f"{moment!r} does not begin with a date")
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()


def _kind_of(known: Sequence[Any]) -> Kind:
    """Return the kind of the values of a column."""
    if all(_is_number(value) for value in known):
        return "number"
    try:
        for value in set(known):
            seconds_of(value)
    except (TypeError, ValueError):
        return "name"
    return "time"


def _typical_values(ranked: Sequence[Any]) -> list[Any]:
    """Return ascending values of a column: all of a few, else some between outer quantiles.

    All of them are values of the column, because a model may not know others.

    Args:
        ranked: the values, ascending.
    """
    distinct = list(dict.fromkeys(ranked))
    if len(distinct) <= _MOST_NUMBERS:
        return distinct
    shares = np.linspace(*_NUMBERS_BETWEEN, _MOST_NUMBERS)
    return list(dict.fromkeys(ranked[int(share * (len(ranked) - 1))] for share in shares))


def _frequent_names(known: Sequence[Any]) -> list[Any]:
    """Return the most frequent names of a column, the most frequent first."""
    counts = Counter(known)
    ranked = sorted(counts, key=lambda value: (-counts[value], str(value)))
    return ranked[:_MOST_NAMES]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sample(count: int, most: int, seed: int) -> list[int]:
    """Return ascending positions of at most so many of `count` rows."""
    if count <= most:
        return list(range(count))
    chosen = np.random.default_rng(seed).choice(count, most, replace=False)
    return sorted(int(position) for position in chosen)


def _rows(columns: Columns, positions: Sequence[int]) -> Columns:
    """Return some rows of columns."""
    sample = {}
    for name, values in columns.items():
        sample[name] = [values[position] for position in positions]
    return sample
