"""Define what a network must beat: the prior, and an ensemble of trees and linear models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from components.tasks.shared.baselines.classification.baselines import Prior
from components.tasks.shared.baselines.classification.doubtful_labels import DoubtsLabels
from components.tasks.shared.baselines.tables.classical import ClassEnsemble, TableBaselines
from components.tasks.shared.schema.tables.kinds import parse_inputs


class ClassTableBaselines(DoubtsLabels, TableBaselines):
    """Facet baselines.py."""

    def input_columns(
        self,
        rows: pa.Table,  # noqa: ARG002
        inputs: Mapping[str, Any],
    ) -> Sequence[str]:
        """Return the columns that the pipeline chose."""
        return list(parse_inputs(inputs))


BASELINES = ClassTableBaselines({"trivial": Prior(), "classical": ClassEnsemble()})
