"""Define the loss of classification on tables, which is that of any classification."""

from __future__ import annotations

from components.tasks.shared.loss.classification.loss import ClassificationLearning

LOSS = ClassificationLearning()
