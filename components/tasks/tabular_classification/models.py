"""Define the networks that answer a class for a row. This imports without torch."""

from __future__ import annotations

from components.tasks.shared.loss.classification.params import LossParams
from components.tasks.shared.models.tables.models import TableModels, TableNetParams


class ClassTableTrain(TableNetParams, LossParams):
    """Params of `train`."""


MODELS = TableModels(ClassTableTrain, LossParams)
