"""Define what a network must beat: the mean, and an ensemble of trees and linear models."""

from __future__ import annotations

from components.tasks.regression.baselines import MeanBaseline
from components.tasks.tables.ensemble.classical import NumberEnsemble, TableBaselines

BASELINES = TableBaselines({"trivial": MeanBaseline(), "classical": NumberEnsemble()})
