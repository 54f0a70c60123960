"""Encode rows of a table as one vector each, for the networks of `components.models`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from components.core.files import to_json
from components.core.params import Strict
from components.tasks.base import NO_INPUTS, Arrays, TargetInfo
from components.tasks.shared.encode.tables.number_scaling import (
    NumberScaler,
    NumberScaling,
    fit_scaling,
    most_knots,
)
from components.tasks.shared.encode.tables.table_columns import ColumnsMetadata, TableColumns
from components.tasks.shared.schema.tables.kinds import inputs_json, parse_inputs

# Numbers of a row: a moment has eight.
_MOST_NUMBERS = 100_000


class TableTokenize(Strict):
    """Params of `tokenize`: none."""


class TableFeaturesMetadata(ColumnsMetadata):
    """The columns, and the scaling of each number that they make."""

    numbers: Annotated[list[NumberScaling], Field(max_length=_MOST_NUMBERS)]


class TableEncoderMetadata(Strict):
    """Content of encoder.json."""

    targets: dict[str, Any]
    features: TableFeaturesMetadata


class TableEncoder(ABC):
    """Fitted columns, the scaling of their numbers, and what is known of the targets.

    A task's encoder says how its targets are encoded.

    Args:
        columns: of the table.
        scalings: of each of the columns' numbers.
        targets: of clean.

    Attributes:
        outputs: of a network.
        inputs: kind of each column, as JSON.
        number_width: how many of the features are numbers; the rest are category indices.
        width: number of features.
    """

    outputs: int

    def __init__(
        self, columns: TableColumns, scalings: Sequence[NumberScaling], targets: TargetInfo
    ) -> None:
        if len(scalings) != len(columns.numbers):
            raise ValueError(f"{len(scalings)} scalings for {len(columns.numbers)} numbers")
        self.columns = columns
        self.inputs: Mapping[str, Any] = inputs_json(columns.inputs)
        self.targets = targets
        self._scalings = scalings
        self._scaler = NumberScaler(scalings)
        self.number_width = self._scaler.width
        self.width = self.number_width + len(columns.sizes)
        # Least index of each column. Without missing values in train a network learns nothing for
        # index 0, and has the most frequent category instead.
        least = [
            int(size > 1 and not has_missing)
            for size, has_missing in zip(columns.sizes, columns.has_missing, strict=True)
        ]
        self._least_indices = np.array(least, dtype=np.int64)

    @abstractmethod
    def encode_targets(self, rows: pa.Table) -> pa.Array:
        """Return the target (n,) of each row, as the task's loss takes it.

        A row without a target has one that the loss leaves out.

        Args:
            rows: of the clean table.
        """

    def _features(self, columns: Mapping[str, Sequence[Any]] | pa.Table) -> NDArray[np.float32]:
        """Return the features (n, width) of normalized columns."""
        numbers, categories = self.columns.matrix(columns)
        indices = np.maximum(categories, self._least_indices)
        return np.concatenate([self._scaler.features(numbers), indices], axis=1, dtype=np.float32)

    def encode(self, rows: pa.Table) -> pa.Table:
        """Return a table with the columns id, features (width) and target.

        Args:
            rows: of the clean table, with "id", the inputs and the target.
        """
        flat = self._features(rows).ravel()
        offsets = np.arange(0, flat.size + 1, self.width, dtype=np.int32)
        return pa.table(
            {
                "id": rows["id"],
                "features": pa.ListArray.from_arrays(offsets, flat),
                "target": self.encode_targets(rows),
            }
        )

    def collate(self, rows: Mapping[str, Sequence[NDArray[Any]]]) -> Arrays:
        """Return "features" (n, width) float32.

        Args:
            rows: {"features": n arrays (width,)}.
        """
        flat = np.concatenate(rows["features"], dtype=np.float32)
        return {"features": flat.reshape(-1, self.width)}

    def pack(self, rows: Mapping[str, Sequence[NDArray[Any]]]) -> Arrays:
        """Return the same as `collate`, because rows have one width and need no padding."""
        return self.collate(rows)

    def rows(self, inputs: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Return "features" with n rows, normalized as in clean and then encoded.

        Args:
            inputs: raw values (n,) by the name of the column, in any order.

        Raises:
            Reject: a column is missing or unknown, or a value is of another kind.
        """
        return {"features": list(self._features(self.columns.normalize(inputs)))}

    def elements(
        self,
        inputs: Mapping[str, Sequence[Any]],
        contributions: NDArray[np.float64],
    ) -> Sequence[NDArray[np.float64]]:
        """Return the contributions of the columns of each row, in the order of `inputs`.

        Args:
            inputs: values by the name of the column.
            contributions: (n, width) of the features.
        """
        names = list(inputs)
        owners = self.columns.number_owners
        flagged = [
            owner
            for owner, scaling in zip(owners, self._scalings, strict=True)
            if scaling.flags_missing
        ]
        positions = [names.index(name) for name in [*owners, *flagged, *self.columns.categories]]
        totals = np.zeros((len(contributions), len(names)))
        for feature, position in enumerate(positions):
            totals[:, position] += contributions[:, feature]
        return list(totals)

    def files(self) -> Mapping[str, bytes]:
        """Return encoder.json, and the arrays of texts where there are some."""
        numbers = [scaling.model_dump(mode="json") for scaling in self._scalings]
        metadata = {
            "targets": dict(self.targets),
            "features": {**self.columns.metadata(), "numbers": numbers},
        }
        return {"encoder.json": to_json(metadata).encode(), **self.columns.files()}

    def lengths(self, rows: pa.Table) -> NDArray[np.int64]:
        """Return (n,) the cost of each row, which is the same for all rows."""
        return np.full(rows.num_rows, self.width, dtype=np.int64)


AnyTableEncoder = TypeVar("AnyTableEncoder", bound=TableEncoder)


class TableEncoding(Generic[AnyTableEncoder]):
    """Facet encode.py of a task on tables.

    Args:
        encoder: type of the task's encoder.
        info: model of the task's `TargetInfo`.
    """

    options: ClassVar[Mapping[str, type[BaseModel]]] = {"tokenize": TableTokenize}

    def __init__(self, encoder: type[AnyTableEncoder], info: type[BaseModel]) -> None:
        self._encoder = encoder
        self._info = info

    def fit(
        self,
        rows: Iterator[pa.RecordBatch],
        targets: TargetInfo,
        options: BaseModel,  # noqa: ARG002
        clean: BaseModel,  # noqa: ARG002
        inputs: Mapping[str, Any] = NO_INPUTS,
    ) -> AnyTableEncoder:
        """Return an encoder fitted on train rows.

        Args:
            rows: of train.
            targets: of clean.
            options: not used.
            clean: not used.
            inputs: kind of each column, as JSON.
        """
        table = pa.Table.from_batches(rows)
        columns = TableColumns.fit(table, parse_inputs(inputs))
        numbers, _ = columns.matrix(table)
        knots = most_knots(numbers.shape[1])
        scalings = [fit_scaling(column, knots) for column in numbers.T]
        return self._encoder(columns, scalings, targets)

    def load(self, files: Mapping[str, bytes]) -> AnyTableEncoder:
        """Return the encoder of a bundle or of tokens/.

        Args:
            files: encoder files by name.

        Raises:
            ValidationError: encoder.json is invalid.
            ValueError: its parts do not fit together.
        """
        metadata = TableEncoderMetadata.model_validate_json(files["encoder.json"])
        features = metadata.features
        targets = self._info.model_validate(metadata.targets).model_dump(exclude_unset=True)
        return self._encoder(TableColumns.of(features, files), features.numbers, targets)
