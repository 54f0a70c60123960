"""Classify by a bidirectional LSTM or GRU over token embeddings, pooled by attention.

- LSTM: Hochreiter and Schmidhuber 1997. GRU: Cho et al. 2014 (arXiv:1406.1078).
- Both directions: Schuster and Paliwal 1997.
- The additive score (Bahdanau et al. 2015, arXiv:1409.0473) against a learned query: Yang et
  al. 2016 (HAN), Zhou et al. 2016 (attention over a BiLSTM).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from components.models.base import PrunableDim
from components.models.dropout import Dropout
from components.models.input_layers import InputLayer, by_token
from components.models.recurrent.config import RecurrentConfig

_CELLS: Mapping[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
# torch's gates i f g o and r z n, in the order of ONNX.
_GATES = {
    "LSTM": (0, 3, 1, 2),
    "GRU": (1, 0, 2),
}
_DIRECTIONS = ("forth", "back")


def states(cell: nn.LSTM | nn.GRU, x: torch.Tensor) -> torch.Tensor:
    """Return the states of a cell after each token.

    Args:
        cell: one layer in one direction, batch first.
        x: (n, t, inputs).

    Returns:
        (n, t, hidden).
    """
    if torch.onnx.is_in_onnx_export():
        return _onnx_states(cell, x)
    out: torch.Tensor = cell(x)[0]
    return out


def _onnx_states(cell: nn.LSTM | nn.GRU, x: torch.Tensor) -> torch.Tensor:
    """Return the states by ONNX's own operator.

    torch.export would unroll the cell to the number of steps of the example.

    Args:
        cell: one layer in one direction, batch first.
        x: (n, t, inputs).

    Returns:
        (n, t, hidden).
    """
    from torch.onnx import ops

    order = _GATES[cell.mode]
    reordered = []
    for weight in cell.parameters():
        gates = [weight.chunk(len(order))[gate] for gate in order]
        reordered.append(torch.cat(gates))
    weight_in, weight_on, *biases = reordered
    inputs = [x.transpose(0, 1), weight_in[None], weight_on[None], torch.cat(biases)[None]]
    attributes: dict[str, Any] = {"hidden_size": cell.hidden_size}
    if cell.mode == "GRU":
        # As torch computes it, not as Cho et al. do.
        attributes["linear_before_reset"] = 1
    shape = (x.shape[1], 1, x.shape[0], cell.hidden_size)
    out = ops.symbolic(cell.mode, inputs, attributes, dtype=x.dtype, shape=shape)
    # From (t, 1, n, hidden).
    return out.squeeze(1).transpose(0, 1)


class RecurrentLayer(nn.Module):
    """Two cells, one for each direction, side by side.

    Args:
        cell: "lstm" or "gru".
        inputs: width of the layer's input.
        forth: units of the cell that reads forwards.
        back: units of the cell that reads backwards.
    """

    def __init__(self, cell: str, inputs: int, forth: int, back: int) -> None:
        super().__init__()
        self.forth = _CELLS[cell](inputs, forth, batch_first=True)
        self.back = _CELLS[cell](inputs, back, batch_first=True)

    def forward(self, x: torch.Tensor, mirror: torch.Tensor) -> torch.Tensor:
        """Return the states (n, t, forth + back).

        Args:
            x: (n, t, inputs).
            mirror: (n, t, 1) position of each token when its row is read backwards.
        """
        mirrored = states(self.back, x.gather(1, mirror.expand_as(x)))
        forth = states(self.forth, x)
        back = mirrored.gather(1, mirror.expand_as(mirrored))
        return torch.cat([forth, back], -1)


class Recurrent(nn.Module):
    """Network from token ids to logits.

    Args:
        config: the cell, its widths, and the dropout.
        vocabulary: number of token ids. Id 0 is padding.
        outputs: number of logits.
    """

    def __init__(self, config: RecurrentConfig, vocabulary: int, outputs: int) -> None:
        super().__init__()
        sizes = [config.width, *(forth + back for forth, back in config.hidden_of)]
        self.embed = nn.Embedding(vocabulary, config.width, padding_idx=0)
        # With torch's own standard deviation of 1, training takes more epochs.
        nn.init.normal_(self.embed.weight, std=0.1)
        self.layers = nn.ModuleList(
            RecurrentLayer(config.cell, inputs, *hidden)
            for inputs, hidden in zip(sizes[:-1], config.hidden_of, strict=True)
        )
        self.attend = nn.Linear(sizes[-1], config.attention)
        self.query = nn.Linear(config.attention, 1, bias=False)
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(sizes[-1], outputs)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the logits of padded rows.

        Args:
            ids: (n, t).
            mask: (n, t), 1 where there is a token.

        Returns:
            (n, c).
        """
        position = torch.arange(ids.shape[1], device=ids.device)  # (t,)
        lengths = mask.long().sum(1, keepdim=True)  # (n, 1)
        # (n, t, 1). Padding stays at the end, so that no state depends on it.
        mirror = torch.where(position < lengths, lengths - 1 - position, position).unsqueeze(-1)
        x = self.embed(ids)  # (n, t, width)
        for layer in self.layers:
            x = layer(self.dropout(x), mirror)  # (n, t, both directions)
        scores = self.query(torch.tanh(self.attend(x))).float()
        scores = scores.masked_fill(mask.unsqueeze(-1) == 0, -1e30)  # (n, t, 1)
        pooled = (x * scores.softmax(1).to(x.dtype)).sum(1)  # (n, both directions)
        logits: torch.Tensor = self.head(self.dropout(pooled))
        return logits

    def table(self) -> nn.Embedding:
        """Return the embedding of the token ids."""
        return self.embed

    def input_layers(self) -> Sequence[InputLayer]:
        """Return the embedding of the tokens."""
        return [InputLayer(self.embed, by_token)]


