"""Learning: nothing that other classification does not do."""

from components.tasks.classification.loss import ClassificationLearning

LOSS = ClassificationLearning()
