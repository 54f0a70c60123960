"""Rules for the target of regression: a number."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from components.core.errors import InputError
from components.core.params import Strict
from components.core.significant_digits import significant_digits
from components.fields.base import Reject
from components.fields.number import DecimalSign, parse_number
from components.tasks.base import Conflicts, Options, TargetInfo, TargetWords, ValueMap
from components.tasks.shared.schema.regression.target_params import NumberClean, NumberParams

# Whole numbers of so many values, at most, may be names of categories.
_FEW_VALUES = 10
# Rows of each value, at least, before that is suspected.
_ROWS_OF_A_VALUE = 10
# Bars of the histogram in the manifest of clean.
_BARS = 40
# Different numbers of equal inputs that a message names.
_EXAMPLES = 3
_EXCERPT = 200

_One = Annotated[list[float], Field(min_length=1, max_length=1)]


class StandardizedNumbers(Strict):
    """What a model must know of its target: it answers (value - center) / scale.

    Args:
        center: [mean of the train targets].
        scale: [their standard deviation].
        range: [the least of them, the largest].
    """

    model_config = ConfigDict(allow_inf_nan=False)

    center: _One
    scale: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1, max_length=1)]
    range: Annotated[list[float], Field(min_length=2, max_length=2)]

    @model_validator(mode="after")
    def _is_range(self) -> StandardizedNumbers:
        least, largest = self.range
        if least >= largest:
            raise ValueError("range must ascend")
        return self


@dataclass(frozen=True)
class NumberTexts:
    """Convert the texts of a source to numbers, by `ingest.decimal`.

    Args:
        decimal: the decimal sign of the texts.
    """

    decimal: DecimalSign

    def unwrap(self, value: Any) -> Any:
        """Return the number of a text, or of a list of one; None where it says that there is none.

        Raises:
            Reject: the text states no number, or there are several values.
        """
        if isinstance(value, (list, tuple)):
            present = [item for item in value if item is not None]
            if len(present) > 1:
                raise Reject("several_numbers", ", ".join(map(str, present))[:_EXCERPT])
            return self.unwrap(present[0]) if present else None
        if isinstance(value, str):
            return parse_number(value, self.decimal)
        return value

    def apply(self, text: str) -> str | None:
        """Return the text of a number that `unwrap` has read, which has a point."""
        number = parse_number(text)
        return None if number is None else repr(number)

    def cache_key(self) -> Sequence[Any]:
        """Return the decimal sign."""
        return ["number", self.decimal]


class SourceNumbers:
    """Rules for numbers as a source writes them (ingest)."""

    words = TargetWords(value="number", values="numbers", category="number", categories="numbers")
    remedies: Mapping[str, str] = {
        "not_a_number": (
            "set ingest.columns.target to a column of numbers; "
            "if they are written like 1.234,5: ingest.decimal: ','"
        ),
        "several_numbers": "write one number in each row",
    }

    def value_map(self, options: BaseModel) -> ValueMap | None:
        """Return the conversion of texts by `ingest.decimal`."""
        return NumberTexts(cast(NumberParams, options).decimal)

    def describe_source(
        self, values: pa.ChunkedArray, column: str, path: str
    ) -> Mapping[str, Mapping[str, float]]:
        """Return {"numbers": {"rows", "missing", "least", "largest"}}.

        Raises:
            InputError: no row has a number, or all have the same.
        """
        numbers = _floats(values)
        what = ""
        if not len(numbers):
            what = f"has no row with a number among {len(values)}"
        elif numbers.min() == numbers.max():
            only = significant_digits(float(numbers[0]))
            what = f"has in its {len(values)} rows only the number {only}: nothing can be learned"
        if what:
            raise InputError(
                what,
                where=path,
                remedy="bring rows with different numbers, or set "
                f"ingest.columns.{column} to the column that holds the number",
            )
        return {
            "numbers": {
                "rows": len(numbers),
                "missing": len(values) - len(numbers),
                "least": float(numbers.min()),
                "largest": float(numbers.max()),
            }
        }

    def count_source(self, description: Mapping[str, Any]) -> Mapping[str, int]:
        """Return the number of rows with a number."""
        return {"numbers": description["numbers"]["rows"]}

    def source_notes(self, values: pa.ChunkedArray) -> Sequence[str]:
        """Return doubts about numbers: missing, or so few that they may be names."""
        numbers = _floats(values)
        notes = []
        missing = len(values) - len(numbers)
        if missing:
            notes.append(
                f"{missing:,} of {len(values):,} rows have no number: "
                "clean.unlabelled says what becomes of them"
            )
        distinct = np.unique(numbers)
        is_whole = bool((distinct == np.floor(distinct)).all())
        is_few = len(distinct) <= min(_FEW_VALUES, len(numbers) // _ROWS_OF_A_VALUE)
        if len(distinct) and is_whole and is_few:
            shown = ", ".join(significant_digits(float(value), 1) for value in distinct)
            notes.append(
                f"the target has only {len(distinct)} different numbers ({shown}); if they are "
                "names of classes, not amounts, take a task of classification"
            )
        return notes


class CleanNumbers:
    """Rules for the numbers of clean rows (clean)."""

    conflict_reason = "conflicting_numbers"
    merge_reason = "merged_numbers"

    def conflicts(self, options: BaseModel) -> Conflicts:
        """Return what happens to rows with equal inputs and different numbers."""
        return cast(NumberClean, options).conflicts

    def describe_conflicts(self, targets: Sequence[Collection[float]], examples: str) -> str:
        """Return the numbers that are farthest apart, and examples of the inputs."""
        widest = max(targets, key=lambda numbers: max(numbers) - min(numbers))
        shown = [significant_digits(number) for number in sorted(widest)[:_EXAMPLES]]
        return (
            f"with different numbers (such as {' and '.join(shown)}; for example {examples}): "
            "clean.conflicts"
        )

    def merged(
        self,
        counts: Mapping[float, int],  # noqa: ARG002
        options: BaseModel,  # noqa: ARG002
    ) -> Mapping[float, float]:
        """Return nothing: no number is rare."""
        return {}

    def describe_merged(
        self,
        merged: Mapping[float, float],  # noqa: ARG002
        options: BaseModel,  # noqa: ARG002
    ) -> str:
        """Return no line: nothing is merged."""
        return ""

    def doubts(self, counts: Mapping[float, int]) -> Sequence[str]:
        """Return a message about a number that more than half of the rows have."""
        rows = sum(counts.values())
        for number, count in Counter(counts).most_common(1):
            if 2 * count > rows and len(counts) > 1:
                shown = significant_digits(number)
                return [
                    f"{count:,} of {rows:,} rows have the number {shown}; if it stands for none, "
                    "leave it empty in the source: ingest.columns.target"
                ]
        return []

    def check(self, targets: Sequence[float], options: BaseModel, causes: Sequence[str]) -> None:
        """Refuse few rows, rows with one number only, and numbers without a finite deviation.

        Raises:
            InputError: it says what is missing, and a way out.
        """
        least = cast(NumberClean, options).min_rows
        why = "".join(f"\n     {cause}" for cause in causes)
        if len(targets) < least:
            raise InputError(
                f"{len(targets):,} rows are left after cleaning, fewer than {least}{why}",
                where="clean.min_rows",
                remedy="change the params that these lines name, bring more rows, or lower "
                "clean.min_rows",
            )
        if len(set(targets)) == 1:
            raise InputError(
                f"all rows have the number {significant_digits(targets[0])} after cleaning{why}",
                where="clean",
                remedy="bring rows with other numbers, or check ingest.columns.target",
            )
        if not _deviation(targets) > 0:
            raise InputError(
                "the numbers are too large or too near each other to be learned in 64 bits",
                where="ingest.columns.target",
                remedy="write them in another unit, or subtract what they have in common",
            )

    def check_train(self, train: Collection[float], targets: Collection[float]) -> None:
        """Refuse a train split whose rows have one number only.

        Raises:
            InputError: it names the number.
        """
        if len(set(train)) > 1 and _deviation(list(train)) > 0:
            return
        shown = ", ".join(significant_digits(number) for number in sorted(set(train))[:1])
        raise InputError(
            f"the train rows have only the number {shown or 'none'}, "
            f"of {len(set(targets)):,} that there are",
            where="ingest.columns.split",
            remedy="bring train rows with other numbers, or map no split column",
        )

    def strata(self, targets: Sequence[float]) -> Sequence[str]:
        """Return one stratum for all rows.

        Strata of like numbers would refuse data whose large numbers come from two groups of rows,
        such as the prices of two cities: each stratum must be in each split.
        """
        return ["numbers"] * len(targets)

    def too_few_groups(self, stratum: str, groups: int) -> InputError:  # noqa: ARG002
        """Return the error of rows that cannot be in all splits."""
        return InputError(
            f"the rows form only {groups} independent group(s), too few for one in each split",
            where="clean",
            remedy="bring more data, or map no group column",
        )

    def describe(
        self,
        splits: Mapping[str, Sequence[float]],
        merged: Mapping[float, float],  # noqa: ARG002
    ) -> Mapping[str, Any]:
        """Return center, scale and range of train, and the numbers of each split.

        Returns:
            The `TargetInfo`; {"splits": split -> {"rows", "mean", "deviation", "least",
            "largest", "counts" (k,)}}; {"edges": (k + 1,)} between which the counts are.
        """
        train = np.asarray(splits["train"], dtype=float)
        values = {name: np.asarray(numbers, dtype=float) for name, numbers in splits.items()}
        edges = _edges(np.concatenate(list(values.values())))
        return {
            "center": [float(train.mean())],
            "scale": [float(train.std())],
            "range": [float(train.min()), float(train.max())],
            "edges": edges.tolist(),
            "splits": {name: _statistics(numbers, edges) for name, numbers in values.items()},
        }

    def count(self, info: TargetInfo) -> Mapping[str, int]:  # noqa: ARG002
        """Return nothing: a center and a scale are no counts."""
        return {}

    def select(
        self,
        rows: pa.Table,
        manifest: Mapping[str, Any],  # noqa: ARG002
        info: TargetInfo,  # noqa: ARG002
    ) -> pa.Table:
        """Return all rows: a model can be judged on any number."""
        return rows


class NumberTargets(SourceNumbers, CleanNumbers):
    """Rules for numbers."""

    Info: type[BaseModel] = StandardizedNumbers
    options: Options = {"ingest": NumberParams, "clean": NumberClean}

    def info(self, manifest: Mapping[str, Any]) -> TargetInfo:
        """Return center, scale and range in a manifest of clean or of tokens."""
        return {name: manifest[name] for name in StandardizedNumbers.model_fields}


def _floats(values: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return the finite numbers of a column, in texts too."""
    numbers = values.drop_null().cast(pa.float64()).to_numpy()
    finite: NDArray[np.float64] = numbers[np.isfinite(numbers)]
    return finite


def _deviation(values: Sequence[float]) -> float:
    """Return the standard deviation; 0 where it is no finite number."""
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = float(np.std(np.asarray(values, dtype=float)))
    return deviation if math.isfinite(deviation) else 0.0


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the edges (k + 1,) of a histogram, without the outermost hundredth of each side.

    Numbers beyond count in the outer bars, so that a few of them do not compress the others.
    """
    low, high = np.quantile(values, [0.01, 0.99])
    if low == high:
        low, high = values.min(), values.max()
    return np.linspace(low, high, _BARS + 1)


def _statistics(values: NDArray[np.float64], edges: NDArray[np.float64]) -> dict[str, Any]:
    """Return the statistics of a split, which has a row at least."""
    inner = np.clip(values, edges[0], edges[-1])
    return {
        "rows": len(values),
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "least": float(values.min()),
        "largest": float(values.max()),
        "counts": np.histogram(inner, edges)[0].tolist(),
    }
