"""An answer does not depend on who else is in the batch."""

from __future__ import annotations

import pytest
import torch

from components.nets.textcnn.config import TextCNNConfig
from components.nets.textcnn.net import TextCNN
from components.nets.transformer.config import TransformerConfig
from components.nets.transformer.net import Transformer

VOCABULARY, LONGEST = 50, 20


def textcnn() -> torch.nn.Module:
    return TextCNN(TextCNNConfig(width=8, channels=[5, 6, 7, 4], kernels=[1, 2, 3, 4]), VOCABULARY, 3)


def transformer() -> torch.nn.Module:
    return Transformer(TransformerConfig(width=16, layers=2, heads=4, feedforward=24), VOCABULARY, 3, LONGEST)


@pytest.mark.parametrize("build", [textcnn, transformer])
def test_padding_does_not_change_answers(build) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    module = build().eval()
    for parameter in module.parameters():  # biases too, or a window of padding would answer zero by chance
        torch.nn.init.normal_(parameter, std=0.5)
    rows = [torch.randint(1, VOCABULARY, (length,)) for length in (1, 2, 3, 5, 9, LONGEST)]
    ids, mask = torch.zeros(len(rows), LONGEST, dtype=torch.long), torch.zeros(len(rows), LONGEST)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    with torch.no_grad():
        together = module(ids, mask)
        for row, answer in zip(rows, together, strict=True):
            alone = module(row[None], torch.ones(1, len(row)))[0]
            torch.testing.assert_close(alone, answer, atol=1e-5, rtol=1e-5)
    assert together.std(dim=0).min() > 0.1  # the answers differ, or the comparison would say nothing


@pytest.mark.parametrize("build", [textcnn, transformer])
def test_the_order_of_tokens_counts(build) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(1)
    module, ids = build().eval(), torch.arange(1, 13)[None]
    with torch.no_grad():
        assert not torch.allclose(module(ids, torch.ones(1, 12)), module(ids.flip(1), torch.ones(1, 12)), atol=1e-4)
