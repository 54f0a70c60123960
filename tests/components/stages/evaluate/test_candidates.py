"""Candidates are found, and measured alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stage_runner import TEXT, StageRunner

from components.core.bundles import CARD, bundle_bytes
from components.core.files import sha256
from components.core.tables import read_table
from components.inference.predictor import load
from components.stages.evaluate.candidates import find_bundles, measure_candidate
from components.stages.evaluate.params import EvaluateParams
from components.tasks import base


def test_bundles_are_called_after_their_stage_or_their_recipe(tmp_path: Path) -> None:
    for name in (
        "trained/network",
        "trained/classical",
        "trained/no-bundle",
        "tuned/network",
        "compressed/pruned",
        "compressed/int8",
    ):
        (tmp_path / name).mkdir(parents=True)
        if name != "trained/no-bundle":
            (tmp_path / name / CARD).write_text("{}")
    found = find_bundles({name: tmp_path / name for name in ("trained", "tuned", "compressed")})
    assert {name: str(path.relative_to(tmp_path)) for name, path in found.items()} == {
        "classical": "trained/classical",
        "trained": "trained/network",
        "tuned": "tuned/network",
        "int8": "compressed/int8",
        "pruned": "compressed/pruned",
    }


def test_a_candidate_is_measured_on_its_own_answers(reviews: StageRunner, network: Path) -> None:
    evaluator, predictor = base.evaluator(TEXT), load(network)
    validation, test = (
        list(evaluator.cases(read_table(reviews.root / "clean", split)))
        for split in ("validation", "test")
    )
    params = EvaluateParams(resamples=100, latency_queries=20, throughput_batch=8)
    found = measure_candidate(
        "trained", network, "models/trained/network", validation, test, params, seed=7
    )
    for split, cases in (("validation", validation), ("test", test)):
        right = [
            answer.label == case.truth
            for answer, case in zip(
                predictor.predict([case.query for case in cases]), cases, strict=True
            )
        ]
        assert found.row[split]["accuracy"] == pytest.approx(np.mean(right))
    assert [answer.label for answer in found.test_answers] == [
        answer.label for answer in predictor.predict([case.query for case in test])
    ]
    low, high = found.row["test_interval"]["accuracy"]
    assert low <= found.row["test"]["accuracy"] <= high
    assert found.row["bundle_sha256"] == sha256(network / CARD)
    assert found.row["size_bytes"] == bundle_bytes(network)
    assert not found.row["baseline"]
