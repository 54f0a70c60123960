"""Params and environments that cannot work: all of it said at once, and what earlier stages wrote is left alone."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.project import Project, reviews

PARAMS = "pipelines/kept/params.yaml"
HEAVY = (
    "torch",
    "ray",
    "mlflow",
    "dvc",
    "sklearn",
    "pandas",
    "matplotlib",
    "transformers",
    "onnxruntime",
)


@pytest.fixture(scope="module")
def ingested(project: Project) -> Project:
    """A pipeline `kept` of which ingest has run."""
    project.pipeline("kept", project.write("in/kept.csv", reviews()))
    # As in `gristmill run`, which writes to MLflow at its end.
    done = project.dvc("repro", "pipelines/kept/dvc.yaml:ingest", GRISTMILL_RUN="test")
    assert done.code == 0, done.out + done.error
    assert len(project.table("data/kept/raw")) == 60
    return project


@pytest.fixture
def kept(ingested: Project) -> Iterator[Project]:
    """The same; whatever a test does to the params is undone, and must not have changed what ingest wrote."""
    path: Path = ingested.root / PARAMS
    params, before = path.read_bytes(), ingested.hashes("data/kept/raw")
    yield ingested
    path.write_bytes(params)
    assert ingested.hashes("data/kept/raw") == before, "outputs of an earlier stage were touched"


def test_all_mistakes_at_once_and_nothing_heavy_is_imported_for_it(kept: Project) -> None:
    # given unknown keys and impossible values in many places
    mistakes = {
        "trian": {"epochs": 3},
        "cluster": {"storge": None},
        "ingest": {"source": {"encoding": "utf-99"}},
        "clean": {"validation_share": 0.9},
        "augment": {"methods": ["delete", "swop"]},
        "train": {
            "optimizer": "adamm",
            "learning_rate": "1e-3",
            "epochs": 0,
            "clip_norm": float("nan"),
            "nets": {"textcnn": {"channels": 0}, "transformer": {"width": 16, "heads": 3}},
        },
        "tune": {
            "space": {
                "learning_rate": {"loguniform": [1.0, 0.1]},
                "optimizer": {"choise": ["adam"]},
                "nets.textcnn.chanels": {"choice": [8]},
            }
        },
        "compress": {"distill": {"architecture": "lstm"}},
        "registry": {"mode": "manual", "gates": {"size": 3}},
        "pipeline": {"data": "data"},
    }
    kept.edit(PARAMS, mistakes)
    # when it is run
    done = kept.gristmill("run", "kept", flags=("-X", "importtime"))
    # then each is told in a line of its own, with file, path, value and the nearest name
    assert done.code == 2
    told = [
        # The lines after the first begin below it.
        line.removeprefix("error: ").removeprefix("       ")
        for line in done.error.splitlines()
        if not line.startswith("import time:")
    ]
    *lines, remedy = told
    expected = [
        "cluster.storge: is not a known key (did you mean 'storage'?)",
        "ingest.source.encoding: 'utf-99': is no encoding that Python knows; use auto, utf-8, gb18030",
        "clean.validation_share: 0.9: input should be less than 0.5",
        "augment.methods.1: 'swop' is not one of delete, swap, mask (did you mean 'swap'?)",
        "train.epochs: 0: input should be greater than or equal to 1",
        "train.optimizer: 'adamm' is not one of sgd, adagrad, rmsprop, adam, adamw, muon (did you mean 'adamw'?)",
        "train.learning_rate: '1e-3': input should be a valid number",
        "train.clip_norm: nan: input should be greater than 0",
        "train.nets.textcnn.channels: 0: must be at least 1",
        "train.nets.transformer: width 16 must be an even multiple of heads 3",
        "tune.space.learning_rate: the range [1.0, 0.1] is empty",
        "tune.space.optimizer.choise: is not a known key (did you mean 'choice'?)",
        "registry.mode: 'manual' is not one of auto, review",
        "registry.gates.size: is not a known key (did you mean 'size_mb'?)",
        "trian: is not a known key (did you mean 'train'?)",
        "tune.space.nets.textcnn.chanels: train has no 'chanels' there (did you mean 'channels'?)",
        "compress.distill.architecture: 'lstm' is not one of ngrams, textcnn, counted, recurrent, transformer",
        "pipeline.data: 'data' must be 'data/kept': each pipeline has a folder of its own",
    ]
    assert len(lines) == len(expected), "\n".join(lines)
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(f"{PARAMS}: {start}")
    assert remedy == f"  -> {len(expected)} mistakes; edit {PARAMS} and run the same command again"
    # and neither Ray nor torch nor DVC was loaded to find out
    imported = {
        found[1].split(".")[0]
        for line in done.error.splitlines()
        if (found := re.match(r"import time:.*\| +([\w.]+)$", line))
    }
    assert "pydantic" in imported and not imported & set(HEAVY)
    assert done.out == ""


def test_a_stage_checks_all_params_too(kept: Project) -> None:
    kept.edit(PARAMS, {"train": {"optimizer": "adamm"}, "registry": {"mode": "manual"}})
    done = kept.call("stage", "clean", PARAMS)
    assert done.code == 2
    assert "train.optimizer: 'adamm'" in done.error and "registry.mode: 'manual'" in done.error
    assert not (kept.root / "data/kept/clean").exists()


@pytest.mark.parametrize("text", ["task: [", "- 1\n", ""])
def test_what_is_no_yaml(kept: Project, text: str) -> None:
    (kept.root / PARAMS).write_text(text)
    done = kept.call("run", "kept")
    assert done.code == 2
    assert done.error.startswith(f"error: {PARAMS}: ") and "\n  -> " in done.error


def test_a_section_that_was_pasted_a_second_time(kept: Project) -> None:
    text = (kept.root / PARAMS).read_text()
    (kept.root / PARAMS).write_text(f"{text}\nserve:\n  abstain: 0.1\n")
    done = kept.call("run", "kept")
    assert done.code == 2
    line = len(text.splitlines()) + 2
    assert done.error.startswith(
        f'error: {PARAMS}: is not readable YAML: line {line}: the key "serve" is there already; '
        "put its lines below the first one\n"
    )


def test_a_later_stage_that_refuses_leaves_the_earlier_ones_alone(kept: Project) -> None:
    kept.edit(PARAMS, {"clean": {"min_rows_per_class": 500}})
    done = kept.gristmill("run", "kept")
    assert done.code == 2
    assert "kept/dvc.yaml:ingest' didn't change, skipping" in done.out
    assert (
        "error: clean.min_rows_per_class: classes with fewer than 500 usable rows: {'neg': 30, 'pos': 30}"
        in done.error
    )
    assert "-> bring more rows, or lower clean.min_rows_per_class" in done.error
    assert (
        done.error.splitlines()[-1]
        == "the run stopped in stage clean; what was finished is kept. To go on: gristmill run kept"
    )


def test_a_ray_address_that_does_not_answer(kept: Project) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        done = kept.gristmill("run", "kept", RAY_ADDRESS=address)
    assert done.code == 4
    assert f"error: RAY_ADDRESS={address}: does not answer within" in done.error
    assert "or unset RAY_ADDRESS to use this machine alone" in done.error
    assert done.error.splitlines()[-1].endswith("To go on: gristmill run kept")


def test_what_dvc_itself_refuses_is_no_bug_of_ours(kept: Project) -> None:
    # given a dvc.yaml that DVC cannot read
    stages = kept.root / "pipelines/kept/dvc.yaml"
    before = stages.read_bytes()
    stages.write_bytes(before.replace(b"stages:", b"stages: ["))
    try:
        done = kept.gristmill("run", "kept")
    finally:
        stages.write_bytes(before)
    assert done.code == 4
    assert "pipelines/kept/dvc.yaml" in done.error
    assert (
        done.error.splitlines()[-1]
        == "the run stopped in DVC itself, which says above what to mend; what was finished is kept. To go on: gristmill run kept"
    )
