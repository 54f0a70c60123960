"""Classify by counted n-grams, alone or with a TextCNN whose logits are added.

Each n-gram has a weight per logit and is scaled by the number of train rows that it occurs in.
The linear path is TF-IDF (Salton and Buckley 1988) with logistic regression as a layer. The
whole is "wide and deep" (Cheng et al. 2016, arXiv:1606.07792). Compared with a bag of hashed
n-grams, no two n-grams share a weight, n-grams too rare to learn from have none, and rare ones
count more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from components.models.base import PrunableDim
from components.models.counted.config import CountedConfig
from components.models.dropout import Dropout
from components.models.input_layers import InputLayer, over_grams
from components.models.packing import PackedLayout
from components.models.textcnn.net import TextCNN, TextCNNPruningSpec

# Of the rolling hash. Products of the two fit int64, so every runtime computes the same.
_PRIME = 2**31 - 1
_FACTOR = 1_540_483_477
_BITS = 31
# Added to the keys of n-grams near the beginning and near the end of a row.
_END_MARKS = (1 << 35, 1 << 36)
# Tokens of the longest n-gram that is marked.
_LONGEST_MARKED = 3
# A key above those of all n-grams.
_NONE = 2**37
# Bits of a key. A row's number is above them.
_KEY_BITS = 38
# Norm of a row's features. At this norm, steps of the usual learning rates change the logits
# as much as those of a deep network.
_GAIN = 8.0


class Counted(nn.Module):
    """Network from token ids to logits.

    Args:
        config: of the n-grams.
        vocabulary: number of token ids. Id 0 is padding.
        outputs: number of logits.
    """

    def __init__(self, config: CountedConfig, vocabulary: int, outputs: int) -> None:
        super().__init__()
        self.n = config.n
        self.min_documents = config.min_documents
        self.ends = config.ends
        # Ascending keys of the n-grams, and their inverse document frequencies. They are
        # counted, not trained, and a resumed fit counts the same rows again. As frozen
        # parameters they are saved with the weights, but in no checkpoint.
        self.keys = nn.Parameter(torch.full((config.rows,), _NONE), requires_grad=False)
        self.rarity = nn.Parameter(torch.zeros(config.rows), requires_grad=False)
        self.wide = nn.Embedding(config.rows, outputs)
        nn.init.zeros_(self.wide.weight)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.dropout = Dropout(config.dropout)
        self.textcnn = TextCNN(config.textcnn, vocabulary, outputs) if config.textcnn else None

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the logits of padded rows.

        Args:
            ids: (n, t).
            mask: (n, t), 1 where there is a token.

        Returns:
            (n, c).
        """
        position = torch.arange(ids.shape[1], device=ids.device)
        grams = self.grams(ids, position, mask.sum(1, keepdim=True) - 1 - position)
        is_token = mask.unsqueeze(-1) > 0
        # (n, g): all n-grams of a row, in ascending order.
        keys = torch.where(is_token, grams, _NONE).flatten(1).sort(1).values
        # The count of an n-gram in a row says less than its presence (Wang and Manning 2012).
        is_first = keys != F.pad(keys[:, :-1], (1, 0), value=-1)
        rows = self.find(keys)
        # The key `_NONE` may match an unused row, whose rarity is 0.
        in_table = _at(self.keys, rows) == keys
        values = _at(self.rarity, rows) * (is_first & in_table)
        scaled = values * _GAIN
        norm = values.square().sum(1, keepdim=True).clamp(min=1e-6).sqrt()
        values = self.dropout(scaled / norm)
        logits: torch.Tensor = (self.wide(rows) * values.unsqueeze(-1)).sum(1) + self.bias
        return logits if self.textcnn is None else logits + self.textcnn(ids, mask)

    def grams(self, ids: torch.Tensor, position: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
        """Return the keys of the n-grams that end at each token.

        N-grams of 1, 2, ... tokens come first, then again those near either end of the row.

        Args:
            ids: (..., t).
            position: (t,) of each token in its row.
            left: (..., t) tokens after each token in its row.

        Returns:
            (..., t, keys). The key is `_NONE` where an n-gram would begin before its row.
        """
        columns = [ids]
        rolling = ids
        for before in range(1, self.n):
            rolling = (F.pad(rolling[..., :-1], (1, 0)) * _FACTOR + ids) % _PRIME
            columns.append(torch.where(position >= before, rolling + (before << _BITS), _NONE))
        if self.ends:
            near_ends = (position < self.ends, left < self.ends)
            for is_near, mark in zip(near_ends, _END_MARKS, strict=True):
                for keys in columns[: min(self.n, _LONGEST_MARKED)]:
                    columns.append(torch.where(is_near & (keys != _NONE), keys + mark, _NONE))
        return torch.stack(columns, -1)

    def find(self, keys: torch.Tensor) -> torch.Tensor:
        """Return the rows of the table for keys, by binary search.

        A key that is not in the table gets the row of another key. ONNX has no search
        operator.

        Args:
            keys: of n-grams, any shape.

        Returns:
            Row numbers in the shape of the keys.
        """
        low = torch.zeros_like(keys)
        span = len(self.keys)
        while span > 1:
            half = span // 2
            low = torch.where(_at(self.keys, low + half) <= keys, low + half, low)
            span -= half
        return low

    @torch.no_grad()
    def count(self, batches: Iterator[Mapping[str, torch.Tensor]]) -> None:
        """Fill the table with the n-grams that occur in enough rows.

        If there are too many, the most frequent ones are taken.

        Args:
            batches: packed rows, "ids" (t,) and "lengths" (n,).
        """
        all_keys = torch.zeros(0, dtype=torch.long)
        documents = torch.zeros(0, dtype=torch.long)
        total = 0
        for batch in batches:
            layout = PackedLayout(batch["lengths"])
            left = layout.lengths[layout.row] - 1 - layout.position
            keys = self.grams(batch["ids"], layout.position, left)  # (t, keys)
            rows = (layout.row.unsqueeze(1) << _KEY_BITS).expand_as(keys)
            once = torch.unique((rows | keys)[keys != _NONE]) & ((1 << _KEY_BITS) - 1)
            all_keys, index = torch.unique(torch.cat([all_keys, once]), return_inverse=True)
            counts = torch.cat([documents, torch.ones_like(once)])
            documents = torch.zeros_like(all_keys).index_add_(0, index, counts)
            total += len(layout.lengths)
        often = (documents >= self.min_documents).nonzero().flatten()
        by_frequency = documents[often].argsort(descending=True, stable=True)
        selected = often[by_frequency[: len(self.keys)]].sort().values
        self.keys.fill_(_NONE)[: len(selected)] = all_keys[selected]
        inverse_frequency = (1 + total) / (1 + documents[selected])
        self.rarity.zero_()[: len(selected)] = inverse_frequency.log() + 1

    def input_layers(self) -> Sequence[InputLayer]:
        """Return the weights of the n-grams, and the embedding of the TextCNN."""
        layers = [InputLayer(self.wide, self._over_tokens)]
        if self.textcnn is not None:
            layers.extend(self.textcnn.input_layers())
        return layers

    def _over_tokens(
        self, inputs: Mapping[str, torch.Tensor], contributions: torch.Tensor
    ) -> torch.Tensor:
        """Return (n, t) the contributions of tokens.

        What a row's n-gram contributes is shared by its occurrences, and then by their tokens.

        Args:
            inputs: of `forward`.
            contributions: (n, g, c) of the weights of the sorted n-grams.
        """
        ids = inputs["ids"]
        mask = inputs["mask"]
        position = torch.arange(ids.shape[1], device=ids.device)
        grams = self.grams(ids, position, mask.sum(1, keepdim=True) - 1 - position)
        is_token = mask.unsqueeze(-1) > 0
        keys, order = torch.where(is_token, grams, _NONE).flatten(1).sort(1)
        # (n, g): the number of each distinct n-gram of a row.
        number = (keys != F.pad(keys[:, :-1], (1, 0), value=-1)).cumsum(1) - 1
        sums = contributions.sum(-1)
        totals = torch.zeros_like(sums).scatter_add(1, number, sums)
        counts = torch.zeros_like(sums).scatter_add(1, number, torch.ones_like(sums))
        shares = (totals / counts.clamp(min=1)).gather(1, number)
        by_occurrence = torch.zeros_like(sums).scatter(1, order, shares)
        lengths = list(range(1, self.n + 1))
        if self.ends:
            lengths += 2 * lengths[:_LONGEST_MARKED]
        return over_grams(by_occurrence.view(grams.shape), lengths)


def _at(table: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return elements of a table (r,) in the shape of `rows`.

    Indexing with brackets would copy the table into the exported graph at each use.
    """
    return table.index_select(0, rows.flatten()).view(rows.shape)


class CountedPruningSpec:
    """Pruning of the table's n-grams and of the TextCNN's filters."""

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """Return one dimension for the table and one per kernel size of the TextCNN.

        Args:
            module: a `Counted`.
        """
        assert isinstance(module, Counted)
        # How rare an n-gram is does not tell what it is worth.
        table = PrunableDim(
            "rows",
            len(module.keys),
            [("keys", 0, 0, 1), ("rarity", 0, 0, 1), ("wide.weight", 0, 0, 1)],
            unscored=("keys", "rarity"),
        )
        if module.textcnn is None:
            return [table]
        result = [table]
        for dim in TextCNNPruningSpec().dims(module.textcnn):
            slices = [
                (f"textcnn.{name}", axis, first, per_unit)
                for name, axis, first, per_unit in dim.slices
            ]
            result.append(PrunableDim(f"textcnn.{dim.name}", dim.size, slices, dim.minimum))
        return result

    def resize(self, config: CountedConfig, widths: Mapping[str, int]) -> CountedConfig:
        """Return the config with other numbers of n-grams and filters.

        Args:
            config: of the network that was pruned.
            widths: name of a dimension -> its n-grams or filters.
        """
        config = config.model_copy(update={"rows": widths.get("rows", config.rows)})
        if config.textcnn is None:
            return config
        filters = {name.removeprefix("textcnn."): width for name, width in widths.items()}
        textcnn = TextCNNPruningSpec().resize(config.textcnn, filters)
        return config.model_copy(update={"textcnn": textcnn})
