"""Config of the multilayer perceptron; imports without torch."""

from __future__ import annotations

from pydantic import Field

from components.models.feature_config import FeatureEmbeddingConfig


class MLPConfig(FeatureEmbeddingConfig):
    """Widths of the network."""

    hidden: list[int] = Field(
        default=[256, 256, 256],
        min_length=1,
        max_length=16,
        description="Units of each hidden layer.",
    )
