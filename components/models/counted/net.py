"""Counted n-grams: each row's n-grams, weighed by in how few train rows they occur, a weight of each for each class, and a TextCNN whose logits are added.

The linear path is TF-IDF (Salton and Buckley 1988) with logistic regression as a layer, the whole "wide and deep" (Cheng et al. 2016, arXiv:1606.07792).
Against a bag of hashed n-grams: no two n-grams share a weight, what is too rare to learn from has none, and what is rare weighs more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from components.models.base import PrunableDim
from components.models.counted.config import CountedConfig
from components.models.dropout import Dropout
from components.models.packing import PackedLayout
from components.models.textcnn.net import TextCNN, TextCNNPruningSpec

_PRIME, _FACTOR, _BITS = (
    2**31 - 1,
    1_540_483_477,
    31,
)  # products of the two fit int64: every runtime computes the same
_ENDS, _LONGEST = (
    (1 << 35, 1 << 36),
    3,
)  # marks of n-grams near the beginning and the end, and how many tokens they have at most
_NONE = 2**37  # no n-gram's key, above all of them
_WHOSE = 38  # bits of a key, above which a row's number goes
_GAIN = 8.0  # length of a row's features: steps of the usual rates then move logits as far as a network's


class Counted(nn.Module):
    """Token ids to logits.

    Args:
        config: what is counted.
        vocabulary: number of token ids; id 0 is padding.
        outputs: classes.
    """

    def __init__(self, config: CountedConfig, vocabulary: int, outputs: int) -> None:
        super().__init__()
        self.n, self.min_documents, self.ends = config.n, config.min_documents, config.ends
        # Not learned, and fitted anew from the same rows by who goes on: frozen parameters, which travel with the weights but in no checkpoint and in no step.
        self.keys = nn.Parameter(
            torch.full((config.rows,), _NONE), requires_grad=False
        )  # ascending
        self.rarity = nn.Parameter(torch.zeros(config.rows), requires_grad=False)
        self.wide = nn.Embedding(config.rows, outputs)
        nn.init.zeros_(self.wide.weight)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.dropout = Dropout(config.dropout)
        self.textcnn = TextCNN(config.textcnn, vocabulary, outputs) if config.textcnn else None

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits (n, c) from ids (n, t) and mask (n, t), 1 where there is a token."""
        place = torch.arange(ids.shape[1], device=ids.device)
        grams = self.grams(ids, place, mask.sum(1, keepdim=True) - 1 - place)
        keys = torch.where(mask.unsqueeze(-1) > 0, grams, _NONE).flatten(1).sort(1).values  # (n, g)
        first = (
            keys != F.pad(keys[:, :-1], (1, 0), value=-1)
        )  # how often an n-gram stands in its row says less than that it does (Wang and Manning 2012)
        rows = self.find(keys)
        values = _at(self.rarity, rows) * (
            first & (_at(self.keys, rows) == keys)
        )  # an n-gram that is none meets rows of none, whose rarity is 0
        values = self.dropout(
            values * _GAIN / values.square().sum(1, keepdim=True).clamp(min=1e-6).sqrt()
        )
        logits: torch.Tensor = (self.wide(rows) * values.unsqueeze(-1)).sum(1) + self.bias
        return logits if self.textcnn is None else logits + self.textcnn(ids, mask)

    def grams(self, ids: torch.Tensor, place: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
        """Keys of the n-grams of 1, 2, ... tokens that end at each token, and again of those near either end of the row (..., t, keys); `_NONE` where one would begin before its row.

        Args:
            ids: (..., t).
            place: of each token in its row, (t,).
            left: tokens behind it, (..., t).
        """
        found, rolling = [ids], ids
        for before in range(1, self.n):
            rolling = (F.pad(rolling[..., :-1], (1, 0)) * _FACTOR + ids) % _PRIME
            found.append(torch.where(place >= before, rolling + (before << _BITS), _NONE))
        for near, mark in (
            zip((place < self.ends, left < self.ends), _ENDS, strict=True) if self.ends else ()
        ):
            found += [
                torch.where(near & (keys != _NONE), keys + mark, _NONE)
                for keys in found[: min(self.n, _LONGEST)]
            ]
        return torch.stack(found, -1)

    def find(self, keys: torch.Tensor) -> torch.Tensor:
        """Rows of the table at which keys stand, if they stand anywhere: by halves, for ONNX knows no search."""
        low, span = torch.zeros_like(keys), len(self.keys)
        while span > 1:
            half = span // 2
            low = torch.where(_at(self.keys, low + half) <= keys, low + half, low)
            span -= half
        return low

    @torch.no_grad()
    def count(self, batches: Iterator[Mapping[str, torch.Tensor]]) -> None:
        """Fill the table with what occurs in enough rows, the most frequent first if there is too much.

        Args:
            batches: rows laid end to end, "ids" (t,) and "lengths" (n,).
        """
        seen, documents, total = (
            torch.zeros(0, dtype=torch.long),
            torch.zeros(0, dtype=torch.long),
            0,
        )
        for batch in batches:
            layout = PackedLayout(batch["lengths"])
            keys = self.grams(
                batch["ids"], layout.position, layout.lengths[layout.row] - 1 - layout.position
            )  # (t, keys)
            rows = (layout.row.unsqueeze(1) << _WHOSE).expand_as(keys)
            once = torch.unique((rows | keys)[keys != _NONE]) & ((1 << _WHOSE) - 1)
            seen, place = torch.unique(torch.cat([seen, once]), return_inverse=True)
            documents = torch.zeros_like(seen).index_add_(
                0, place, torch.cat([documents, torch.ones_like(once)])
            )
            total += len(layout.lengths)
        often = (documents >= self.min_documents).nonzero().flatten()
        kept = (
            often[documents[often].argsort(descending=True, stable=True)[: len(self.keys)]]
            .sort()
            .values
        )
        self.keys.fill_(_NONE)[: len(kept)] = seen[kept]
        self.rarity.zero_()[: len(kept)] = ((1 + total) / (1 + documents[kept])).log() + 1


def _at(table: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Elements of a table (r,) in the shape of `rows`; brackets would put a copy of the table into the exported graph, each time."""
    return table.index_select(0, rows.flatten()).view(rows.shape)


class CountedPruningSpec:
    """Filters can go; the table keeps its rows, for a row's features are measured by all of them."""

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """One Dim per kernel size, none without filters."""
        assert isinstance(module, Counted)
        if module.textcnn is None:
            return []
        return [
            PrunableDim(
                f"textcnn.{dim.name}",
                dim.size,
                [(f"textcnn.{name}", *rest) for name, *rest in dim.slices],  # type: ignore[misc]
                dim.minimum,
            )
            for dim in TextCNNPruningSpec().dims(module.textcnn)
        ]

    def resize(self, config: CountedConfig, widths: Mapping[str, int]) -> CountedConfig:
        """Each kernel gets its own number of filters."""
        assert config.textcnn is not None
        own = {name.removeprefix("textcnn."): width for name, width in widths.items()}
        return config.model_copy(
            update={"textcnn": TextCNNPruningSpec().resize(config.textcnn, own)}
        )
