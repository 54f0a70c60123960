"""Define the networks that answer a number for a row. This imports without torch."""

from __future__ import annotations

from components.tasks.shared.loss.regression.params import NumberLossParams
from components.tasks.shared.models.tables.models import TableModels, TableNetParams


class NumberTableTrain(TableNetParams, NumberLossParams):
    """Params of `train`."""


MODELS = TableModels(NumberTableTrain, NumberLossParams)
