"""Bag of n-grams: the mean of the embeddings of all tokens and hashed n-grams of a row, and a linear head (fastText; Joulin et al. 2017, arXiv:1607.01759)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from components.models.base import PrunableDim
from components.models.dropout import Dropout
from components.models.ngrams.config import NgramsConfig
from components.models.packing import PackedLayout

_PRIME, _FACTOR = (
    2**31 - 1,
    1_540_483_477,
)  # products of the two fit int64: every runtime computes the same


class Ngrams(nn.Module):
    """Token ids to logits.

    Args:
        config: widths.
        vocabulary: number of token ids; id 0 is padding.
        outputs: classes.
    """

    def __init__(self, config: NgramsConfig, vocabulary: int, outputs: int) -> None:
        super().__init__()
        self.n, self.buckets, self.vocabulary = config.n, config.buckets, vocabulary
        self.embed = nn.Embedding(
            vocabulary + config.buckets, config.width
        )  # tokens, then buckets; row 0 is never read
        nn.init.uniform_(self.embed.weight, -1 / config.width, 1 / config.width)
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(config.width, outputs)
        nn.init.normal_(
            self.head.weight, std=3.0
        )  # or a mean of many small vectors learns slowly: macro F1 on the validation reviews after three epochs 0.829, with torch's own 0.806

    def forward(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor | None = None,
        lengths: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits (n, c) from padded ids (n, t) and mask (n, t), 1 where there is a token; or from packed ids (t,) and lengths (n,)."""
        if lengths is not None:
            bags = self._packed(ids, PackedLayout(lengths))
        else:
            assert mask is not None
            grams = self.grams(
                ids, torch.arange(ids.shape[1], device=ids.device)
            ) * mask.long().unsqueeze(-1)  # (n, t, orders)
            there = (grams > 0).to(self.embed.weight.dtype)
            bags = (self.embed(grams) * there.unsqueeze(-1)).sum((1, 2)) / there.sum((1, 2)).clamp(
                min=1
            ).unsqueeze(-1)  # (n, width)
        logits: torch.Tensor = self.head(self.dropout(bags))
        return logits

    def _packed(self, ids: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
        """(n, width), gathered and averaged in one pass."""
        grams = self.grams(ids, layout.position)  # (t, orders)
        there = grams > 0
        sizes = torch.zeros_like(layout.lengths).index_add_(0, layout.row, there.sum(1))  # (n,)
        return F.embedding_bag(
            grams[there], self.embed.weight, sizes.cumsum(0) - sizes, mode="mean"
        )

    def grams(self, ids: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """Rows of the table for the n-grams of 1, 2, ... tokens that end at each token (..., t, orders); 0 where one would begin before its row.

        Args:
            ids: (..., t).
            place: of each token in its row, (t,).
        """
        found, rolling = [ids], ids
        for before in range(1, self.n):
            rolling = (F.pad(rolling[..., :-1], (1, 0)) * _FACTOR + ids) % _PRIME
            found.append(torch.where(place >= before, self.vocabulary + rolling % self.buckets, 0))
        return torch.stack(found, -1)


class NgramsPruningSpec:
    """Elements of the embedding can go; the tables keep their rows."""

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """One Dim."""
        assert isinstance(module, Ngrams)
        return [
            PrunableDim(
                "width",
                module.embed.embedding_dim,
                [("embed.weight", 1, 0, 1), ("head.weight", 1, 0, 1)],
                minimum=4,
            )
        ]

    def resize(self, config: NgramsConfig, widths: Mapping[str, int]) -> NgramsConfig:
        """A narrower embedding."""
        return config.model_copy(update={"width": widths.get("width", config.width)})