class RecurrentPruningSpec:
    """Pruning of the units of each direction and layer, and of the attention's hidden units."""

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """Return two dimensions per layer and one for the attention.

        Args:
            module: a `Recurrent`.
        """
        assert isinstance(module, Recurrent)
        result = []
        for i, layer in enumerate(module.layers):
            assert isinstance(layer, RecurrentLayer)
            if i + 1 == len(module.layers):
                readers = ["attend.weight", "head.weight"]
            else:
                readers = [f"layers.{i + 1}.{way}.weight_ih_l0" for way in _DIRECTIONS]
            # The units of the backward direction come after those of the forward one.
            first_back = layer.forth.hidden_size
            result.append(_direction_dim(f"layers.{i}.forth", layer.forth, readers, 0))
            result.append(_direction_dim(f"layers.{i}.back", layer.back, readers, first_back))
        score = [
            ("attend.weight", 0, 0, 1),
            ("attend.bias", 0, 0, 1),
            ("query.weight", 1, 0, 1),
        ]
        return [*result, PrunableDim("attention", module.attend.out_features, score, minimum=4)]

    def resize(self, config: RecurrentConfig, widths: Mapping[str, int]) -> RecurrentConfig:
        """Return the config with other numbers of units.

        Args:
            config: of the network that was pruned.
            widths: name of a dimension -> its units. A dimension that is missing stays.
        """
        hidden = []
        for i, sizes in enumerate(config.hidden_of):
            for way, size in zip(_DIRECTIONS, sizes, strict=True):
                hidden.append(widths.get(f"layers.{i}.{way}", size))
        attention = widths.get("attention", config.attention)
        return config.model_copy(update={"hidden": hidden, "attention": attention})


def _direction_dim(
    name: str, cell: nn.LSTM | nn.GRU, readers: Sequence[str], first: int
) -> PrunableDim:
    """Return the prunable units of one direction of a layer.

    Args:
        name: of the cell in the network.
        cell: its module.
        readers: names of the weights that read the layer's output.
        first: index of the cell's first unit in the layer's output.
    """
    hidden = cell.hidden_size
    gates = range(0, len(_GATES[cell.mode]) * hidden, hidden)
    slices = []
    for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        slices += [(f"{name}.{part}_l0", 0, gate, 1) for gate in gates]
    slices.append((f"{name}.weight_hh_l0", 1, 0, 1))
    slices += [(reader, 1, first, 1) for reader in readers]
    return PrunableDim(name, hidden, slices, minimum=4)
