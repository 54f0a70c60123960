"""Define the loss of regression on tables, which is that of any regression."""

from __future__ import annotations

from components.tasks.shared.loss.regression.loss import RegressionLearning

LOSS = RegressionLearning()
