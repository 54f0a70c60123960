"""A pretrained encoder: its own vocabulary, three ways to learn, a bundle that needs neither folder nor network; and clear words where it cannot be."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from stage_runner import StageRunner, lend, sentences

from components.core.errors import EnvironmentFault, GristmillError, InputError, ParamsError
from components.core.files import sha256
from components.core.pretrained_files import digest, files_of
from components.inference.predictor import load, load_module, onnx_scorer, torch_scorer
from components.models.pretrained.net import Pretrained, weights_of
from components.stages.compress.prune import prune_network
from components.stages.compress.quantize import export, int8
from components.tasks import base
from components.tasks.text_classification.encode import TextEncoder
from components.training.batches import EncodedRows, load_encoder
from components.training.bundle_writer import save_torch
from components.training.fit_config import check
from components.training.loop import fit, make_train_step

pytestmark = pytest.mark.usefixtures("one_thread")

LORA = {"way": "lora", "lora": {"rank": 4, "alpha": 8.0, "dropout": 0.1}}


@pytest.fixture
def bert(borrowed: StageRunner, tmp_path: Path) -> Path:
    """A copy of the folder, to be spoilt."""
    return Path(shutil.copytree(borrowed.root / "bert", tmp_path / "bert"))


def test_tokens_are_what_the_encoder_expects(borrowed: StageRunner) -> None:
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_file=str(borrowed.root / "bert" / "tokenizer.json"))
    for row, tokens in zip(
        borrowed.rows("clean", "test"), borrowed.rows("tokens", "test"), strict=True
    ):
        assert tokens["ids"] == theirs(row["text"], truncation=True, max_length=48)["input_ids"]
        assert (tokens["ids"][0], tokens["ids"][-1]) == (2, 3)
    assert {
        name: sha256(borrowed.root / "tokens" / "pretrained" / name)
        for name in borrowed.manifest("tokens")["pretrained"]
    } == borrowed.manifest("tokens")["pretrained"]


def test_rows_are_padded_with_the_encoders_own_id() -> None:
    files = {
        "tokenizer.json": b'{"version":"1.0","added_tokens":[],"model":{"type":"WordLevel","vocab":{"a":0,"[UNK]":2},"unk_token":"[UNK]"},"pre_tokenizer":{"type":"Whitespace"}}'
    }
    encoder = TextEncoder(
        files["tokenizer.json"].decode(),
        {"classes": ["x"], "max_length": 8, "max_characters": 99, "pad": 1},
    )
    assert encoder.collate(encoder.rows({"text": ["a", "a b"]}))["ids"].tolist() == [[0, 1], [0, 2]]


def test_it_starts_from_the_weights_and_computes_what_transformers_computes(
    borrowed: StageRunner, tmp_path: Path
) -> None:
    from transformers import AutoModel

    encoder = load_encoder(borrowed.root / "tokens", borrowed.task)
    module: Any = make_train_step(borrowed.spec(tmp_path, "pretrained"), encoder).module.eval()
    batch = {
        name: torch.from_numpy(value)
        for name, value in EncodedRows(borrowed.root / "tokens", "test", encoder)
        .batch([0, 1, 2])
        .items()
        if name != "target"
    }
    theirs = (
        AutoModel.from_pretrained(borrowed.root / "bert")
        .eval()(input_ids=batch["ids"], attention_mask=batch["mask"].long())
        .last_hidden_state
    )
    assert torch.equal(module.states(**batch), theirs)
    mean = (theirs * batch["mask"][..., None]).sum(1) / batch["mask"].sum(1, keepdim=True)
    assert torch.allclose(module(**batch), module.head(mean), atol=1e-6)


@pytest.mark.parametrize(
    "config", [{"way": "full"}, {"way": "head"}, LORA], ids=["full", "head", "lora"]
)
def test_it_learns_and_its_bundle_is_complete_in_itself(
    config: dict[str, Any], borrowed: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Path(shutil.copytree(borrowed.root / "tokens", tmp_path / "tokens"))
    runner = StageRunner(tmp_path, borrowed.task, borrowed.sections)
    spec = runner.spec(
        tmp_path / "fit",
        "pretrained",
        config,
        epochs=3,
        patience=3,
        checkpoint_steps=50,
        learning_rate=2e-2 if config["way"] == "head" else 4e-3,
    )
    fitted = fit(spec)
    assert fitted.curve[-1]["train_loss"] < fitted.curve[0]["train_loss"]
    save_torch(tmp_path / "bundle", spec, fitted.weights.read_bytes(), "0" * 64, ["train"])
    before, after = weights_of(borrowed.root / "bert"), load_file(fitted.weights)
    assert set(after) == {
        *before,
        "head.weight",
        "head.bias",
    }  # adapters are in the weights, not beside them
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    dense = {
        name
        for name in before
        if name.endswith("weight") and "layer." in name and "LayerNorm" not in name
    }
    assert changed == {"full": set(before), "head": set(), "lora": dense}[config["way"]]

    shutil.rmtree(tokens)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))
    predictor = load(tmp_path / "bundle")
    answers = predictor.predict(
        [
            predictor.evaluator.Query(text=row["text"])
            for row in borrowed.rows("clean", "validation")
        ]
    )
    hits = np.mean(
        [
            answer.label == row["label"]
            for answer, row in zip(answers, borrowed.rows("clean", "validation"), strict=True)
        ]
    )
    assert hits == pytest.approx(fitted.best["validation_accuracy"])


@pytest.mark.parametrize("config", [{"way": "head"}, LORA], ids=["head", "lora"])
def test_what_is_frozen_has_no_gradient_and_no_place_in_optimiser_and_checkpoint(
    config: dict[str, Any], borrowed: StageRunner, tmp_path: Path
) -> None:
    train_step = make_train_step(
        borrowed.spec(tmp_path, "pretrained", config),
        load_encoder(borrowed.root / "tokens", borrowed.task),
    )
    rows = EncodedRows(
        borrowed.root / "tokens", "train", load_encoder(borrowed.root / "tokens", borrowed.task)
    )
    train_step.step([train_step.put(rows.batch([0, 1, 2, 3]))], 4, 1e-3)
    learns = {name for name, p in train_step.module.named_parameters() if p.grad is not None}
    assert learns == {
        name
        for name, _ in train_step.module.named_parameters()
        if name.startswith("head.") or ".lora_" in name
    }
    assert set(train_step.state()["module"]) == learns
    assert sum(
        len(group["params"])
        for part in train_step.optimizers.parts.values()
        for group in part.param_groups
    ) == len(learns)
    assert train_step.module.encoder.training == (config["way"] == "lora")  # type: ignore[union-attr]


def test_a_killed_fit_of_adapters_ends_as_the_undisturbed_one(
    borrowed: StageRunner, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill(row: Any) -> None:
        if row["epoch"] == 1:
            raise Killed

    knobs: dict[str, Any] = {"epochs": 2, "patience": 2, "batch_size": 64, "checkpoint_steps": 50}
    undisturbed = fit(borrowed.spec(tmp_path / "undisturbed", "pretrained", LORA, **knobs))
    with pytest.raises(Killed):
        fit(borrowed.spec(tmp_path / "killed", "pretrained", LORA, **knobs), report=kill)
    assert sha256(
        fit(borrowed.spec(tmp_path / "killed", "pretrained", LORA, **knobs)).weights
    ) == sha256(undisturbed.weights)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_lower_layers_learn_more_slowly(
    optimizer: str, borrowed: StageRunner, tmp_path: Path
) -> None:
    train_step = make_train_step(
        borrowed.spec(tmp_path, "pretrained", {"layer_decay": 0.5}, optimizer=optimizer),
        load_encoder(borrowed.root / "tokens", borrowed.task),
    )
    for p in train_step.optimizers.parameters:
        p.grad = torch.zeros_like(p)
    train_step.optimizers.step(0.8)
    rates = {
        id(p): group["lr"]
        for part in train_step.optimizers.parts.values()
        for group in part.param_groups
        for p in group["params"]
    }
    found = {name: rates[id(p)] for name, p in train_step.module.named_parameters()}
    assert len(rates) == len(found)
    parts = {
        "encoder.embeddings.": 0.1,
        "encoder.encoder.layer.0.": 0.2,
        "encoder.encoder.layer.1.": 0.4,
        "head.": 0.8,
    }
    for prefix, rate in parts.items():
        values = [value for name, value in found.items() if name.startswith(prefix)]
        assert values and values == pytest.approx([rate] * len(values))


def weight_bytes(content: bytes) -> int:
    """Return the bytes of all weights of an ONNX model."""
    import onnx

    weights = onnx.load_from_string(content).graph.initializer
    return sum(onnx.numpy_helper.to_array(weight).nbytes for weight in weights)


def test_onnx_says_the_same_and_int8_nearly(borrowed: StageRunner, tmp_path: Path) -> None:
    spec = borrowed.spec(tmp_path / "fit", "pretrained")
    save_torch(tmp_path / "bundle", spec, fit(spec).weights.read_bytes(), "0" * 64, ["train"])
    module, rows = (
        load_module(tmp_path / "bundle"),
        EncodedRows(
            borrowed.root / "tokens", "train", load_encoder(borrowed.root / "tokens", borrowed.task)
        ),
    )
    graph = base.models(borrowed.task).architectures["pretrained"].graphs(module)["forward"]
    content = export(
        graph, dict(rows.batch([int(rows.lengths.argmax()), int(rows.lengths.argmin())]))
    )
    small = int8(content, rows, 64, 0)
    import onnx

    nodes = onnx.load_from_string(small).graph.node
    sums = {node.output[0] for node in nodes if node.op_type in ("MatMul", "Gemm")}
    rounded = {node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    # A bias is added before the next product rounds.
    assert sums and sums.isdisjoint(rounded)
    # Of so small a network the nodes, which stay, are a third of the file: the weights count.
    assert weight_bytes(small) < weight_bytes(content) / 2
    for some in ([0], [3, 4, 5, 6, 7]):
        batch = {name: value for name, value in rows.batch(some).items() if name != "target"}
        right = torch_scorer(module)("forward", batch)["logits"]
        assert np.allclose(onnx_scorer(content)("forward", batch)["logits"], right, atol=1e-5)
        assert np.allclose(onnx_scorer(small)("forward", batch)["logits"], right, atol=0.15)


FRESH = """
import json, sys
from pathlib import Path
import torch
from components.core.garbage import collect_rarely
from components.inference.predictor import load_module
collect_rarely()
inputs = {key: torch.tensor(value) for key, value in json.loads(sys.argv[2]).items()}
with torch.no_grad():
    print(json.dumps(load_module(Path(sys.argv[1]))(**inputs).tolist()))
