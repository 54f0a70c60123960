"""Each recipe gives a bundle that loads, is smaller than its parent and still knows what its parent knew."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stage_runner import TINY, StageRunner

from components.core.bundles import CARD, bundle_bytes, read_bundle
from components.core.errors import InputError
from components.inference.predictor import GRAPH, Predictor, load, load_module, onnx_scorer
from components.stages.compress import stage, steps
from components.stages.compress.params import CompressParams, Prune
from components.stages.compress.quantize import export
from components.training.loop import fit

STUDENT = {"width": 8, "channels": 8, "kernels": [1, 2], "dropout": 0.0}


@dataclass
class Compressed:
    """What compress read and wrote."""

    parent: Path
    folder: Path
    report: dict[str, Any]
    exported: bytes  # the fp32 graph


@pytest.fixture(scope="module")
def compressed(reviews: StageRunner, network: Path) -> Compressed:
    """The network of `reviews`, pruned, quantized and distilled on one worker without Ray; `tuned` holds a worse one."""
    from components.training.bundle_writer import save_torch

    spec = reviews.spec(reviews.root / ".state" / "worse", epochs=1, learning_rate=1e-6)
    save_torch(
        reviews.root / "tuned" / "network", spec, fit(spec).weights.read_bytes(), "0" * 64, ["tune"]
    )
    knobs = {
        "distill": {
            "architecture": "textcnn",
            "nets": {"textcnn": STUDENT},
            "epochs": 12,
            "learning_rate": 0.01,
            "compare": False,
        },
        "quantize": {"calibration_rows": 64},
    }
    train = reviews.sections["train"]
    reviews.sections["train"] = type(train).model_validate(
        {
            "architecture": "textcnn",
            "workers": 1,
            "batch_size": 32,
            "patience": 12,
            "nets": {"textcnn": TINY["textcnn"]},
        }
    )
    job = reviews.job(
        "compress",
        ["tokens", "trained", "tuned"],
        ["compressed", "report"],
        CompressParams.model_validate(knobs),
    )
    exported: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            steps, "export", lambda *given: exported.append(export(*given)) or exported[0]
        )
        patch.setattr(steps, "fit_distributed", lambda spec, journal: fit(spec, journal))
        stage.run(job)
    reviews.sections["train"] = train
    return Compressed(
        network,
        reviews.root / "compressed",
        json.loads((reviews.root / "compress.json").read_text()),
        exported[0],
    )


each = pytest.mark.parametrize("name", ["pruned", "int8", "distilled"])


def probabilities(predictor: Predictor, texts: list[str]) -> np.ndarray:
    """(n, c)."""
    return np.array(
        [
            list(answer.probabilities.values())
            for answer in predictor.predict(
                [predictor.evaluator.Query(text=text) for text in texts]
            )
        ]
    )


def accuracy(bundle: Path, reviews: StageRunner) -> float:
    """On validation and test together."""
    rows, predictor = (
        reviews.rows("clean", "validation") + reviews.rows("clean", "test"),
        load(bundle),
    )
    return float(
        np.mean(
            [
                answer.label == row["label"]
                for answer, row in zip(
                    predictor.predict(
                        [predictor.evaluator.Query(text=row["text"]) for row in rows]
                    ),
                    rows,
                    strict=True,
                )
            ]
        )
    )


@pytest.mark.parametrize(
    ("name", "share"), [("pruned", 0.92), ("int8", 0.8), ("distilled", 0.5)]
)  # pruning leaves the embedding as it is
def test_it_is_smaller_and_the_report_says_how_much(
    compressed: Compressed, name: str, share: float
) -> None:
    sizes = {
        folder: bundle_bytes(folder) for folder in (compressed.folder / name, compressed.parent)
    }
    assert [compressed.report[f"{name}_bytes"], compressed.report["parent_bytes"]] == list(
        sizes.values()
    )
    own, parent = (
        size - (folder / CARD).stat().st_size for folder, size in sizes.items()
    )  # the card, with its profile of the data, is the same for all
    assert own < share * parent


@each
def test_it_answers_about_as_well_as_its_parent(
    compressed: Compressed, reviews: StageRunner, name: str
) -> None:
    assert accuracy(compressed.parent, reviews) > 0.85
    assert accuracy(compressed.folder / name, reviews) > accuracy(compressed.parent, reviews) - 0.11


@each
def test_its_card_tells_its_origin_and_keeps_the_facts_of_the_data(
    compressed: Compressed, name: str
) -> None:
    card, parent = read_bundle(compressed.folder / name)[0], read_bundle(compressed.parent)[0]
    assert card.origin == [
        "train",
        {"pruned": "prune", "int8": "int8", "distilled": "distill"}[name],
    ]
    assert (card.data_hash, card.targets, card.profile) == (
        parent.data_hash,
        parent.targets,
        parent.profile,
    )
    assert card.runtime == ("onnx" if name == "int8" else "torch")


def test_pruning_halves_the_filters_of_each_kernel(compressed: Compressed) -> None:
    assert read_bundle(compressed.folder / "pruned")[0].config["channels"] == [8, 8, 8]
    pruned, parent = load_module(compressed.folder / "pruned"), load_module(compressed.parent)
    assert [conv.out_channels for conv in pruned.convs] == [
        conv.out_channels // 2 for conv in parent.convs
    ]


def test_a_graph_names_no_file_of_this_machine(compressed: Compressed) -> None:
    for graph in (compressed.exported, (compressed.folder / "int8" / GRAPH).read_bytes()):
        assert b'.py"' not in graph and b"stack_trace" not in graph


def test_the_exported_graph_computes_what_the_network_does(
    compressed: Compressed, reviews: StageRunner
) -> None:
    network = load(compressed.parent)
    graph = Predictor(
        network.card, network._join, onnx_scorer(compressed.exported), network._encode
    )
    texts = [row["text"] for row in reviews.rows("clean", "test")]
    np.testing.assert_allclose(
        probabilities(graph, texts), probabilities(network, texts), atol=1e-5
    )
    np.testing.assert_allclose(
        probabilities(graph, texts[:1]), probabilities(network, texts[:1]), atol=1e-5
    )  # the number of rows is free too


def test_an_altered_graph_does_not_answer(compressed: Compressed, tmp_path: Path) -> None:
    shutil.copytree(compressed.folder / "int8", tmp_path / "int8")
    content = (tmp_path / "int8" / GRAPH).read_bytes()
    (tmp_path / "int8" / GRAPH).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="altered"):
        load(tmp_path / "int8")


def test_int8_answers_close_to_its_parent(compressed: Compressed, reviews: StageRunner) -> None:
    texts = [row["text"] for row in reviews.rows("clean", "test")]
    np.testing.assert_allclose(
        probabilities(load(compressed.folder / "int8"), texts),
        probabilities(load(compressed.parent), texts),
        atol=0.1,
    )


def test_int8_answers_do_not_depend_on_company(
    compressed: Compressed, reviews: StageRunner
) -> None:
    """Ranges that were taken from the batch would let a neighbor change an answer."""
    predictor = load(compressed.folder / "int8")
    texts = [row["text"] for row in reviews.rows("clean", "test")] + [
        "好",
        "!a",
        "饕餮 zzz",
        " ".join(["lovely"] * 40),
    ]
    together = probabilities(predictor, texts)
    np.testing.assert_allclose(
        np.concatenate([probabilities(predictor, [text]) for text in texts]), together, atol=1e-6
    )
    assert np.ptp(together[:, 0]) > 0.3


def test_int8_weights_take_a_byte_each(compressed: Compressed) -> None:
    import onnx

    model = onnx.load_from_string(read_bundle(compressed.folder / "int8")[1]["model.onnx"])
    big = [tensor for tensor in model.graph.initializer if np.prod(tensor.dims) >= 500]
    assert big
    assert {tensor.data_type for tensor in big} <= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}


def test_the_better_of_the_two_on_validation_is_the_parent(
    compressed: Compressed, reviews: StageRunner
) -> None:
    journal = (reviews.root / ".state" / "compress" / "journal.jsonl").read_text()
    assert "compressing textcnn (train)" in journal


def test_the_student_is_what_the_params_say(compressed: Compressed) -> None:
    assert read_bundle(compressed.folder / "distilled")[0].config["channels"] == 8


def test_a_net_that_cannot_be_cut_is_not_pruned_and_this_is_said(
    reviews: StageRunner, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.models.textcnn.net import TextCNNPruningSpec

    monkeypatch.setattr(TextCNNPruningSpec, "dims", lambda *_: [])
    monkeypatch.setattr(steps, "fit_distributed", lambda *_: pytest.fail("fitted something"))
    knobs = CompressParams.model_validate({"distill": {"architecture": "textcnn", "nets": {}}})
    job = replace(
        reviews.job("compress", ["tokens", "trained", "tuned"], ["compressed", "report"], knobs),
        state=tmp_path,
    )
    given = steps.StepInput(job, network, network, "prune-a", tmp_path / "pruned")
    assert steps.run_step("prune", given, Prune()) == "textcnn has no prunable dimensions"
    monkeypatch.undo()
    monkeypatch.setattr(steps, "fit_distributed", lambda *_: pytest.fail("fitted something"))
    reason = steps.run_step("prune", given, Prune(layers=0.5))
    assert reason == "textcnn has no layers that can be dropped; set layers to 0"
    assert not (tmp_path / "pruned").exists()
