"""Bidirectional LSTM or GRU over token embeddings, pooled by attention.

LSTM: Hochreiter and Schmidhuber 1997; GRU: Cho et al. 2014 (arXiv:1406.1078); both directions: Schuster and Paliwal 1997; the additive score
(Bahdanau et al. 2015, arXiv:1409.0473) against a learned query: Yang et al. 2016 (HAN), Zhou et al. 2016 (attention over a BiLSTM).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from components.models.base import PrunableDim
from components.models.dropout import Dropout
from components.models.recurrent.config import RecurrentConfig

_CELLS: Mapping[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
_GATES = {
    "LSTM": (0, 3, 1, 2),
    "GRU": (1, 0, 2),
}  # torch's i f g o and r z n, in the order that ONNX wants


def states(cell: nn.LSTM | nn.GRU, x: torch.Tensor) -> torch.Tensor:
    """(n, t, hidden) from x (n, t, inputs)."""
    if torch.onnx.is_in_onnx_export():
        return _onnx_states(cell, x)
    out: torch.Tensor = cell(x)[0]
    return out


def _onnx_states(cell: nn.LSTM | nn.GRU, x: torch.Tensor) -> torch.Tensor:
    """The same by ONNX's own operator: torch.export would unroll the cell to as many steps as the example has."""
    from torch.onnx import ops

    order = _GATES[cell.mode]
    weight_in, weight_on, *biases = [
        torch.cat([weight.chunk(len(order))[gate] for gate in order])
        for weight in cell.parameters()
    ]
    inputs = [x.transpose(0, 1), weight_in[None], weight_on[None], torch.cat(biases)[None]]
    reset: dict[str, Any] = (
        {"linear_before_reset": 1} if cell.mode == "GRU" else {}
    )  # as torch has it, not as Cho et al.
    out = ops.symbolic(
        cell.mode,
        inputs,
        {"hidden_size": cell.hidden_size, **reset},
        dtype=x.dtype,
        shape=(x.shape[1], 1, x.shape[0], cell.hidden_size),
    )  # (t, 1, n, hidden)
    return out.squeeze(1).transpose(0, 1)


class RecurrentLayer(nn.Module):
    """One direction and the other, side by side."""

    def __init__(self, cell: str, inputs: int, forth: int, back: int) -> None:
        super().__init__()
        self.forth, self.back = (
            _CELLS[cell](inputs, hidden, batch_first=True) for hidden in (forth, back)
        )

    def forward(self, x: torch.Tensor, mirror: torch.Tensor) -> torch.Tensor:
        """(n, t, forth + back) from x (n, t, inputs); mirror (n, t, 1): where each token is when its row is read backwards."""
        reversed_ = states(self.back, x.gather(1, mirror.expand_as(x)))
        return torch.cat(
            [states(self.forth, x), reversed_.gather(1, mirror.expand_as(reversed_))], -1
        )


class Recurrent(nn.Module):
    """Token ids to logits.

    Args:
        config: widths.
        vocabulary: number of token ids; id 0 is padding.
        outputs: classes.
    """

    def __init__(self, config: RecurrentConfig, vocabulary: int, outputs: int) -> None:
        super().__init__()
        sizes = [config.width, *(forth + back for forth, back in config.hidden_of)]
        self.embed = nn.Embedding(vocabulary, config.width, padding_idx=0)
        nn.init.normal_(self.embed.weight, std=0.1)  # torch's own, 1, takes more epochs to unlearn
        self.layers = nn.ModuleList(
            RecurrentLayer(config.cell, inputs, *hidden)
            for inputs, hidden in zip(sizes[:-1], config.hidden_of, strict=True)
        )
        self.attend, self.query = (
            nn.Linear(sizes[-1], config.attention),
            nn.Linear(config.attention, 1, bias=False),
        )
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(sizes[-1], outputs)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits (n, c) from ids (n, t) and mask (n, t), 1 where there is a token."""
        place, lengths = (
            torch.arange(ids.shape[1], device=ids.device),
            mask.long().sum(1, keepdim=True),
        )  # (t,), (n, 1)
        mirror = torch.where(place < lengths, lengths - 1 - place, place).unsqueeze(
            -1
        )  # (n, t, 1): padding stays at the end, so no state has seen it
        x = self.embed(ids)  # (n, t, width)
        for layer in self.layers:
            x = layer(self.dropout(x), mirror)  # (n, t, both directions)
        scores = (
            self.query(torch.tanh(self.attend(x)))
            .float()
            .masked_fill(mask.unsqueeze(-1) == 0, -1e30)
        )  # (n, t, 1)
        pooled = (x * scores.softmax(1).to(x.dtype)).sum(1)  # (n, both directions)
        logits: torch.Tensor = self.head(self.dropout(pooled))
        return logits


class RecurrentPruningSpec:
    """Units of each direction can go, layer by layer, and hidden units of the pooling's score."""

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """Two Dims per layer and one for the score."""
        assert isinstance(module, Recurrent)
        result = []
        for i, layer in enumerate(module.layers):
            assert isinstance(layer, RecurrentLayer)
            last = i + 1 == len(module.layers)
            readers = (
                ["attend.weight", "head.weight"]
                if last
                else [f"layers.{i + 1}.{way}.weight_ih_l0" for way in ("forth", "back")]
            )
            for way, cell, first in (
                ("forth", layer.forth, 0),
                ("back", layer.back, layer.forth.hidden_size),
            ):
                name, hidden = f"layers.{i}.{way}", cell.hidden_size
                gates = range(0, len(_GATES[cell.mode]) * hidden, hidden)
                written = [
                    (f"{name}.{part}_l0", 0, gate, 1)
                    for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                    for gate in gates
                ]
                read = [
                    (f"{name}.weight_hh_l0", 1, 0, 1),
                    *((reader, 1, first, 1) for reader in readers),
                ]
                result.append(PrunableDim(name, hidden, [*written, *read], minimum=4))
        score = [("attend.weight", 0, 0, 1), ("attend.bias", 0, 0, 1), ("query.weight", 1, 0, 1)]
        return [*result, PrunableDim("attention", module.attend.out_features, score, minimum=4)]

    def resize(self, config: RecurrentConfig, widths: Mapping[str, int]) -> RecurrentConfig:
        """Each direction of each layer gets its own number of units."""
        hidden = [
            widths.get(f"layers.{i}.{way}", size)
            for i, both in enumerate(config.hidden_of)
            for way, size in zip(("forth", "back"), both, strict=True)
        ]
        return config.model_copy(
            update={"hidden": hidden, "attention": widths.get("attention", config.attention)}
        )
