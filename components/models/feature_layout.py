"""Describe the columns of a table as a network reads them, and embed them.

A row is one vector (features,): first its numbers, then the indices of its categories. So all
networks of tables have one input, whatever the columns are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from components.models.feature_config import FeatureEmbeddingConfig


@dataclass(frozen=True)
class FeatureLayout:
    """The features of a row.

    Args:
        numbers: how many there are. They are standardized.
        categories: of each column of categories the number of its values.
    """

    numbers: int
    categories: Sequence[int]

    @property
    def width(self) -> int:
        """Return the number of features."""
        return self.numbers + len(self.categories)

    def split(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the numbers (n, p) and the categories (n, q) of rows.

        Args:
            features: (n, p + q).
        """
        numbers = features[:, : self.numbers]
        categories = features[:, self.numbers :].long()
        return numbers, categories


class PeriodicEmbedding(nn.Module):
    """Embedding of numbers by sines and cosines of learned frequencies, and a linear layer each.

    With it networks learn functions that jump (Gorishniy et al. 2022, arXiv:2203.05556: PLR).

    Args:
        numbers: how many there are.
        width: of an embedding.
        frequencies: of each number.
        deviation: of the first frequencies.
    """

    def __init__(self, numbers: int, width: int, frequencies: int, deviation: float) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(numbers, frequencies) * deviation)
        bound = (2 * frequencies) ** -0.5
        self.weight = nn.Parameter(torch.empty(numbers, 2 * frequencies, width))
        self.bias = nn.Parameter(torch.empty(numbers, width))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return embeddings (n, p, width) of numbers (n, p)."""
        angles = 2 * torch.pi * self.frequencies * numbers[..., None]  # (n, p, frequencies)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        result: torch.Tensor = torch.einsum("npf,pfw->npw", waves, self.weight) + self.bias
        return torch.relu(result)


class CategoryEmbeddings(nn.Module):
    """Embeddings of several columns of categories in one table.

    Args:
        sizes: number of values of each column.
        widths: of the embedding of each column.
    """

    def __init__(self, sizes: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.tables = nn.ModuleList(
            nn.Embedding(size, width) for size, width in zip(sizes, widths, strict=True)
        )
        for table, width in zip(self.tables, widths, strict=True):
            bound = width**-0.5
            nn.init.uniform_(table.weight, -bound, bound)  # type: ignore[arg-type]

    def forward(self, categories: torch.Tensor) -> list[torch.Tensor]:
        """Return the embedding (n, width) of each column of categories (n, q)."""
        return [table(categories[:, column]) for column, table in enumerate(self.tables)]


def embedding_width(size: int, most: int) -> int:
    """Return the width of the embedding of a column, by the rule of thumb of the library fastai.

    Args:
        size: number of its values.
        most: the largest width.
    """
    width: float = 1.6 * size**0.56
    return max(1, min(most, round(width)))


class FlatEmbedding(nn.Module):
    """Embedding of a row as one vector: its numbers, and its categories embedded.

    Args:
        layout: of the features.
        config: widths of the embeddings.
    """

    def __init__(self, layout: FeatureLayout, config: FeatureEmbeddingConfig) -> None:
        super().__init__()
        self.layout = layout
        widths = [embedding_width(size, config.category_width) for size in layout.categories]
        self.categories = CategoryEmbeddings(layout.categories, widths)
        self.periodic: PeriodicEmbedding | None = None
        number_width = 1
        if config.number_width and layout.numbers:
            self.periodic = PeriodicEmbedding(
                layout.numbers,
                config.number_width,
                config.frequencies,
                config.frequency_deviation,
            )
            number_width = config.number_width
        self.widths = [number_width] * layout.numbers + widths
        self.width = sum(self.widths)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (n, width) from features (n, p + q)."""
        numbers, categories = self.layout.split(features)
        if self.periodic is not None:
            numbers = self.periodic(numbers).flatten(1)
        return torch.cat([numbers, *self.categories(categories)], dim=1)

    def by_feature(
        self,
        inputs: Mapping[str, torch.Tensor],  # noqa: ARG002
        contributions: torch.Tensor,
    ) -> torch.Tensor:
        """Return contributions (n, p + q) of features from those of the embedding (n, width)."""
        parts = torch.split(contributions, self.widths, dim=1)
        return torch.stack([part.sum(1) for part in parts], dim=1)
