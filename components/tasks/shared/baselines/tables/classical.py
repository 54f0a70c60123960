"""Fit the classical baseline of tables: a blend of boosted trees and linear models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from components.core.files import to_json
from components.core.params import Strict
from components.tasks.base import NO_INPUTS, Arrays, Baseline, Scorer, TargetInfo
from components.tasks.shared.baselines.tables.blended_scores import (
    EnsembleConfig,
    TableRows,
    check_columns,
    classification_scorer,
    fit_classification,
    fit_regression,
    importance,
    regression_scorer,
)
from components.tasks.shared.encode.tables.table_columns import ColumnsMetadata, TableColumns
from components.tasks.shared.schema.tables.kinds import inputs_json, parse_inputs

_COLUMNS_FILE = "columns.json"


class EnsembleParams(Strict):
    """Params of the ensemble."""

    folds: int = Field(
        5, ge=2, le=20, description="Parts of the train rows; each model learns without one."
    )
    trees: int = Field(
        1000, ge=1, le=10_000, description="Most trees of each model (fewer: a smaller ensemble)."
    )
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="Share of each tree's answer (null: by the number of rows)."
    )
    leaves: int | None = Field(
        None, ge=2, le=1024, description="Most leaves of a tree (null: 12 to 63)."
    )

    time_folds: bool = Field(
        False, description="Folds are blocks of time, in a split by time (false: drawn at random)."
    )
    target_encoding: int | None = Field(
        None,
        ge=2,
        description="Categories from which a column has mean targets too (null: no column).",
    )

    def config(self, seed: int) -> EnsembleConfig:
        """Return the limits of an ensemble.

        Args:
            seed: of every random choice.
        """
        return EnsembleConfig(**self.model_dump(exclude={"time_folds"}), seed=seed)


class TableClassical(Strict):
    """Params of `train`."""

    classical: EnsembleParams = Field(
        EnsembleParams(), description="Classical baseline: boosted trees and linear models."
    )


class TableBaselines:
    """Facet baselines.py of a task on tables.

    Args:
        baselines: by name.
    """

    options: Mapping[str, type[BaseModel]] = {"train": TableClassical}

    def __init__(self, baselines: Mapping[str, Baseline]) -> None:
        self.baselines = baselines


class _Ensemble:
    """The part of the baseline that is the same for numbers and classes."""

    def featurizer(
        self, files: Mapping[str, bytes]
    ) -> Callable[[Mapping[str, Sequence[Any]]], Arrays]:
        """Return a function from input columns to {"numbers": (n, p), "categories": (n, q)}.

        Args:
            files: encoder files of a bundle by name.
        """
        columns = _columns(files)

        def prepared(inputs: Mapping[str, Sequence[Any]]) -> Arrays:
            """Return numbers and category indices of queries."""
            numbers, categories = columns.matrix(columns.normalize(inputs))
            return {"numbers": numbers, "categories": categories}

        return prepared

    def check_files(
        self, arrays: Arrays, files: Mapping[str, bytes], inputs: Mapping[str, Any]
    ) -> None:
        """Refuse arrays and columns that do not fit each other or the inputs of the card.

        Raises:
            ValueError: it says what does not fit.
        """
        columns = _columns(files)
        if inputs and inputs_json(columns.inputs) != inputs:
            raise ValueError(f"{_COLUMNS_FILE} has other inputs than the card")
        check_columns(arrays, len(columns.numbers), columns.sizes)


def _columns(files: Mapping[str, bytes]) -> TableColumns:
    """Return the columns of the encoder files of a bundle.

    Raises:
        ValueError: they are not valid.
    """
    metadata = ColumnsMetadata.model_validate_json(files[_COLUMNS_FILE])
    return TableColumns.of(metadata, files)


def _files(columns: TableColumns) -> dict[str, bytes]:
    """Return the encoder files of a bundle by name."""
    return {_COLUMNS_FILE: to_json(columns.metadata()).encode(), **columns.files()}


def _table_rows(
    rows: pa.Table, inputs: Mapping[str, Any], *, in_time: bool
) -> tuple[TableRows, TableColumns]:
    """Return train rows as numbers and category indices, and the columns fitted on them.

    Args:
        rows: of the clean table, with `group` if the source names groups, and with `time` if rows
            are split by time.
        inputs: of the pipeline, as JSON.
        in_time: whether folds are blocks of time.
    """
    columns = TableColumns.fit(rows, parse_inputs(inputs))
    numbers, categories = columns.matrix(rows)
    groups = None
    if "group" in rows.column_names:
        names = rows["group"].combine_chunks().dictionary_encode()
        groups = names.indices.to_numpy().astype(np.int64)
    moments = None
    if in_time and "time" in rows.column_names:
        moments = rows["time"].to_numpy()
    return TableRows(numbers, categories, columns.sizes, groups, moments), columns


class NumberEnsemble(_Ensemble):
    """The classical baseline of regression."""

    def fit(
        self,
        rows: pa.Table,
        targets: TargetInfo,
        options: BaseModel,
        clean: BaseModel,  # noqa: ARG002
        seed: int,
        validation: pa.Table | None = None,  # noqa: ARG002
        chosen: Mapping[str, bytes] | None = None,  # noqa: ARG002
        inputs: Mapping[str, Any] = NO_INPUTS,
    ) -> tuple[Arrays, Mapping[str, bytes]]:
        """Fit the ensemble. Its own folds choose what is open, so that validation stays fresh.

        Args:
            rows: train rows of the clean table.
            targets: of clean, with center and scale of the target.
            options: params of `train`.
            clean, validation, chosen: not used.
            seed: of every random choice.
            inputs: of the pipeline, as JSON.

        Returns:
            The arrays of the bundle; its encoder files by name.
        """
        assert isinstance(options, TableClassical)
        table, columns = _table_rows(rows, inputs, in_time=options.classical.time_folds)
        target = rows["target"].to_numpy().astype(np.float64)
        config = options.classical.config(seed)
        (center,) = targets["center"]
        (scale,) = targets["scale"]
        arrays = fit_regression(table, target, config, center=center, scale=scale)
        return arrays, _files(columns)

    def scorer(self, arrays: Arrays) -> Scorer:
        """Return a scorer of standardized answers (n, 1).

        Args:
            arrays: of a bundle, which may come from anywhere.

        Raises:
            ValueError: the arrays are broken.
        """
        return _scorer(regression_scorer(arrays))


class ClassEnsemble(_Ensemble):
    """The classical baseline of classification."""

    def fit(
        self,
        rows: pa.Table,
        targets: TargetInfo,
        options: BaseModel,
        clean: BaseModel,  # noqa: ARG002
        seed: int,
        validation: pa.Table | None = None,  # noqa: ARG002
        chosen: Mapping[str, bytes] | None = None,  # noqa: ARG002
        inputs: Mapping[str, Any] = NO_INPUTS,
    ) -> tuple[Arrays, Mapping[str, bytes]]:
        """Fit the ensemble. Its own folds choose what is open, so that validation stays fresh.

        Args:
            rows: train rows of the clean table.
            targets: of clean, with the classes in the order of their indices.
            options: params of `train`.
            clean, validation, chosen: not used.
            seed: of every random choice.
            inputs: of the pipeline, as JSON.

        Returns:
            The arrays of the bundle; its encoder files by name.
        """
        assert isinstance(options, TableClassical)
        table, columns = _table_rows(rows, inputs, in_time=options.classical.time_folds)
        index = {name: number for number, name in enumerate(targets["classes"])}
        target = np.array([index[name] for name in rows["label"].to_pylist()], np.int64)
        arrays = fit_classification(table, target, len(index), options.classical.config(seed))
        return arrays, _files(columns)

    def scorer(self, arrays: Arrays) -> Scorer:
        """Return a scorer of logits (n, c).

        Args:
            arrays: of a bundle, which may come from anywhere.

        Raises:
            ValueError: the arrays are broken.
        """
        return _scorer(classification_scorer(arrays))


def _scorer(
    score_rows: Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]],
) -> Scorer:
    """Return a scorer from a function of numbers and category indices."""

    def score(graph: str, batch: Arrays) -> Arrays:  # noqa: ARG001
        """Return {"logits": (n, d)}."""
        return {"logits": score_rows(batch["numbers"], batch["categories"])}

    return score


def column_importance(arrays: Arrays, files: Mapping[str, bytes]) -> Mapping[str, float]:
    """Return the share of the gain of all trees at each column, for the report.

    Args:
        arrays: of the bundle.
        files: its encoder files by name.

    Returns:
        Name of a number or of a category column -> share; the largest first.
    """
    columns = _columns(files)
    shares = importance(arrays)
    named = dict(zip([*columns.numbers, *columns.categories], shares.tolist(), strict=True))
    return dict(sorted(named.items(), key=lambda item: -item[1]))
