"""Define what a network must beat: the mean, and an ensemble of trees and linear models."""

from __future__ import annotations

from components.tasks.shared.baselines.regression.baselines import MeanBaseline
from components.tasks.shared.baselines.tables.classical import NumberEnsemble, TableBaselines

BASELINES = TableBaselines({"trivial": MeanBaseline(), "classical": NumberEnsemble()})
