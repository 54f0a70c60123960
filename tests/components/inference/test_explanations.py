"""Explanations: contributions are complete, they name what decides, and no text becomes HTML."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.fields.gram_counts import GramBlock, gram_counts, gram_spans
from components.fields.image import decode
from components.inference.explanations.integrated_gradients import integrated_gradients
from components.inference.explanations.methods import TOLERANCE, explain_queries
from components.inference.predictor import load, load_module_and_encoder
from components.models.convnet.config import ConvNetConfig
from components.models.convnet.net import ConvNet
from components.models.feature_layout import FeatureLayout
from components.models.ft_transformer.config import FTTransformerConfig
from components.models.ft_transformer.net import FTTransformer
from components.models.mlp.config import MLPConfig
from components.models.mlp.net import MLP
from components.models.table_resnet.config import TableResNetConfig
from components.models.table_resnet.net import TableResNet
from components.tasks import base
from components.tasks.shared.evaluator.classification.evaluator import Answer
from tests.components.training.small_bundles import (
    TINY,
    WORDS,
    numpy_bundle,
    onnx_bundle,
    torch_bundle,
)

TEXTS: Any = base.evaluator("text_classification")
PICTURES: Any = base.evaluator("image_classification")
TABLES: Any = base.evaluator("tabular_regression")
QUERIES = [TEXTS.Query(text=text) for text in WORDS]
LAYOUT = FeatureLayout(3, [4, 5])


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("textcnn", TINY),
        ("ngrams", {"width": 8, "buckets": 64, "n": 3}),
        ("counted", {"rows": 64, "n": 3, "ends": 2}),
        ("counted", {"rows": 64, "n": 2, "ends": 0, "textcnn": TINY}),
        ("recurrent", {"width": 8, "hidden": 8, "layers": 1}),
        ("transformer", {"width": 16, "heads": 2, "layers": 1, "feedforward": 16}),
    ],
)
def test_the_contributions_of_texts_sum_up_to_the_change_of_the_score(
    architecture: str, config: dict[str, Any], tmp_path: Path
) -> None:
    module, encoder = load_module_and_encoder(torch_bundle(tmp_path, architecture, config))
    inputs = TEXTS.columns(QUERIES)
    batch = encoder.collate(encoder.rows(inputs))
    if architecture == "counted":
        # As after a count, with weights that are not zero.
        packed = encoder.pack(encoder.rows(inputs))
        module.count(iter([{name: torch.from_numpy(value) for name, value in packed.items()}] * 2))
        torch.nn.init.normal_(module.wide.weight)
    directions = np.tile([[-1.0, 1.0]], (len(QUERIES), 1))
    result = integrated_gradients(module, batch, directions)
    assert result.errors.max() <= TOLERANCE
    scores = _scores(module, batch)
    for layer in module.input_layers():
        layer.module.register_forward_hook(lambda *call: torch.zeros_like(call[-1]))
    change = scores - _scores(module, batch)
    assert np.abs(change).max() > 1e-4
    assert result.contributions.sum(1) == pytest.approx(
        change, rel=0.02, abs=0.02 * float(abs(change).max())
    )
    # Padding says nothing.
    assert not result.contributions[batch["mask"] == 0].any()
    elements = encoder.elements(inputs, result.contributions)
    assert [len(row) for row in elements] == [len(text) for text in WORDS]
    sums = [row.sum() for row in elements]
    assert sums == pytest.approx(result.contributions.sum(1).tolist(), abs=1e-9)


def _scores(module: Any, batch: Any) -> Any:
    with torch.inference_mode():
        outputs = module(**{name: torch.from_numpy(value) for name, value in batch.items()})
    return (outputs[:, 1] - outputs[:, 0]).numpy()


@pytest.mark.parametrize(
    ("network", "config"),
    [
        (MLP, MLPConfig(hidden=[8])),
        (MLP, MLPConfig(hidden=[8], number_width=0)),
        (TableResNet, TableResNetConfig()),
        (FTTransformer, FTTransformerConfig()),
    ],
    ids=["mlp", "plain numbers", "resnet", "transformer"],
)
def test_the_contributions_of_columns_are_complete(network: Any, config: Any) -> None:
    torch.manual_seed(2)
    module = network(config, LAYOUT, 2).eval().requires_grad_(False)
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=(6, 3))
    categories = np.stack([rng.integers(0, 4, 6), rng.integers(0, 5, 6)], axis=1)
    features = np.concatenate([numbers, categories], axis=1).astype(np.float32)
    result = integrated_gradients(module, {"features": features}, np.tile([[-1.0, 1.0]], (6, 1)))
    assert result.contributions.shape == (6, 5)
    # Of random weights a row may hardly change the score, so that its relative error is large.
    assert np.median(result.errors) <= TOLERANCE and result.errors.max() <= 0.03


def test_the_pixels_of_a_picture_that_a_network_sees_contribute() -> None:
    torch.manual_seed(3)
    module = ConvNet(ConvNetConfig(channels=[4], hidden=8), 1, 8, 2).eval().requires_grad_(False)
    pixels = np.zeros((1, 1, 8, 8), np.float32)
    pixels[0, 0, 2:4, 5:7] = 2.0
    result = integrated_gradients(module, {"pixels": pixels}, np.array([[-1.0, 1.0]]))
    assert result.errors.max() <= TOLERANCE
    rows, columns = np.nonzero(result.contributions[0])
    assert set(rows) == {2, 3} and set(columns) == {5, 6}


@pytest.mark.parametrize("architecture", ["textcnn", "ngrams"])
def test_hooks_are_gone_after_an_explanation(architecture: str, tmp_path: Path) -> None:
    config = TINY if architecture == "textcnn" else {"width": 8, "buckets": 64}
    module, encoder = load_module_and_encoder(torch_bundle(tmp_path, architecture, config))
    batch = encoder.collate(encoder.rows(TEXTS.columns(QUERIES)))
    before = _scores(module, batch)
    integrated_gradients(module, batch, np.ones((len(QUERIES), 2)))
    assert (_scores(module, batch) == before).all()


def test_the_terms_of_a_linear_model_sum_up_to_its_score(tmp_path: Path) -> None:
    folder = numpy_bundle(tmp_path)
    predict = load(folder).predict
    result = explain_queries(folder, predict, QUERIES, "auto")
    assert result.method == "exact"
    from safetensors.numpy import load_file

    intercept = load_file(folder / "arrays.safetensors")["intercept"]
    for answer, explanation in zip(predict(QUERIES), result.explanations, strict=True):
        best = ["差评", "好评"].index(answer.label)
        score = TEXTS.support(answer, answer)
        constant = intercept[best] - intercept[1 - best]
        assert sum(explanation.weights) == pytest.approx(score - constant, abs=1e-5)
    hotel = result.explanations[0]
    assert "".join(hotel.parts) == WORDS[0]


@pytest.mark.parametrize(
    "blocks",
    [
        [GramBlock("char", 1, 4)],
        [GramBlock("char_wb", 2, 4), GramBlock("word", 1, 2)],
        [GramBlock("char", 1, 3), GramBlock("word", 1, 2)],
    ],
)
def test_the_spans_of_n_grams_are_those_that_are_counted(blocks: Sequence[GramBlock]) -> None:
    from components.fields.gram_counts import document_frequencies

    text = "a good, good hotel  很好 很好"
    vocabulary, _ = document_frequencies([text], blocks)
    columns, counts, _ = gram_counts([text], blocks, vocabulary)
    found, starts, ends = gram_spans(text, blocks, vocabulary)
    assert np.bincount(found, minlength=len(vocabulary)).tolist() == [
        dict(zip(columns.tolist(), counts.tolist(), strict=True)).get(column, 0)
        for column in range(len(vocabulary))
    ]
    spans: dict[int, set[str]] = {}
    for column, start, end in zip(found.tolist(), starts.tolist(), ends.tolist(), strict=True):
        assert 0 <= start < end <= len(text)
        spans.setdefault(column, set()).add(text[start:end].strip())
    # All occurrences of an n-gram are one text, but for the space between two words.
    assert all(len({span.replace(" ", "") for span in of_gram}) == 1 for of_gram in spans.values())


def test_a_model_without_gradients_is_explained_by_occlusion(tmp_path: Path) -> None:
    folder = onnx_bundle(tmp_path)
    predict = load(folder).predict
    result = explain_queries(folder, predict, QUERIES[:1], "integrated_gradients")
    assert result.method == "occlusion" and not result.errors
    (explanation,) = result.explanations
    full, *others = [
        TEXTS.Query(text=text) for text in ("酒店很好", "店很好", "酒很好", "酒店好", "酒店很")
    ]
    answer = predict([full])[0]
    expected = [
        TEXTS.support(answer, answer) - TEXTS.support(other, answer) for other in predict(others)
    ]
    assert explanation.weights == pytest.approx(expected)


def test_the_cell_that_decides_is_found_and_painted_over() -> None:
    from PIL import Image

    pixels = np.zeros((9, 9), np.uint8)
    pixels[0:3, 6:9] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    query = PICTURES.Query(image=base64.b64encode(file.getvalue()).decode())

    def bright_corner(queries: Sequence[Any]) -> list[Answer]:
        answers = []
        for asked in queries:
            corner = decode(base64.b64decode(asked.image), 1)[0:3, 6:9].mean() / 256
            answers.append(
                Answer(label="b", probability=corner, probabilities={"a": 1 - corner, "b": corner})
            )
        return answers

    from components.inference.explanations.methods import _by_occlusion

    (explanation,) = _by_occlusion(PICTURES, bright_corner, [query]).explanations
    assert len(explanation.parts) == 36
    strong = [
        part
        for part, weight in zip(explanation.parts, explanation.weights, strict=True)
        if weight > 0.1
    ]
    assert strong and all(int(part.split()[1].strip(",")) <= 2 for part in strong)
    assert all(int(part.split()[3]) >= 5 for part in strong)
    case = base.Case("1", query, "b", {})
    html = PICTURES.show_parts(case, explanation.parts, explanation.weights)
    assert html.count("data:image/png;base64,") == 2


def test_the_importance_of_pictures_has_all_their_cells() -> None:
    from PIL import Image

    sizes = {(row, column): 10.0 * row + column for row in range(1, 6) for column in range(1, 6)}
    importances = [
        base.PartImportance(f"row {row}, column {column}", size, 3)
        for (row, column), size in sizes.items()
    ]
    html = str(PICTURES.show_importance(importances))
    data = base64.b64decode(html.partition("base64,")[2].partition('"')[0])
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    assert pixels.shape == (5, 5, 3)
    # The more important a cell is, the darker it is.
    assert (np.diff(pixels.sum(2, dtype=int).ravel()) < 0).all()


def test_texts_of_the_data_are_escaped_in_explanations() -> None:
    hostile = '<script>alert("x")</script>'
    case = base.Case("1", TEXTS.Query(text=hostile, title=hostile), "好评", {})
    parts = TEXTS.report_parts(case.query, 40)
    assert "<script" not in TEXTS.show_parts(case, parts, [1.0] * len(parts))
    assert "<script" not in TEXTS.show_importance([base.PartImportance(hostile, 1.0, 1)])
    row = base.Case("1", TABLES.Query({hostile: 1.0, "b": hostile}), 1.0, {})
    parts = TABLES.report_parts(row.query, 40)
    assert "<script" not in TABLES.show_parts(row, parts, [1.0, 2.0])


def test_values_are_removed_and_named_by_column() -> None:
    query = TABLES.Query({"a": 1.0, "b": None, "c": "x"})
    parts = TABLES.report_parts(query, 40)
    assert TABLES.part_names(query, parts) == ["a", "c"]
    assert TABLES.without_parts(query, parts, {1}).root == {"a": 1.0, "b": None, "c": None}
    assert TABLES.part_weights(query, parts, np.array([1.0, 5.0, 2.0])) == [1.0, 2.0]
