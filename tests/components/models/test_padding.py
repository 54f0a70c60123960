"""An answer depends on the tokens of its row alone: not on padding, not on company, not on the form of the batch or the runtime."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from components.models.counted.config import CountedConfig
from components.models.counted.net import Counted
from components.models.ngrams.config import NgramsConfig
from components.models.ngrams.net import Ngrams
from components.models.recurrent.config import RecurrentConfig
from components.models.recurrent.net import Recurrent
from components.models.textcnn.config import TextCNNConfig
from components.models.textcnn.net import TextCNN
from components.models.transformer.config import TransformerConfig
from components.models.transformer.net import Transformer
from components.stages.compress.quantize import export
from components.tasks.base import Graph
from components.tasks.text_classification.models import MODELS

VOCABULARY, LONGEST = 50, 20


def counting(n: int, textcnn: TextCNNConfig | None = None) -> Counted:
    """With a table of what occurs in a few rows, those below among them."""
    module = Counted(
        CountedConfig(n=n, ends=4, min_documents=1, rows=900, textcnn=textcnn), VOCABULARY, 3
    )
    rows = [
        row
        for lengths in (
            (1, 2, 3, 5, 9, LONGEST),
            (1, 4, 11),
            (1,),
            (3,),
            (2, 1),
            (1, 5, 13, 8, 2),
            (LONGEST,) * 3,
        )
        for row in rows_of(*lengths)
    ]
    module.count(
        iter(
            [
                {
                    "ids": torch.cat([*rows, torch.arange(1, 13)]),
                    "lengths": torch.tensor([*(len(row) for row in rows), 12]),
                }
            ]
        )
    )
    torch.nn.init.normal_(module.wide.weight)
    return module


BUILDS: dict[str, Any] = {
    "ngrams": lambda: Ngrams(NgramsConfig(n=4, buckets=70, width=16), VOCABULARY, 3),
    "counted": lambda: counting(4),
    # Two tokens are enough beside those above: an export of four takes twice as long.
    "counted and textcnn": lambda: counting(2, TextCNNConfig(width=8, channels=5, kernels=[1, 2])),
    "textcnn": lambda: TextCNN(
        TextCNNConfig(width=8, channels=[5, 6, 7, 4], kernels=[1, 2, 3, 4]), VOCABULARY, 3
    ),
    "lstm": lambda: Recurrent(
        RecurrentConfig(width=12, hidden=10, layers=2, attention=6), VOCABULARY, 3
    ),
    "gru": lambda: Recurrent(
        RecurrentConfig(cell="gru", width=12, hidden=[10, 7], attention=6), VOCABULARY, 3
    ),
    "transformer": lambda: Transformer(
        TransformerConfig(width=16, layers=2, heads=4, feedforward=24), VOCABULARY, 3, LONGEST
    ),
}
PACKED = [
    name for name, architecture in MODELS.architectures.items() if architecture.supports_packing
]
every = pytest.mark.parametrize("name", BUILDS)


def built(name: str) -> torch.nn.Module:
    """The net with random weights; biases too, or a window of padding would answer zero by chance."""
    torch.manual_seed(0)
    module: torch.nn.Module = BUILDS[name]().eval()
    for parameter in module.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.5)
    return module


def padded(rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """ids and mask (n, LONGEST)."""
    ids, mask = torch.zeros(len(rows), LONGEST, dtype=torch.long), torch.zeros(len(rows), LONGEST)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return {"ids": ids, "mask": mask}


def rows_of(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths))
    return [torch.randint(1, VOCABULARY, (length,), generator=generator) for length in lengths]


@every
def test_padding_does_not_change_answers(name: str) -> None:
    module, rows = built(name), rows_of(1, 2, 3, 5, 9, LONGEST)
    with torch.no_grad():
        together = module(**padded(rows))
        for row, answer in zip(rows, together, strict=True):
            alone = module(row[None], torch.ones(1, len(row)))[0]
            torch.testing.assert_close(alone, answer, atol=1e-5, rtol=1e-5)
    assert (
        together.std(dim=0).min() > 0.1
    )  # the answers differ, or the comparison would say nothing


@every
def test_what_stands_in_the_padding_is_not_read(name: str) -> None:
    module, batch = built(name), padded(rows_of(1, 4, 11))
    noisy = torch.where(
        batch["mask"] > 0, batch["ids"], torch.randint(1, VOCABULARY, batch["ids"].shape)
    )
    with torch.no_grad():
        torch.testing.assert_close(
            module(noisy, batch["mask"]), module(**batch), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("name", PACKED)
def test_packed_rows_answer_and_learn_as_padded_ones(name: str) -> None:
    rows = rows_of(1, 2, 2, 3, 9, 9, 1, LONGEST)
    forms = {
        "padded": padded(rows),
        "packed": {"ids": torch.cat(rows), "lengths": torch.tensor([len(row) for row in rows])},
    }
    answers, gradients = {}, {}
    for form, batch in forms.items():
        module = built(name)
        answers[form] = module(**batch)
        torch.nn.functional.cross_entropy(answers[form], torch.arange(len(rows)) % 3).backward()  # type: ignore[no-untyped-call]
        gradients[form] = {key: parameter.grad for key, parameter in module.named_parameters()}
    torch.testing.assert_close(answers["packed"], answers["padded"], atol=1e-5, rtol=1e-5)
    for key, gradient in gradients["padded"].items():
        torch.testing.assert_close(
            gradients["packed"][key], gradient, atol=1e-4, rtol=1e-4, msg=key
        )
        assert gradient is not None, key
        assert gradient.abs().max() > 1e-4, key


@every
def test_the_order_of_tokens_counts(name: str) -> None:
    torch.manual_seed(1)
    module, ids = BUILDS[name]().eval(), torch.arange(1, 13)[None]
    with torch.no_grad():
        assert not torch.allclose(
            module(ids, torch.ones(1, 12)), module(ids.flip(1), torch.ones(1, 12)), atol=1e-4
        )


@functools.cache
def runtime(name: str) -> Any:
    """ONNX Runtime with the net as `compress` exports it."""
    import onnxruntime

    graph = Graph(
        built(name), {"ids": ("batch", "length"), "mask": ("batch", "length")}, ["logits"]
    )
    example = {key: value.numpy() for key, value in padded(rows_of(3, 7, LONGEST)).items()}
    return onnxruntime.InferenceSession(export(graph, example), providers=["CPUExecutionProvider"])


@every
@pytest.mark.parametrize("lengths", [(1,), (3,), (2, 1), (1, 5, 13, 8, 2), (LONGEST,) * 3])
def test_the_exported_graph_computes_the_same_for_other_shapes(
    name: str, lengths: tuple[int, ...]
) -> None:
    batch = {key: value[:, : max(lengths)] for key, value in padded(rows_of(*lengths)).items()}
    with torch.no_grad():
        expected = built(name)(**batch)
    got = runtime(name).run(None, {key: value.numpy() for key, value in batch.items()})[0]
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-5, rtol=1e-5)


def test_an_export_traces_no_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def traced(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"with gradients: {torch.is_grad_enabled()}")

    monkeypatch.setattr(torch.onnx, "export", traced)
    graph = Graph(torch.nn.Linear(2, 1), {"x": ("batch", 2)}, ["logits"])
    with pytest.raises(RuntimeError, match="with gradients: False"):
        export(graph, {"x": np.ones((2, 2), np.float32)})


def test_torch_makes_its_table_of_operators_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    def made_again(*_: Any, **__: Any) -> None:
        raise AssertionError("a second table of operators")

    graph = Graph(torch.nn.Linear(2, 1), {"input": ("batch", 2)}, ["logits"])
    example = {"input": np.ones((2, 2), np.float32)}
    first = export(graph, example)
    monkeypatch.setattr(ONNXRegistry, "_register", made_again)
    assert export(graph, example) == first


def test_an_n_gram_is_the_same_wherever_it_stands_and_has_its_own_row() -> None:
    module = Ngrams(NgramsConfig(n=3, buckets=100_003, width=4), VOCABULARY, 2)
    pairs = torch.cartesian_prod(
        torch.arange(1, VOCABULARY), torch.arange(1, VOCABULARY)
    )  # every pair of tokens, each a row
    buckets = module.grams(pairs, torch.arange(2))[:, 1, 1]
    assert len(set(buckets.tolist())) > 0.98 * len(pairs)
    assert buckets.min() >= VOCABULARY
    row = module.grams(torch.tensor([9, 4, 7, 9, 4, 7]), torch.arange(6))
    assert row[2].equal(row[5])
    assert row[:2, 2].tolist() == [0, 0]  # no three tokens yet


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            lambda: TextCNNConfig(channels=[8, 8], kernels=[1, 2, 3]),
            "2 numbers of filters for 3 kernels",
        ),
        (
            lambda: RecurrentConfig(hidden=[8, 8, 8], layers=2),
            r"hidden has 3 widths, but 2 layer\(s\) of two directions take 4",
        ),
        (lambda: RecurrentConfig(hidden=0), "hidden must be at least 1"),
    ],
)
def test_widths_that_do_not_fit_are_refused(config: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        config()
