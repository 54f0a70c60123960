"""Whoever else is in the batch, an answer is the same to 1e-5: numpy, torch (padded and laid end to end) and ONNX Runtime."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from stage_runner import TINY, StageRunner

from components.inference.predictor import Predictor, load, onnx_scorer, torch_scorer
from components.serving.http.batching import Batcher
from components.tasks import base

KINDS = ["classical", "textcnn", "ngrams", "counted", "transformer", "recurrent", "onnx", "int8"]


@pytest.fixture(scope="module")
def card(reviews: StageRunner, network: Path):
    return load(network).card


def drawn(reviews: StageRunner, card, name: str) -> Predictor:
    """A network with weights as they are drawn."""
    import torch

    from components.training.batches import load_encoder

    encoder, architecture = (
        load_encoder(reviews.root / "tokens", reviews.task),
        base.models(reviews.task).architectures[name],
    )
    torch.manual_seed(7)
    module = (
        architecture.build(architecture.Config.model_validate(TINY[name]), encoder)
        .eval()
        .requires_grad_(False)
    )
    return Predictor(
        card,
        encoder.pack if architecture.supports_packing else encoder.collate,
        torch_scorer(module),
        encoder.rows,
    )


@pytest.fixture(scope="module")
def exported(reviews: StageRunner, network: Path) -> bytes:
    """The fitted TextCNN as ONNX."""
    import numpy as np

    from components.inference.predictor import load_module
    from components.stages.compress.quantize import export
    from components.training.batches import EncodedRows, load_encoder

    rows = EncodedRows(
        reviews.root / "tokens", "train", load_encoder(reviews.root / "tokens", reviews.task)
    )
    example = {name: value for name, value in rows.batch(np.arange(4)).items() if name != "target"}
    return export(
        base.models(reviews.task).architectures["textcnn"].graphs(load_module(network))["forward"],
        example,
    )


def predictor(kind: str, reviews: StageRunner, card, network: Path, exported: bytes) -> Predictor:
    """One of each kind."""
    from components.core.tables import read_table
    from components.stages.compress.quantize import int8
    from components.training.batches import EncodedRows, load_encoder

    encoder = load_encoder(reviews.root / "tokens", reviews.task)
    if kind == "classical":
        baseline = base.baselines(reviews.task).baselines["classical"]
        arrays, files = baseline.fit(
            read_table(reviews.root / "clean", "train"),
            card.targets,
            reviews.sections["train"],
            reviews.sections["clean"],
            7,
        )
        return Predictor(card, baseline.featurizer(files), baseline.scorer(arrays))
    if kind == "textcnn":
        return load(network)
    if kind in TINY:
        return drawn(reviews, card, kind)
    rows = EncodedRows(reviews.root / "tokens", "train", encoder)
    return Predictor(
        card,
        encoder.collate,
        onnx_scorer(exported if kind == "onnx" else int8(exported, rows, 64, 7)),
        encoder.rows,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_answers_do_not_depend_on_the_batch(kind, reviews, card, network, exported):
    model = predictor(kind, reviews, card, network, exported)
    texts = [
        row["text"] * (1 + number % 5) for number, row in enumerate(reviews.rows("clean", "test"))
    ]
    queries = [model.evaluator.Query(text=text) for text in texts]

    async def together():
        batcher = Batcher(model, 16, 700, 0.001)
        found = await asyncio.gather(
            *(batcher.ask(queries[start : start + 3]) for start in range(0, len(queries), 3))
        )
        batcher.close()
        return [answer for part in found for answer in part]

    apart = [model.predict([query])[0] for query in queries]
    gaps = [
        abs(one.probabilities[label] - other.probabilities[label])
        for one, other in zip(apart, asyncio.run(together()), strict=True)
        for label in one.probabilities
    ]
    assert len(queries) > 15 and max(gaps) <= 1e-5