"""


@pytest.mark.parametrize("layers", [0.0, 0.5])
def test_a_pruned_encoder_loads_in_a_fresh_process_and_exports_to_onnx(
    borrowed: StageRunner, tmp_path: Path, layers: float
) -> None:
    architecture = base.models(borrowed.task).architectures["pretrained"]
    encoder = load_encoder(borrowed.root / "tokens", borrowed.task)
    module: Any = make_train_step(borrowed.spec(tmp_path, "pretrained"), encoder).module.eval()
    pruning_spec = architecture.pruning_spec()
    dims = pruning_spec.dims(module)
    shares = {dim.name: layers if dim.modules else 0.5 for dim in dims}
    config, weights = prune_network(module, module.config, pruning_spec, shares)
    stay = round(dims[0].size * (1 - layers))
    assert [config.layers, len(config.heads), len(config.feedforward)] == [stay] * 3
    assert sum(map(torch.numel, weights.values())) < sum(map(torch.numel, module.parameters()))
    spec = borrowed.spec(tmp_path / "fit", "pretrained", config.model_dump())
    save_torch(tmp_path / "bundle", spec, save(weights), "0" * 64, ["train"])
    pruned = load_module(tmp_path / "bundle")
    rows = EncodedRows(borrowed.root / "tokens", "train", encoder)
    batch = {name: value for name, value in rows.batch([3, 4, 5]).items() if name != "target"}
    right = torch_scorer(pruned)("forward", batch)["logits"]
    inputs = json.dumps({name: value.tolist() for name, value in batch.items()})
    fresh = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path / "bundle"), inputs],
        check=True,
        capture_output=True,
        text=True,
    )
    assert np.allclose(json.loads(fresh.stdout), right, atol=1e-5)
    content = export(architecture.graphs(pruned)["forward"], dict(rows.batch([0, 1])))
    assert np.allclose(onnx_scorer(content)("forward", batch)["logits"], right, atol=1e-5)
    small = int8(content, rows, 64, 0)
    assert np.allclose(onnx_scorer(small)("forward", batch)["logits"], right, atol=0.15)


# -- what is refused
def spoil(bert: Path, how: str) -> None:
    weights, config = bert / "model.safetensors", bert / "config.json"
    match how:
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "pickle":
            weights.rename(bert / "pytorch_model.bin")
        case "no weights":
            weights.unlink()
        case "no tokenizer":
            (bert / "tokenizer.json").unlink()
        case "code":
            config.write_text(
                json.dumps(
                    json.loads(config.read_text()) | {"auto_map": {"AutoModel": "evil.Model"}}
                )
            )
        case "no json":
            config.write_text("{")
        case "shards":
            (bert / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "model-00002-of-00002.safetensors"}}'
            )


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("truncated", "cut off"),
        ("pickle", "a pickle only"),
        ("no weights", "no weights"),
        ("no tokenizer", "lacks tokenizer.json"),
        ("code", "code from its repository"),
        ("no json", "no readable JSON"),
        ("shards", "lacks model-00002-of-00002.safetensors"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(how: str, says: str, bert: Path) -> None:
    spoil(bert, how)
    with pytest.raises(InputError, match=says) as caught:
        files_of("bert", bert.parent)
    assert caught.value.remedy and str(bert) in caught.value.where


def test_a_missing_folder_and_a_hub_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="is no folder"):
        files_of(str(tmp_path / "nowhere"), tmp_path)

    def silent(*_: Any, **__: Any) -> str:
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", silent)
    with pytest.raises(
        EnvironmentFault,
        match=r"someone/bert: is no folder, and the hub does not give it \(OSError: no route\)",
    ):
        files_of("someone/bert", tmp_path)


def test_a_package_holds_an_encoder_and_is_never_imported(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "carries_bert"
    shutil.copytree(bert, package / "model")
    (package / "__init__.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(tmp_path))
    there = files_of("package:carries_bert/model", tmp_path / "elsewhere")
    assert digest(there) == digest(files_of("bert", bert.parent))
    for absent in ("carries_bert/models", "carries_bert/../bert", "carries_nothing/model"):
        with pytest.raises(EnvironmentFault, match="is not installed, or has no folder"):
            files_of(f"package:{absent}", tmp_path)


def test_the_hub_gives_a_folder_and_nothing_else_is_asked_for(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda name, **told: asked.update(told, name=name) or str(bert),
    )
    assert digest(files_of("someone/bert", tmp_path / "elsewhere")) == digest(
        files_of("bert", bert.parent)
    )
    assert asked["name"] == "someone/bert"
    assert not any("bin" in pattern or "py" in pattern for pattern in asked["allow_patterns"])


def test_another_encoder_than_the_params_tell_is_refused_and_the_message_tells_what_to_write(
    borrowed: StageRunner, tmp_path: Path
) -> None:
    other, told = lend(tmp_path / "bert"), {"max_length": 48, "pretrained": "bert"}
    for sha, what in (
        (None, "is missing: bert needs the SHA-256"),
        ("0" * 64, "is not the SHA-256"),
    ):
        runner = (
            StageRunner.make(tmp_path, sentences(40), tokenize={**told, "pretrained_sha256": sha})
            .clean()
            .augment()
        )
        with pytest.raises(ParamsError, match="pretrained_sha256") as caught:
            runner.tokenize()
        assert what in caught.value.what
        assert f"pretrained_sha256: {other}" in caught.value.remedy
        shutil.rmtree(tmp_path / "clean")
        shutil.rmtree(tmp_path / "augmented")


def test_longer_rows_than_the_encoder_has_places_for_are_refused(borrowed: StageRunner) -> None:
    section = borrowed.sections["tokenize"].model_copy(update={"max_length": 65})
    encoding = base.encoding(borrowed.task)
    assert isinstance(encoding, base.BorrowsVocabulary)
    with pytest.raises(ParamsError, match="at most 64 tokens"):
        encoding.load_vocabulary(
            encoding.pretrained_files(section, borrowed.root),
            ["a"],
            section,
            borrowed.sections["clean"],
        )


def test_tokens_of_another_vocabulary_are_refused(reviews: StageRunner, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="takes the tokens of its own encoder") as caught:
        check(reviews.spec(tmp_path, "pretrained"))
    assert "tokenize.pretrained" in caught.value.remedy


@pytest.mark.parametrize(("library", "config"), [("transformers", {}), ("peft", LORA)])
def test_a_missing_library_is_named_before_anything_begins(
    library: str,
    config: dict[str, Any],
    borrowed: StageRunner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = importlib.util.find_spec
    monkeypatch.setattr(
        "components.tasks.text_classification.models.find_spec",
        lambda name: None if name == library else right(name),
    )
    with pytest.raises(EnvironmentFault, match=f"needs {library}") as caught:
        check(borrowed.spec(tmp_path, "pretrained", config))
    assert "[pretrained]" in caught.value.remedy


def test_weights_that_were_altered_or_are_another_nets_are_refused(
    borrowed: StageRunner, tmp_path: Path
) -> None:
    tokens = Path(shutil.copytree(borrowed.root / "tokens", tmp_path / "tokens"))
    path = tokens / "pretrained" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    runner = StageRunner(tmp_path, borrowed.task, borrowed.sections)
    with pytest.raises(InputError, match="missing or was altered"):
        fit(runner.spec(tmp_path / "fit", "pretrained"))
    config = json.loads((borrowed.root / "bert" / "config.json").read_text())
    deeper = Path(shutil.copytree(borrowed.root / "bert", tmp_path / "deeper"))
    (deeper / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(InputError, match="lacks 16 weights of the encoder"):
        weights_of(deeper)


def test_an_encoder_of_another_build_is_left_uncut(tmp_path: Path) -> None:
    from components.models.pretrained.config import PretrainedConfig
    from components.models.pretrained.net import PretrainedPruningSpec

    network = {
        "model_type": "distilbert",
        "vocab_size": 20,
        "dim": 16,
        "n_layers": 1,
        "n_heads": 2,
        "hidden_dim": 24,
        "max_position_embeddings": 16,
    }
    module = Pretrained(PretrainedConfig(), network, 2)
    assert PretrainedPruningSpec().dims(module) == []
    assert module(torch.tensor([[3, 4]]), torch.ones(1, 2)).shape == (1, 2)
    assert issubclass(InputError, GristmillError)
