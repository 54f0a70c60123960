"""Recipes at work: shared steps, kept and dropped ones, failures, kills, targets."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from stage_runner import TINY, StageRunner

from components.core.bundles import CARD, bundle_bytes, read_bundle
from components.core.errors import EnvironmentFault, InputError
from components.core.job import Job
from components.inference.graph_module import GraphModule, load_network
from components.inference.predictor import GRAPH, load, load_module
from components.stages.compress import ensemble_selection, recipes, stage, steps, target
from components.stages.compress import params as compress_params
from components.stages.compress.params import CompressParams, Target, resolved_recipes
from components.stages.compress.quantize import export
from components.stages.compress.steps import fit_config
from components.tasks.base import Graph
from components.training import evaluation
from components.training.bundle_writer import save_torch
from components.training.fit_config import FitConfig, FitResult, save_params
from components.training.loop import fit
from tests.structure.import_graph import ROOT

STUDENT = {"architecture": "textcnn", "nets": {"textcnn": {"width": 8, "channels": 8}}}
NOTHING = CompressParams.model_validate({"distill": None, "recipes": {}})
# A fit with this rate forgets what it knew.
ABSURD = {"learning_rate": 9.0, "epochs": 1, "weight": 0.0}


# Graphs that `exported_once` has exported, by a digest of the network and the example.
EXPORTED: dict[str, bytes] = {}


def exported_once(graph: Graph, example: Mapping[str, np.ndarray]) -> bytes:
    """Return a graph as ONNX. An export takes seconds: equal networks are exported once."""
    digest = hashlib.sha256(repr((graph, example.keys())).encode())
    tensors = {name: tensor.numpy() for name, tensor in graph.module.state_dict().items()}
    for name, array in {**tensors, **example}.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    key = digest.hexdigest()
    if key not in EXPORTED:
        EXPORTED[key] = export(graph, dict(example))
    return EXPORTED[key]


@pytest.fixture
def job(
    reviews: StageRunner, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Job:
    """Return a job of compress on the network of `reviews`, without Ray."""
    monkeypatch.setattr(steps, "fit_distributed", lambda spec, journal: fit(spec, journal))
    monkeypatch.setattr(steps, "export", exported_once)
    train = type(reviews.sections["train"]).model_validate(
        {
            "architecture": "textcnn",
            "workers": 1,
            "batch_size": 32,
            "patience": 12,
            "nets": {"textcnn": TINY["textcnn"]},
        }
    )
    (tmp_path / "trained").mkdir()
    (tmp_path / "tuned").mkdir()
    (tmp_path / "trained" / "network").symlink_to(network)
    made = reviews.job(
        "compress", ["tokens", "trained", "tuned"], ["compressed", "report"], NOTHING
    )
    return replace(
        made,
        sections={**reviews.sections, "train": train},
        inputs={
            "tokens": reviews.root / "tokens",
            "trained": tmp_path / "trained",
            "tuned": tmp_path / "tuned",
        },
        outputs={"compressed": tmp_path / "compressed", "report": tmp_path / "compress.json"},
        state=tmp_path / "state",
    )


def run(job: Job, recipes_: Mapping[str, Any], **knobs: Any) -> dict[str, Any]:
    """Run compress with these recipes; returns what each did, for the report."""
    params = CompressParams.model_validate({"distill": STUDENT, "recipes": recipes_} | knobs)
    stage.run(replace(job, params=params))
    rows: dict[str, Any] = json.loads((job.outputs["compressed"] / stage.RECIPES).read_text())
    return rows


def made(job: Job) -> list[str]:
    """Return the names of the bundles."""
    return sorted(card.parent.name for card in job.outputs["compressed"].glob(f"*/{CARD}"))


def counted_fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which each fit adds the name of its state."""
    fits: list[str] = []

    def counting(spec: FitConfig, journal: Any) -> FitResult:
        fits.append(spec.state.name.split("-")[0])
        return fit(spec, journal)

    monkeypatch.setattr(steps, "fit_distributed", counting)
    return fits


