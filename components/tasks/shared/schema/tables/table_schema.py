"""Define the rows of tables, whose inputs each pipeline chooses, and their cleaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, cast

from pydantic import BaseModel, Field

from components.core.params import Strict
from components.fields.base import Field as Kind
from components.tasks.base import (
    NO_INPUTS,
    Augmenter,
    Conflicts,
    Role,
    SplitRule,
    TargetRules,
)
from components.tasks.shared.schema.tables.kinds import Inputs, field_of, inputs_json, parse_inputs


class TableIngest(Strict):
    """Params of `ingest`."""

    inputs: Inputs = Field(
        min_length=1,
        description="Kind of each input (number, category, time, text), by the name of its column.",
    )


class TableClean(Strict):
    """Params of `clean`, with defaults for rows that repeat each other without being copies."""

    conflicts: Conflicts = Field(
        "keep_all",
        description=(
            "What happens to equal inputs (keep_all: all stay; one split unless most repeat)."
        ),
    )
    boilerplate: int = Field(
        0, ge=0, description="Inputs that occur this often are dropped as boilerplate (0: never)."
    )


class NoTransforms(Strict):
    """Random transforms of train batches: none."""


class TableAugment(Strict):
    """Params of `augment`: no rows are added."""

    rate: float = Field(0.0, ge=0, le=0, description="Added rows per train row: none.")

    online: NoTransforms = Field(
        NoTransforms(), description="Random transforms of train rows, made on the fly: none."
    )


class TableSchema:
    """Facet schema.py of tasks on tables.

    Args:
        target: role of the column to predict.
        targets: rules for it.
        chosen: inputs of a pipeline, as JSON.
    """

    options: ClassVar[Mapping[str, type[BaseModel]]] = {
        "ingest": TableIngest,
        "clean": TableClean,
        "augment": TableAugment,
    }
    # Similar rows are no near-duplicates: two flats of the same size may be two flats.
    split = SplitRule("stratified", near_duplicates=False)

    def __init__(
        self, target: Role, targets: TargetRules, chosen: Mapping[str, Any] = NO_INPUTS
    ) -> None:
        self._target = target
        self._kinds = parse_inputs(chosen)
        self.targets = targets
        self.chosen: Mapping[str, Any] = inputs_json(self._kinds)

    @cached_property
    def roles(self) -> Sequence[Role]:
        """Return the inputs, which may lack values, and the target."""
        inputs = []
        for name, kind in self._kinds.items():
            inputs.append(Role(name, field_of(kind), "input", nullable=True))
        return (*inputs, self._target)

    def inputs(self, options: BaseModel) -> Mapping[str, Any]:
        """Return the inputs that the params of `ingest` name."""
        return inputs_json(cast(TableIngest, options).inputs)

    def with_inputs(self, inputs: Mapping[str, Any]) -> TableSchema:
        """Return the schema of a pipeline.

        Raises:
            ValueError: the inputs are not valid.
        """
        return type(self)(self._target, self.targets, inputs)

    def fields(self, options: BaseModel) -> Mapping[str, Kind]:  # noqa: ARG002
        """Return the fields of the inputs and of the target."""
        return {role.name: role.field for role in self.roles}

    def augmenters(self, options: BaseModel) -> Mapping[str, Augmenter]:  # noqa: ARG002
        """Return no augmenters."""
        return {}
