"""Define what a network must beat: the prior, and an ensemble of trees and linear models."""

from __future__ import annotations

from components.tasks.shared.baselines.classification.baselines import Prior
from components.tasks.shared.baselines.classification.doubtful_labels import DoubtsLabels
from components.tasks.shared.baselines.tables.classical import ClassEnsemble, TableBaselines


class ClassTableBaselines(DoubtsLabels, TableBaselines):
    """Facet baselines.py."""


BASELINES = ClassTableBaselines({"trivial": Prior(), "classical": ClassEnsemble()})
