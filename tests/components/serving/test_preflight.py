"""A version is tried out alone and in company: what only rounds passes, what mixes rows or reads padding does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stage_runner import StageRunner, sentences

from components.core.errors import InputError
from components.inference import predictor
from components.inference.predictor import Predictor, load
from components.serving.http.messages import ModelInfo
from components.serving.rollout.agreement import tolerance
from components.serving.rollout.plan import ServedVersion
from components.serving.rollout.preflight import examined
from components.tasks.shared.evaluator.classification.evaluator import Answer
from components.tasks.text_classification.evaluator import EVALUATOR

WIDE = {"width": 64, "layers": 4, "heads": 4, "feedforward": 128, "dropout": 0.1}


@pytest.fixture(scope="module")
def quantized(reviews: StageRunner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Transformer in int8, its weights as they are drawn."""
    import torch

    from components.stages.compress.quantize import export, int8
    from components.tasks import base
    from components.training.batches import EncodedRows, load_encoder
    from components.training.bundle_writer import save_onnx
    from components.training.fit_config import FitConfig
    from components.training.params import FitParams

    folder, tokens = tmp_path_factory.mktemp("quantized"), reviews.root / "tokens"
    rows, architecture = (
        EncodedRows(tokens, "train", load_encoder(tokens, reviews.task)),
        base.models(reviews.task).architectures["transformer"],
    )
    torch.manual_seed(7)
    graph = architecture.graphs(
        architecture.build(architecture.Config.model_validate(WIDE), rows.encoder).eval()
    )["forward"]
    content = int8(
        export(graph, dict(rows.batch([int(rows.lengths.argmax()), int(rows.lengths.argmin())]))),
        rows,
        64,
        7,
    )
    save_onnx(
        folder,
        FitConfig(reviews.task, tokens, "transformer", WIDE, FitParams(), {}, 7, folder),
        content,
        "cd" * 32,
        ["drawn", "int8"],
    )
    return folder


def edition(bundle: Path, texts: Sequence[str]) -> ServedVersion:
    return ServedVersion(
        bundle=bundle,
        model=ModelInfo(
            name="m", version="1", data_hash="ab" * 32, examples=[{"text": text} for text in texts]
        ),
    )


def _reordered(model: Predictor, graph: bytes) -> Predictor:
    """What other batch sizes do now and then, always: several rows are added up in another order than one, by kernels that are not fused."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def scorer(name: str, batch: Any) -> Any:
        return (
            model._scorer(name, batch)
            if len(batch["ids"]) == 1
            else {
                "logits": session.run(
                    ["logits"], {each.name: batch[each.name] for each in session.get_inputs()}
                )[0]
            }
        )

    return Predictor(model.card, model._join, scorer, model._encode)


def test_rounding_to_whole_numbers_refuses_nobody(
    quantized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _reordered(load(quantized), (quantized / predictor.GRAPH).read_bytes())
    texts = [row["text"] for row in sentences(60, 9)]
    queries = [model.evaluator.Query(text=text) for text in texts]
    gaps = [
        model.evaluator.output_distance(model.predict([query])[0], answer, model.card.targets)
        for query, answer in zip(queries, model.predict(queries), strict=True)
    ]
    assert max(gaps) > 1e-4, "beyond what is allowed to those that do not round"
    monkeypatch.setattr(predictor, "load", lambda _: model)
    assert examined(edition(quantized, texts[:6])) > 0
    assert examined(edition(quantized, [texts[int(np.argmax(gaps))], *texts[:5]])) > 0


def _padding(model: Predictor) -> Predictor:
    honest = model._join
    return Predictor(
        model.card,
        lambda columns: {**honest(columns), "mask": np.ones_like(honest(columns)["mask"])},
        model._scorer,
        model._encode,
    )


def _mixed(model: Predictor) -> Predictor:
    def scorer(graph: str, batch: Any) -> Any:
        logits = model._scorer(graph, batch)["logits"]
        return {"logits": 0.8 * logits + 0.2 * np.roll(logits, 1, axis=0)}

    return Predictor(model.card, model._join, scorer, model._encode)


@pytest.mark.parametrize("fault", [_padding, _mixed])
def test_padding_that_is_read_and_rows_that_are_mixed_are_refused(
    fault: Callable[[Predictor], Predictor], quantized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "load", lambda folder: fault(load(folder)))
    with pytest.raises(InputError, match="when others are asked with it"):
        examined(
            edition(
                quantized,
                ["酒店很好", "the hotel room was awful and noisy, the breakfast boring", "失望"],
            )
        )


def test_only_what_rounds_to_whole_numbers_is_given_room(quantized: Path, network: Path) -> None:
    assert tolerance(load(network).card) < 1e-3 < tolerance(load(quantized).card)


def answer(good: float) -> Answer:
    return Answer(
        label="好评" if good > 0.5 else "差评",
        probability=max(good, 1 - good),
        probabilities={"差评": 1 - good, "好评": good},
    )


@pytest.mark.parametrize(
    ("one", "other", "gap"),
    [(0.7, 0.7, 0.0), (0.7, 0.6, 0.1), (0.501, 0.499, 0.002), (0.9, 0.2, 0.7)],
)
def test_a_gap_is_the_largest_difference_and_a_tie_may_tip(
    one: float, other: float, gap: float
) -> None:
    assert EVALUATOR.output_distance(answer(one), answer(other), {}) == pytest.approx(gap)


def test_a_label_that_its_probabilities_do_not_bear_is_far_off() -> None:
    assert EVALUATOR.output_distance(
        answer(0.9), answer(0.9).model_copy(update={"label": "差评"}), {}
    ) == pytest.approx(0.4)


def test_no_number_is_no_agreement() -> None:
    broken = Answer.model_construct(
        label="好评", probability=0.9, probabilities={"差评": float("nan"), "好评": 0.9}
    )
    assert np.isnan(EVALUATOR.output_distance(answer(0.9), broken, {}))
    assert np.isnan(EVALUATOR.output_distance(broken, answer(0.9), {}))
