"""An ensemble as a bundle: it answers by the mean, in each form, and hostile cards are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_bundles import (
    QUERY,
    TEXT,
    TINY,
    card,
    edit_card,
    encoder_files,
    text_encoder,
    weights_of,
)

from components.core.bundles import write_bundle
from components.core.errors import BundleError
from components.core.sandbox import SandboxedCall
from components.inference.explanations.integrated_gradients import integrated_gradients
from components.inference.predictor import WEIGHTS, first_answers, load, load_module, onnx_scorer
from components.models.ensemble.config import MOST_MEMBERS
from components.orchestration.export.weight_formats import write_weights
from components.stages.compress.quantize import export
from components.tasks import base
from components.tasks.shared.loss.regression.loss import RegressionLearning
from components.tasks.shared.models.ensembles.models import ENSEMBLE, bundle_architectures
from components.training.embedding_init import take_embeddings

TRANSFORMER = {"width": 16, "layers": 1, "heads": 2, "feedforward": 24}
MEMBERS = [
    {"architecture": "textcnn", "config": TINY, "weight": 0.75},
    {"architecture": "transformer", "config": TRANSFORMER, "weight": 0.25},
]
TEXTS = ["酒店很好", "noisy and dirty rooms"]


def ensemble_bundle(folder: Path, members: Any = MEMBERS) -> Path:
    """An ensemble of networks with the weights that they were drawn with."""
    torch.manual_seed(7)
    architecture = bundle_architectures(TEXT)[ENSEMBLE]
    config = {"members": members}
    module = architecture.build(architecture.Config.model_validate(config), text_encoder())
    files = {WEIGHTS: weights_of(module), **encoder_files()}
    write_bundle(folder, card("torch", ENSEMBLE, config), files)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensemble_bundle(tmp_path_factory.mktemp("ensemble") / "bundle")


def rows(texts: list[str] = TEXTS) -> Mapping[str, np.ndarray]:
    """The texts as padded arrays."""
    encoder = text_encoder()
    return encoder.collate(encoder.rows({"text": texts, "title": [""] * len(texts)}))


def tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_its_probabilities_are_the_weighted_mean(bundle: Path) -> None:
    module = load_module(bundle)
    inputs = tensors(rows())
    expected = np.zeros((2, 2))
    for member, weight in zip(module.members, (0.75, 0.25), strict=True):
        odds = np.exp(member(**inputs).numpy().astype(np.float64))
        expected += weight * odds / odds.sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(module(**inputs).numpy()), expected, rtol=1e-5)


def test_the_mean_of_numbers_is_their_weighted_mean() -> None:
    outputs = torch.tensor([[[1.0], [-2.0]], [[5.0], [2.0]]])
    mean = RegressionLearning().mean_output(outputs, torch.tensor([0.75, 0.25]))
    assert mean.tolist() == [[2.0], [-1.0]]


def test_sure_members_that_disagree_give_a_finite_mean() -> None:
    outputs = torch.tensor([[[2e4, 0.0]], [[0.0, 2e4]]])
    mean = base.learning(TEXT).mean_output(outputs, torch.tensor([0.75, 0.25]))
    assert mean.softmax(1)[0].tolist() == pytest.approx([0.75, 0.25])


def test_it_answers_alike_in_a_fresh_process(bundle: Path) -> None:
    predictor = load(bundle)
    query = predictor.evaluator.Query.model_validate_json(QUERY)
    expected = predictor.predict([query])[0].model_dump(mode="json")
    with SandboxedCall(first_answers) as child:
        result: Any = child.call(bundle, str(bundle), None, None, [QUERY])
    (answer,) = result["answers"]
    assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
    assert result["title"] == "ensemble (train)"


@pytest.mark.parametrize("name", ["onnx", "torchscript", "torch-export"])
def test_an_export_gives_equal_answers(bundle: Path, tmp_path: Path, name: str) -> None:
    module = load_module(bundle)
    graph = bundle_architectures(TEXT)[ENSEMBLE].graphs(module)["forward"]
    write_weights(name, graph, rows(), tmp_path)
    # Neither the number of rows nor their length became a constant.
    other = rows(["the hotel was lovely"])
    (path,) = tmp_path.iterdir()
    if name == "onnx":
        logits = onnx_scorer(path.read_bytes())("forward", other)["logits"]
    elif name == "torchscript":
        logits = torch.jit.load(str(path))(**tensors(other)).numpy()
    else:
        logits = torch.export.load(path).module()(**tensors(other)).detach().numpy()
    np.testing.assert_allclose(logits, module(**tensors(other)).numpy(), atol=1e-5)


def test_a_graph_of_numbers_is_exported(tmp_path: Path) -> None:
    from components.models.ensemble.net import EnsembleNet
    from components.tasks.shared.models.tables.models import MLPArchitecture
    from tests.components.models.test_table_networks import BUILD, LAYOUT

    architecture = MLPArchitecture()
    members = [BUILD["mlp"](LAYOUT).eval() for _ in range(3)]
    ensemble = EnsembleNet(members, [0.5, 0.25, 0.25], RegressionLearning().mean_output)
    ensemble.architectures = [architecture] * 3
    graph = bundle_architectures("tabular_regression")[ENSEMBLE].graphs(ensemble)["forward"]
    features = np.array([[0.5, -1.0, 2.0], [1.0, 0.0, 1.0]], np.float32)
    logits = onnx_scorer(export(graph, {"features": features}))("forward", {"features": features})[
        "logits"
    ]
    by_hand = sum(
        weight * member(torch.from_numpy(features)).detach().numpy()
        for member, weight in zip(members, (0.5, 0.25, 0.25), strict=True)
    )
    np.testing.assert_allclose(logits, by_hand, atol=1e-5)


def test_its_answers_are_traced_back_through_all_members(bundle: Path) -> None:
    module = load_module(bundle)
    layers = module.input_layers()
    assert len(layers) == sum(len(member.input_layers()) for member in module.members)
    attribution = integrated_gradients(module, rows(), np.array([[1.0, -1.0]] * 2))
    assert attribution.contributions.shape == rows()["ids"].shape
    assert attribution.errors.max() < 0.01


def test_a_student_takes_the_embeddings_of_the_first_member(bundle: Path) -> None:
    module = load_module(bundle)
    students = [load_module(bundle).members[0].requires_grad_(True) for _ in range(2)]
    assert take_embeddings(students[0], module)
    assert take_embeddings(students[1], module.members[0])
    assert torch.equal(students[0].table().weight, students[1].table().weight)


def changed(**changes: Any) -> list[dict[str, Any]]:
    """The members, the last of them with other values."""
    return [MEMBERS[0], {**MEMBERS[1], **changes}]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (changed(architecture=ENSEMBLE), "has a member of architecture 'ensemble', which is not"),
        (changed(architecture="lstm"), "has a member of architecture 'lstm', which is not one of"),
        (changed(config={"widht": 8}), "widht: Extra inputs are not permitted"),
        (changed(weight=0), "members.1.weight: Input should be greater than 0"),
        (changed(weight=-1), "members.1.weight: Input should be greater than 0"),
        (changed(weight=1e300), "members.1.weight: Input should be less than or equal to 1"),
        (changed(code="os"), "members.1.code: Extra inputs are not permitted"),
        (MEMBERS[:1], "members: List should have at least 2 items"),
        (MEMBERS * MOST_MEMBERS, f"members: List should have at most {MOST_MEMBERS} items"),
        (MEMBERS[::-1], "cannot be read"),
        ([*MEMBERS, MEMBERS[0]], "cannot be read"),
        ({"0": MEMBERS[0]}, "members: Input should be a valid list"),
    ],
)
def test_a_hostile_card_is_refused(tmp_path: Path, members: Any, message: str) -> None:
    folder = ensemble_bundle(tmp_path / "bundle")
    edit_card(folder, config={"members": members})
    with pytest.raises(BundleError, match=message):
        load(folder)


@pytest.mark.parametrize("task", base.tasks())
def test_it_is_no_choice_of_train(task: str) -> None:
    assert ENSEMBLE not in base.models(task).architectures
    assert ENSEMBLE in bundle_architectures(task)