def test_steps_that_recipes_begin_with_in_common_run_once(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = counted_fits(monkeypatch)
    small = {"prune": {"epochs": 1, "share": 0.5}}
    rows = run(
        job,
        {
            "pruned": [small],
            "small": [small, {"finetune": {"epochs": 1}}],
            "tiny": [small, "quantize"],
        },
    )
    assert sorted(fits) == ["finetune", "prune"]
    assert made(job) == ["pruned", "small", "tiny"]
    folder = job.outputs["compressed"]
    assert read_bundle(folder / "tiny")[0].origin == ["train", "prune", "int8"]
    assert read_bundle(folder / "tiny")[0].config == read_bundle(folder / "pruned")[0].config
    assert bundle_bytes(folder / "tiny") < bundle_bytes(folder / "pruned")
    report = json.loads(job.outputs["report"].read_text())
    assert report["tiny_bytes"] == bundle_bytes(folder / "tiny") == rows["tiny"][-1]["size_bytes"]
    assert [row["step"] for row in rows["tiny"]] == ["prune", "quantize"]
    assert str(job.state) not in (folder / stage.RECIPES).read_text()


@pytest.mark.parametrize("kind", ["taylor", "fisher", "movement"])
def test_train_rows_score_all_units_in_the_same_way_each_time(job: Job, kind: str) -> None:
    bundle = job.inputs["trained"] / "network"
    card, _ = read_bundle(bundle)
    scores = []
    for _ in range(2):
        module = load_module(bundle)
        scores.append(steps.unit_scores(job, card, module, kind, layers=False))
        assert not any(parameter.requires_grad for parameter in module.parameters())
    for name, values in scores[0].items():
        assert values.isfinite().all() and values.unique().numel() > 1
        torch.testing.assert_close(values, scores[1][name])
    assert len(scores[0]) == 3


def test_weights_of_0_are_reported_as_no_smaller_and_no_faster(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = counted_fits(monkeypatch)
    quick = {"epochs": 1, "learning_rate": 1e-3}
    rounds = {"prune": {"method": "unstructured", "share": 0.75, "rounds": 2, **quick}}
    pairs = {"prune": {"method": "2:4", **quick}}
    # A fit may make the network better or worse: the worse one would be dropped.
    monkeypatch.setattr(recipes, "_is_cheaper", lambda *_: True)
    rows = run(job, {"rounds": [rounds, "export"], "pairs": [pairs]})
    assert fits == ["prune"] * 3
    for name in ("rounds", "pairs"):
        assert rows[name][0]["kept"]
        assert rows[name][0]["reason"] == (
            "weights that are 0 take as many bytes and as much time as others"
        )
    journal = job.journal.path.read_text(encoding="utf-8")
    assert "rounds: weights that are 0 take" in journal
    assert "prune: 75.0% of the weights are 0" in journal
    pruned = load_module(job.outputs["compressed"] / "pairs")
    parent = load_module(job.inputs["trained"] / "network")
    assert read_bundle(job.outputs["compressed"] / "rounds")[0].origin == [
        "train",
        "prune",
        "export",
    ]
    for name, weight in pruned.named_parameters():
        assert weight.shape == parent.state_dict()[name].shape
        groups = weight.shape[1] // 4 * 4 if weight.ndim >= 2 else 0
        if groups:
            zeros = (weight.movedim(1, -1)[..., :groups].unflatten(-1, (-1, 4)) == 0).sum(-1)
            assert (zeros >= 2).all()


def test_weights_alone_are_quantized_without_calibration_rows(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "int8", lambda *_, **__: pytest.fail("calibrated"))
    four_bits = {"method": "weights", "bits": 4, "max_drop": 0.5}
    run(job, {"w8": [{"quantize": {"method": "weights"}}], "w4": [{"quantize": four_bits}]})
    assert made(job) == ["w4", "w8"]
    folder = job.outputs["compressed"]
    cards = {name: read_bundle(folder / name)[0] for name in ("w8", "w4")}
    assert cards["w8"].origin == ["train", "int8-weights"]
    assert cards["w4"].origin == ["train", "int4-weights"]
    assert all(card.quantized for card in cards.values())
    network = job.inputs["trained"] / "network"
    sizes = [bundle_bytes(bundle) for bundle in (folder / "w4", folder / "w8", network)]
    assert sizes == sorted(sizes)
    scores = [
        evaluation.validation_score(bundle, job.inputs["tokens"])
        for bundle in (folder / "w8", network)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.05)


def test_a_fit_with_rounding_ends_in_the_same_kind_of_graph(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[FitConfig] = []

    def watched(spec: FitConfig, journal: Any) -> FitResult:
        specs.append(spec)
        return fit(spec, journal)

    monkeypatch.setattr(steps, "fit_distributed", watched)
    quantize = {"calibration_rows": 64}
    qat = {"epochs": 1, "learning_rate": 1e-3, "weight": 0.5}
    rows = run(
        job,
        {"int8": [{"quantize": quantize}], "qat": [{"quantize": {**quantize, "qat": qat}}]},
    )
    assert [spec.fake_int8 for spec in specs] == [True]
    assert specs[0].teacher == job.inputs["trained"] / "network"
    assert rows["qat"][0]["kept"]
    bundles = [job.outputs["compressed"] / name for name in ("int8", "qat")]
    assert read_bundle(bundles[1])[0].origin == ["train", "qat", "int8"]
    graphs = [onnx.load(bundle / GRAPH).graph for bundle in bundles]
    operators = [[node.op_type for node in graph.node] for graph in graphs]
    assert operators[0] == operators[1]
    weights = [{tensor.name: tensor.raw_data for tensor in graph.initializer} for graph in graphs]
    assert weights[0].keys() == weights[1].keys() and weights[0] != weights[1]


def test_weights_in_fp16_halve_the_graph_and_answer_as_the_network_does(job: Job) -> None:
    rows = run(job, {"half": [{"quantize": {"method": "fp16"}}], "onnx": ["export"]})
    assert rows["half"][0]["kept"]
    half, whole = (job.outputs["compressed"] / name for name in ("half", "onnx"))
    assert read_bundle(half)[0].origin == ["train", "fp16"]
    assert bundle_bytes(half) < 0.8 * bundle_bytes(whole)
    inputs = {"ids": torch.randint(1, 20, (4, 9)), "mask": torch.ones(4, 9)}
    outputs = [load_network(bundle)(**inputs) for bundle in (half, whole)]
    torch.testing.assert_close(*outputs, atol=5e-3, rtol=0)


def test_a_network_without_matrices_keeps_its_weights(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "weight_operators", lambda _: [])
    rows = run(job, {"a": [{"quantize": {"method": "weights"}}]})
    assert made(job) == []
    assert rows["a"][0]["reason"] == ("textcnn has no matrix whose weights alone can be quantized")


def test_a_step_that_makes_a_model_worse_and_no_cheaper_is_dropped(job: Job) -> None:
    rows = run(job, {"a": [{"finetune": ABSURD}], "b": [{"finetune": ABSURD}, "quantize"]})
    for name in ("a", "b"):
        dropped = rows[name][0]
        assert not dropped["kept"]
        assert "worse on validation" in dropped["reason"]
        assert "and not cheaper" in dropped["reason"]
    # The recipe goes on with what was there before; one without a kept step gives no model.
    assert made(job) == ["b"]
    assert read_bundle(job.outputs["compressed"] / "b")[0].origin == ["train", "int8"]
    journal = job.journal.path.read_text()
    assert "a: finetune dropped: worse on validation" in journal
    assert "a: no model" in journal


def test_a_recipe_that_fails_does_not_end_the_others(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> bytes:
        raise InputError("cannot be quantized", where="model.onnx")

    monkeypatch.setattr(steps, "int8", failing)
    rows = run(job, {"a": ["quantize"], "b": ["export"]})
    assert made(job) == ["b"]
    assert rows["a"][0]["reason"].startswith("failed: ")
    assert "cannot be quantized" in rows["a"][0]["reason"]


def test_a_fault_of_the_machine_ends_the_stage(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> bytes:
        raise EnvironmentFault("no space left", remedy="free some")

    monkeypatch.setattr(steps, "int8", full)
    with pytest.raises(EnvironmentFault, match="no space left"):
        run(job, {"a": ["quantize"]})


def test_finished_steps_are_not_repeated_after_a_kill(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = counted_fits(monkeypatch)
    wanted = {"a": [{"prune": {"epochs": 1}}, "quantize"]}

    def killed(*_: Any, **__: Any) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(steps, "int8", killed)
        with pytest.raises(KeyboardInterrupt):
            run(job, wanted)
    assert fits == ["prune"]
    run(job, wanted)
    assert fits == ["prune"]
    assert made(job) == ["a"]


# Only the last cut is rounded. Both of them would leave 4 in place of 6.
@pytest.mark.parametrize(("multiple", "filters"), [(16, 4), (6, 6)])
def test_pruning_in_rounds_reaches_the_share(
    job: Job, monkeypatch: pytest.MonkeyPatch, multiple: int, filters: int
) -> None:
    fits = counted_fits(monkeypatch)
    cut = {"epochs": 1, "share": 0.75, "rounds": 2, "score": "taylor", "multiple": multiple}
    run(job, {"a": [{"prune": cut}]})
    assert fits == ["prune", "prune"]
    card = read_bundle(job.outputs["compressed"] / "a")[0]
    assert card.config["channels"] == [filters] * 3
    assert card.origin == ["train", "prune", "prune"]


@pytest.mark.parametrize(("alone", "taught", "kept"), [(0.9, 0.8, False), (0.8, 0.9, True)])
def test_a_student_that_is_better_without_its_teacher_is_dropped(
    job: Job, monkeypatch: pytest.MonkeyPatch, alone: float, taught: float, kept: bool
) -> None:
    def drawn(spec: FitConfig, journal: Any) -> FitResult:
        value = taught if spec.teacher else alone
        result = fit(spec, journal)
        return replace(result, best={**result.best, "validation_macro_f1": value})

    monkeypatch.setattr(steps, "fit_distributed", drawn)
    rows = run(job, {"student": [{"distill": {"epochs": 1}}]})
    assert rows["student"][0]["kept"] is kept
    assert made(job) == (["student"] if kept else [])
    if not kept:
        assert rows["student"][0]["reason"] == (
            "the same network reaches macro_f1 0.9000 without a teacher, 0.8000 with it"
        )


def test_states_of_tokens_are_matched_between_encoders_alone(
    job: Job, reviews: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = counted_fits(monkeypatch)
    little = {"width": 8, "layers": 1, "heads": 2, "feedforward": 8}
    encoder = {"architecture": "transformer", "nets": {"transformer": little}}
    settings = {"hidden": 1.0, "epochs": 1, "compare": False}
    rows = run(job, {"a": [{"distill": {**encoder, **settings}}], "b": [{"distill": settings}]})
    for name in ("a", "b"):
        assert (
            "compress.distill.hidden: the teacher (TextCNN) has no states"
            in rows[name][0]["reason"]
        )
    spec = reviews.spec(tmp_path / "fit", "transformer", epochs=1)
    network = tmp_path / "encoder" / "network"
    save_torch(network, spec, fit(spec).weights.read_bytes(), "0" * 64, ["train"])
    job = replace(job, inputs={**job.inputs, "trained": network.parent}, state=tmp_path / "other")
    rows = run(job, {"a": [{"distill": {**encoder, **settings}}], "b": [{"distill": settings}]})
    assert rows["a"][0]["kept"]
    assert "the student (TextCNN) has no states of tokens to match" in rows["b"][0]["reason"]
    assert fits == ["distill"]
    assert made(job) == ["a"]


def test_an_exported_model_answers_as_its_parent_does(job: Job, reviews: StageRunner) -> None:
    run(job, {"onnx": ["export"]})
    folder = job.outputs["compressed"] / "onnx"
    card = read_bundle(folder)[0]
    assert (card.runtime, card.origin) == ("onnx", ["train", "export"])
    parent = job.inputs["trained"] / "network"
    tokens = job.inputs["tokens"]
    assert evaluation.validation_score(folder, tokens) == evaluation.validation_score(
        parent, tokens
    )
    texts = [row["text"] for row in reviews.rows("clean", "test")][:20]
    answers = []
    for bundle in (folder, parent):
        predictor = load(bundle)
        answers.append(predictor.predict([predictor.evaluator.Query(text=text) for text in texts]))
    for mine, theirs in zip(*answers, strict=True):
        assert mine.label == theirs.label
        assert mine.probabilities == pytest.approx(theirs.probabilities, abs=1e-5)


@pytest.mark.parametrize("calibration", ["percentile", "entropy"])
def test_other_calibrations_answer_as_the_network_does(
    job: Job, calibration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "export_bundle", quickly_exported_parent)
    settings = {"quantize": {"calibration": calibration, "calibration_rows": 64}}
    (row,) = run(job, {"a": [settings]})["a"]
    parent = evaluation.validation_score(job.inputs["trained"] / "network", job.inputs["tokens"])
    assert row["kept"], row["reason"]
    assert row["value"] > parent - 0.05


def test_recipes_that_export_the_same_network_share_the_export(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports: list[Path] = []

    def counting(job: Job, bundle: Path) -> bytes:
        exports.append(bundle)
        return quickly_exported_parent(job, bundle)

    monkeypatch.setattr(steps, "export_bundle", counting)
    run(job, {"onnx": ["export"], "int8": [{"quantize": {"calibration_rows": 16}}]})
    assert made(job) == ["int8", "onnx"]
    assert exports == [job.inputs["trained"] / "network"]


def test_operators_that_int8_harms_stay_fp32(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "export_bundle", quickly_exported_parent)

    def harmed(module: Any, tokens: Path, task: str) -> float:
        """State a value that falls with the number of operators in int8."""
        graph = onnx.load_from_string(module.content).graph
        return 100.0 - sum(node.op_type == "DequantizeLinear" for node in graph.node)

    monkeypatch.setattr(steps, "module_score", harmed)
    monkeypatch.setattr(steps, "GraphModule", KeptGraph)
    settings = {"quantize": {"calibration_rows": 16, "max_drop": 0.04}}
    run(job, {"some": [settings], "all": [{"quantize": {"calibration_rows": 16}}]})
    folder = job.outputs["compressed"]
    assert bundle_bytes(folder / "all") < bundle_bytes(folder / "some")
    assert "sensitive operators stay fp32" in job.journal.path.read_text()


class KeptGraph(GraphModule):
    """A graph that keeps its bytes."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.content = content


def quickly_exported_parent(job: Job, bundle: Path) -> bytes:
    """Return the graph of a TextCNN bundle."""
    return exported_quickly(job, bundle, load_network(bundle))


# -- ensembles
# A fit that knows little, so that members differ.
LITTLE = {"epochs": 2, "learning_rate": 2e-3}


def with_little_fits(job: Job) -> Job:
    """Return a job whose further fits are short."""
    train = job.sections["train"]
    short = type(train).model_validate({**train.model_dump(), **LITTLE})
    return replace(job, sections={**job.sections, "train": short})


def weak_network(job: Job, reviews: StageRunner) -> Job:
    """Return a job whose network is a short fit, which an ensemble is better than."""
    folder = job.state.parent / "weak"
    spec = reviews.spec(folder / "state", **LITTLE)
    save_torch(folder / "network", spec, fit(spec).weights.read_bytes(), "0" * 64, ["train"])
    return replace(with_little_fits(job), inputs={**job.inputs, "trained": folder})


@pytest.mark.usefixtures("one_thread")
def test_an_ensemble_is_a_candidate_and_teaches_a_student(
    job: Job, reviews: StageRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = weak_network(job, reviews)
    fits = counted_fits(monkeypatch)
    teachers: list[str] = []
    write = steps.write_teacher_answers

    def noted(spec: FitConfig, path: Path) -> None:
        assert spec.teacher is not None
        teachers.append(read_bundle(spec.teacher)[0].architecture)
        write(spec, path)

    monkeypatch.setattr(steps, "write_teacher_answers", noted)
    student = {"distill": {"epochs": 1, "compare": False}}
    rows = run(
        job,
        {
            "ensemble": ["ensemble"],
            "onnx": ["ensemble", "export"],
            "student": ["ensemble", student, {"quantize": {"calibration_rows": 16}}],
            "rounded": ["ensemble", {"quantize": {"qat": {"epochs": 1}}}],
        },
    )
    assert "ensemble is several networks, which cannot be fitted" in rows["rounded"][1]["reason"]
    assert sorted(fits) == ["distill", "ensemble", "ensemble", "ensemble"]
    assert teachers == ["ensemble"]
    folder = job.outputs["compressed"]
    assert made(job) == ["ensemble", "onnx", "student"]
    card = read_bundle(folder / "ensemble")[0]
    assert (card.title, card.runtime) == ("ensemble (train + ensemble)", "torch")
    assert read_bundle(folder / "onnx")[0].title == "ensemble (train + ensemble + export)"
    origin = ["train", "ensemble", "distill", "int8"]
    assert read_bundle(folder / "student")[0].origin == origin
    # It is better than the network alone, and the graph answers as it does.
    tokens = job.inputs["tokens"]
    parent = evaluation.validation_score(job.inputs["trained"] / "network", tokens)
    values = [evaluation.validation_score(folder / name, tokens) for name in ("ensemble", "onnx")]
    assert values[0] == values[1] > parent
    # The report and the log name the members with their weights.
    reason = rows["ensemble"][0]["reason"]
    weights = [f"{member['weight']:.0%}" for member in card.config["members"]]
    assert re.findall(r"(?:trained|seed \d+) (\d+%)", reason) == weights
    assert rows["ensemble"][0]["kept"]
    assert f"ensemble: {reason}" in job.journal.path.read_text()


@pytest.mark.usefixtures("one_thread")
def test_further_fits_have_other_seeds_and_the_params_of_the_better_network(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[FitConfig] = []

    def noted(spec: FitConfig, journal: Any) -> FitResult:
        specs.append(spec)
        return fit(spec, journal)

    monkeypatch.setattr(steps, "fit_distributed", noted)
    job = with_little_fits(job)
    tuned = fit_config(job, read_bundle(job.inputs["trained"] / "network")[0], "any")
    changed = tuned.params.model_copy(update={"learning_rate": 3e-3})
    save_params(replace(tuned, params=changed), job.inputs["trained"])
    run(job, {"ensemble": [{"ensemble": {"fits": 2}}]})
    assert [spec.seed for spec in specs] == [job.seed + 1, job.seed + 2]
    assert {spec.params.learning_rate for spec in specs} == {3e-3}


@pytest.mark.usefixtures("one_thread")
def test_fits_of_an_ensemble_are_not_repeated_after_a_kill(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = with_little_fits(job)
    fits: list[int] = []

    def killed_in_the_second(spec: FitConfig, journal: Any) -> FitResult:
        if not spec.done.exists():
            fits.append(spec.seed - job.seed)
            if fits == [1, 2]:
                raise KeyboardInterrupt
        return fit(spec, journal)

    monkeypatch.setattr(steps, "fit_distributed", killed_in_the_second)
    wanted = {"ensemble": ["ensemble"]}
    with pytest.raises(KeyboardInterrupt):
        run(job, wanted)
    run(job, wanted)
    assert fits == [1, 2, 2, 3]


@pytest.mark.usefixtures("one_thread")
def test_an_ensemble_of_one_is_dropped_and_the_recipe_goes_on(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = with_little_fits(job)
    # The network alone is the best of all.
    monkeypatch.setattr(
        ensemble_selection, "mean_scorer", lambda *_: lambda counts: counts[0] / sum(counts)
    )
    fits = counted_fits(monkeypatch)
    student = {"distill": {"epochs": 1, "compare": False}}
    recipes_ = {"a": ["ensemble"], "b": ["ensemble", student], "c": [student]}
    rows = run(job, recipes_, ensemble={"fits": 1})
    reason = "no ensemble is better on validation than trained alone"
    assert [rows[name][0]["reason"] for name in ("a", "b")] == [reason, reason]
    assert made(job) == ["b", "c"]
    # Both students have the same teacher, so one fit makes both.
    assert {name: len(steps_) for name, steps_ in rows.items()} == {"a": 1, "b": 2, "c": 1}
    assert sorted(fits) == ["distill", "ensemble"]


PAGE = re.compile(r"<!-- add to: (\w+)\.py -->\n```python\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_step_of_the_page_works_as_the_page_says(
    job: Job, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    page = ROOT / "docs" / language / "how-to" / "add-a-compression-method.md"
    code = dict(PAGE.findall(page.read_text(encoding="utf-8")))
    settings: dict[str, Any] = dict(vars(compress_params))
    exec(code["params"], settings)
    functions: dict[str, Any] = {**vars(steps), "Sparsify": settings["Sparsify"]}
    exec(code["steps"], functions)
    monkeypatch.setitem(compress_params.STEPS, "sparsify", settings["Sparsify"])
    monkeypatch.setitem(steps.STEP_FUNCTIONS, "sparsify", functions["_sparsify"])
    little = {"sparsify": {"share": 0.01}}
    most = {"sparsify": {"share": 0.99}}
    rows = run(job, {"little": [little], "most": [most, "export"]})
    card = read_bundle(job.outputs["compressed"] / "most")[0]
    # A network without nearly all of its weights is worse, and no cheaper.
    assert not rows["most"][0]["kept"]
    assert card.origin == ["train", "export"]
    if rows["little"][0]["kept"]:
        weights = load_network(job.outputs["compressed"] / "little").state_dict()
        zeros = sum(int((value == 0).sum()) for value in weights.values() if value.dim() > 1)
        total = sum(value.numel() for value in weights.values() if value.dim() > 1)
        assert zeros == pytest.approx(0.01 * total, rel=0.1)


# -- targets: seconds are stated, so that the tests do not depend on the machine


@pytest.fixture(scope="module")
def one_kernel(reviews: StageRunner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bundle of a fitted TextCNN with one size of kernel."""
    folder = tmp_path_factory.mktemp("one_kernel")
    spec = reviews.spec(folder / "state", config={"kernels": [2]}, epochs=4)
    save_torch(folder / "network", spec, fit(spec).weights.read_bytes(), "0" * 64, ["train"])
    return folder


@pytest.fixture
def small_job(job: Job, one_kernel: Path) -> Job:
    """Return a job of compress on the network with one size of kernel."""
    return replace(job, inputs={**job.inputs, "trained": one_kernel})


def filters_as_seconds(networks: Mapping[str, torch.nn.Module], *_: Any) -> dict[str, float]:
    """Return the number of weights of the convolutions of each network as its seconds."""
    seconds = {}
    for name, network in networks.items():
        if isinstance(network, KeptGraph):
            graph = onnx.load_from_string(network.content).graph
            shapes = [tensor.dims for tensor in graph.initializer]
        else:
            shapes = [parameter.shape for parameter in network.parameters()]
        seconds[name] = float(sum(np.prod(shape) for shape in shapes if len(shape) == 3))
    return seconds


def twice_as_fast(networks: Mapping[str, torch.nn.Module], *_: Any) -> dict[str, float]:
    """Return 2 seconds for the network of a recipe and 1 for each graph."""
    return {name: 1.0 if name else 2.0 for name in networks}


@pytest.fixture
def quick_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export graphs of targets in a tenth of the time."""
    monkeypatch.setattr(target, "export_bundle", exported_quickly)


@pytest.fixture
def filter_speed(monkeypatch: pytest.MonkeyPatch, quick_export: None) -> None:
    """State the speed of a network by the number of its filters."""
    monkeypatch.setattr(target, "GraphModule", KeptGraph)
    monkeypatch.setattr(target, "seconds_per_row", filters_as_seconds)


def exported_quickly(job: Job, bundle: Path, module: torch.nn.Module) -> bytes:
    """Return the graph of a TextCNN by the exporter of before, which takes a tenth of the time."""
    content = io.BytesIO()
    inputs = {"ids": torch.ones((2, 5), dtype=torch.long), "mask": torch.ones((2, 5))}
    torch.onnx.export(
        module,
        (inputs["ids"], inputs["mask"]),
        content,
        dynamo=False,
        input_names=list(inputs),
        output_names=["logits"],
        dynamic_axes={name: {0: "n", 1: "t"} for name in inputs},
    )
    return content.getvalue()


@pytest.mark.usefixtures("filter_speed")
def test_a_speed_that_is_asked_for_is_kept_within_a_tenth(small_job: Job) -> None:
    job = small_job
    speedup = 3.0
    wanted = {"speedup": speedup, "max_drop": 0.2}
    rows = run(job, {"fast": wanted}, prune={"epochs": 6, "learning_rate": 0.01})
    (row,) = rows["fast"]
    assert row["reason"].startswith("reached: ")
    reached = float(row["reason"].split()[1])
    assert 0.9 * speedup <= reached <= 1.1 * speedup
    card = read_bundle(job.outputs["compressed"] / "fast")[0]
    assert card.origin[:2] == ["train", "prune"]
    assert card.runtime == "onnx"


def layers_as_seconds(networks: Mapping[str, torch.nn.Module], *_: Any) -> dict[str, float]:
    """Return the number of weights in the layers of each Transformer as its seconds."""
    seconds = {}
    for name, network in networks.items():
        if isinstance(network, KeptGraph):
            graph = onnx.load_from_string(network.content).graph
            shapes = [tuple(tensor.dims) for tensor in graph.initializer]
        else:
            shapes = [tuple(parameter.shape) for parameter in network.parameters()]
        # All matrices but the table of the tokens and the head.
        matrices = [shape for shape in shapes if len(shape) == 2 and min(shape) >= 8]
        seconds[name] = float(sum(np.prod(shape) for shape in matrices if max(shape) < 64))
    return seconds


def test_a_target_drops_layers_where_units_are_not_enough(
    job: Job, reviews: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "export_bundle", exported_quickly)
    monkeypatch.setattr(target, "GraphModule", KeptGraph)
    monkeypatch.setattr(target, "seconds_per_row", layers_as_seconds)
    # One head and eight hidden units are the fewest.
    config = {"layers": 4, "heads": 1, "feedforward": 8}
    spec = reviews.spec(tmp_path / "fit", "transformer", config, epochs=1)
    network = tmp_path / "encoder" / "network"
    save_torch(network, spec, fit(spec).weights.read_bytes(), "0" * 64, ["train"])
    job = replace(job, inputs={**job.inputs, "trained": network.parent})
    halved = [{"prune": {"share": 0, "layers": 0.5, "epochs": 1}}, "quantize"]
    rows = run(job, {"fast": {"speedup": 2, "max_drop": 1}, "halved": halved})
    assert rows["fast"][0]["reason"].startswith("reached: 2.00 times as fast")
    assert [row["kept"] for row in rows["halved"]] == [True, True]
    for name in made(job):
        card = read_bundle(job.outputs["compressed"] / name)[0]
        assert card.config["layers"] == 2
        assert card.config["feedforward"] == [8, 8]
        assert load_network(job.outputs["compressed"] / name)
    assert made(job) == ["fast", "halved"]
    journal = (job.state / "journal.jsonl").read_text(encoding="utf-8")
    assert re.search(r"prune: 2 of 4 layers stay: \d, \d", journal)


@pytest.mark.usefixtures("filter_speed")
def test_a_cut_that_loses_more_than_is_allowed_is_refused(small_job: Job) -> None:
    job = small_job
    wanted = {"speedup": 3.0, "max_drop": 0.0}
    rows = run(job, {"fast": wanted}, prune={"epochs": 1, "learning_rate": 1e-7})
    assert rows["fast"][0]["reason"].startswith("not reached: ")
    assert rows["fast"][0]["reason"].endswith("lost on validation, with 0.00% allowed")
    assert made(job) == []


def test_a_cut_has_the_form_in_which_it_is_fast(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of pictures are faster in int8 as a whole, and in fp32 when they are cut."""
    network = job.inputs["trained"] / "network"
    given = steps.StepInput(job, network, network, "state", job.state / "out")
    search = target._Search(given, Target(speedup=4))
    forms = [
        target.Measured("quantize", b"", speedup=2.9, size_bytes=1, drop=0.0),
        target.Measured("export", b"", speedup=2.5, size_bytes=1, drop=0.0),
    ]
    cut = {"quantize": 4.5, "export": 7.3}

    def measured(_: object, form: str, chosen: Mapping[str, float]) -> target.Measured:
        assert set(chosen.values()) == {0.5}
        return target.Measured(form, b"", cut[form], size_bytes=1, drop=0.0)

    monkeypatch.setattr(target._Search, "_measure_unfitted", measured)
    assert search.fastest_cut(forms).form == "export"
    assert search.fastest_cut(forms[:1]).form == "quantize"


def test_a_target_that_the_whole_network_meets_cuts_nothing(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = counted_fits(monkeypatch)
    exports: list[Path] = []

    def counting(job: Job, bundle: Path, module: torch.nn.Module) -> bytes:
        exports.append(bundle)
        return exported_quickly(job, bundle, module)

    monkeypatch.setattr(target, "export_bundle", counting)
    monkeypatch.setattr(target, "seconds_per_row", twice_as_fast)
    rows = run(job, {"fast": {"speedup": 2, "max_drop": 0.2}})
    assert fits == []
    # fp32 and int8 are made of one export.
    assert exports == [job.inputs["trained"] / "network"]
    assert rows["fast"][0]["reason"].startswith("reached without a cut: 2.00 times as fast")
    assert read_bundle(job.outputs["compressed"] / "fast")[0].runtime == "onnx"


@pytest.mark.usefixtures("quick_export")
def test_a_target_that_cannot_be_met_is_refused_with_how_far_it_got(
    small_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = small_job
    fits = counted_fits(monkeypatch)
    monkeypatch.setattr(target, "seconds_per_row", twice_as_fast)
    rows = run(job, {"fast": {"speedup": 50}})
    assert fits == []
    assert rows["fast"][0]["reason"].startswith("not reached: the largest cut is 2.00 times as")
    assert made(job) == []


def test_steps_without_a_fit_and_small_students_leave_room_for_others(job: Job) -> None:
    two = type(job.sections["train"]).model_validate(
        {**job.sections["train"].model_dump(), "workers": 2}
    )
    job = replace(job, sections={**job.sections, "train": two})
    knobs = {
        "distill": {**STUDENT, "workers": 1},
        "recipes": {
            "a": ["export"],
            "b": ["quantize"],
            "c": ["distill"],
            "d": [{"distill": {"workers": None}}],
            "e": ["prune"],
            "f": {"speedup": 2},
        },
    }
    made_of, _ = resolved_recipes(CompressParams.model_validate(knobs))
    firsts = {
        name: recipe if isinstance(recipe, Target) else recipe[0]
        for name, recipe in made_of.items()
    }
    workers = {
        name: recipes._workers(job, recipes._Node("", "", step)) for name, step in firsts.items()
    }
    assert workers == {"a": 1, "b": 1, "c": 1, "d": 2, "e": 2, "f": 2}


def test_steps_with_the_same_teacher_share_its_answers(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    write = steps.write_teacher_answers

    def noted(spec: FitConfig, path: Path) -> None:
        asked.append(path)
        write(spec, path)

    monkeypatch.setattr(steps, "write_teacher_answers", noted)
    student = {"distill": {"epochs": 1, "unlabelled": False, "compare": False}}
    rows = run(job, {"a": [{"finetune": {"epochs": 1}}], "b": [student]})
    assert len(rows) == len(asked) == 2
    assert asked[0] == asked[1] and asked[0].is_file()
