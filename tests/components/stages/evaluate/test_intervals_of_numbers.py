"""A regression goes through evaluate: intervals come from validation and go into the winner's card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from components.core.bundles import add_to_profile, read_bundle
from components.core.errors import BundleError
from components.core.job import Job
from components.core.params import Strict
from components.core.tables import read_table, write_table
from components.inference.predictor import first_answers, load
from components.inference.stated_intervals import KEY
from components.registry.params import RegistryParams
from components.registry.release.gates import GateParams, GateRules
from components.serving.rollout.preflight import examined
from components.stages.evaluate import process_costs, stage
from components.stages.evaluate.params import EvaluateParams
from components.stages.evaluate.report_data import _fit_energy
from components.stages.serve import stage as serve
from components.stages.serve import version_description
from components.tasks.shared.evaluator.regression.answer import NumberAnswer
from tests.components.priced_task import (
    CLEAN,
    PRICED,
    PricedEvaluator,
    clean_rows,
    flats,
    priced_task,
    save_baseline,
)
from tests.components.registry.test_gates_of_numbers import NumberGates
from tests.components.stages.evaluate.test_report import words

__all__ = ["priced_task"]
PARAMS = EvaluateParams(resamples=100, latency_queries=20, throughput_batch=32)
UNITS = (1.0, 1e-6, 1e6)
TAGS = {"pipeline": "flats", "params_hash": "p" * 64}


class NoParams(Strict):
    """No params."""


def evaluated(root: Path, count: int, unit: float = 1.0) -> Job:
    """Clean rows, fit the baselines, and run evaluate."""
    clean_rows(root, flats(count, unit))
    for name in ("trivial", "classical"):
        save_baseline(root, name, root / "models" / "trained" / name)
    save_baseline(root, "curved", root / "models" / "tuned" / "network")
    (root / "models" / "compressed").mkdir()
    tokens = {
        "data_hash": "ab" * 32,
        "account": [],
        "histogram": {"1": count},
        "lengths": {"p50": 1, "mean": 1.0},
    }
    write_table(root / "tokens", {"train": read_table(root / "clean", "train")}, tokens)
    (root / "search.json").write_text(json.dumps({"trials": [], "skipped": "tune.trials: 0"}))
    (root / "train.csv").write_text("epoch,train_loss,validation_loss,validation_rmse\n0,1,1,1\n")
    reports = {}
    for name, joules in (("train_report", 7200.0), ("tune_report", 0.0), ("compress_report", 60.0)):
        reports[name] = root / f"{name}.json"
        reports[name].write_text(json.dumps({"energy_j": joules}))
    names = ("winner", "answers", "leaderboard", "metrics", "confusion", "html", "cards")
    job = Job(
        stage="evaluate",
        task=PRICED,
        seed=7,
        root=root,
        params=PARAMS,
        sections={"clean": CLEAN(), "train": NoParams()},
        inputs={
            "raw": root / "raw",
            "clean": root / "clean",
            "audit": root / "audit",
            "tokens": root / "tokens",
            "trained": root / "models" / "trained",
            "tuned": root / "models" / "tuned",
            "compressed": root / "models" / "compressed",
            "search": root / "search.json",
            "curve": root / "train.csv",
            **reports,
        },
        outputs={name: root / "out" / name for name in names},
        state=root / ".state",
        tags=TAGS,
    )
    (root / "out").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        # A child process does not know the task of the tests, and would measure nothing.
        patch.setattr(
            process_costs, "_measure", lambda *_: {"load_ms": None, "peak_memory_bytes": None}
        )
        stage.run(job)
    return job


@pytest.fixture(scope="module")
def jobs(
    priced_task: PricedEvaluator, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[float, Job]:
    """Evaluate 600 flats, with prices in three units."""
    return {unit: evaluated(tmp_path_factory.mktemp("flats"), 600, unit) for unit in UNITS}


def board(job: Job) -> dict[str, Any]:
    path = {**job.inputs, **job.outputs}["leaderboard"]
    tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return tree


def served(job: Job) -> Job:
    """The job of serve after evaluate."""
    inputs = {"clean": job.inputs["clean"], **job.outputs}
    return replace(job, stage="serve", inputs=inputs, outputs={})


@pytest.mark.parametrize("unit", [1.0, 1e-6])
def test_the_winner_states_intervals_that_cover(
    priced_task: PricedEvaluator, tmp_path: Path, unit: float
) -> None:
    job = evaluated(tmp_path, 6000, unit)
    rows = board(job)["candidates"]
    assert [row["name"] for row in rows] == ["tuned", "classical", "trivial"]
    for row in rows:
        assert row["validation"]["pinball"] is None and row["validation"]["coverage"] is None
        assert row["test"]["coverage"] == pytest.approx(0.9, abs=0.04)
        assert row["test"]["pinball"] > 0
        low, high = row["test_interval"]["rmse"]
        assert low < row["test"]["rmse"] < high
    assert rows[0]["test"]["r2"] > 0.9 > 0.1 > abs(rows[2]["test"]["r2"])

    card, _ = read_bundle(job.outputs["winner"])
    assert card.profile[KEY]["rows"] == 600
    predictor = load(job.outputs["winner"])
    test = list(priced_task.cases(read_table(tmp_path / "clean", "test")))
    stated = predictor.predict([case.query for case in test])
    table = read_table(job.outputs["answers"], "test")
    kept = [NumberAnswer.model_validate_json(text) for text in table["answer"].to_pylist()]
    assert [answer.coverage for answer in kept] == [0.9] * len(test)
    for one, other in zip(stated, kept, strict=True):
        assert priced_task.output_distance(one, other, card.targets) < 1e-6
        assert one.low < one.value < one.high
    # Large flats have more noise, and wider intervals.
    widths = np.array([answer.high - answer.low for answer in kept])
    is_large = np.array([case.query.size > 80 for case in test])
    assert widths[is_large].mean() > 1.5 * widths[~is_large].mean()
    assert read_bundle(tmp_path / "models" / "tuned" / "network")[0].profile == {}


def test_the_energy_of_the_fits_is_the_sum_of_their_stages(jobs: Mapping[float, Job]) -> None:
    job = jobs[1.0]
    assert board(job)["fit_energy_j"] == 7260
    metrics = json.loads(job.outputs["metrics"].read_text(encoding="utf-8"))
    assert metrics["fit_energy_j"] == 7260
    card = (job.outputs["cards"] / "model_card.md").read_text(encoding="utf-8")
    assert "| energy (Annex XI, 2 (e)) | 2.02\u202fWh of processors and memory" in card
    job.inputs["tune_report"].write_text('{"energy_j": null}')
    assert _fit_energy(job) is None


def test_few_validation_rows_give_answers_without_intervals(
    priced_task: PricedEvaluator, tmp_path: Path
) -> None:
    job = evaluated(tmp_path, 100)
    winner = board(job)["candidates"][0]
    assert winner["test"]["coverage"] is None and winner["test"]["pinball"] is None
    (answer,) = load(job.outputs["winner"]).predict([priced_task.Query(size=50.0)])
    assert answer.low is None and answer.coverage is None


def test_numbers_of_any_size_are_read(jobs: Mapping[float, Job]) -> None:
    for unit, rmse in ((1.0, r"1\d\d"), (1e-6, r"0\.0001\d\d")):
        job = jobs[unit]
        page = words(job.outputs["html"].read_text(encoding="utf-8"))
        assert re.search(rf"its RMSE is {rmse} on 60 test cases", page), page[:600]
        log = (job.root / ".state" / "journal.jsonl").read_text(encoding="utf-8")
        assert re.search(rf"test rmse {rmse}", log), log[-900:]


def test_the_registry_reads_numbers_of_any_size(jobs: Mapping[float, Job], tmp_path: Path) -> None:
    job = replace(served(jobs[1e6]), root=tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 7\n")
    names = ("params_file", "git_commit", "git_dirty", "dvc_lock")
    job = replace(job, tags={**TAGS, **dict.fromkeys(names, "params.yaml")})
    winner = board(job)["candidates"][0]
    cases = version_description.answered(job)
    assert set(cases.stats) == {"error", "target", "covered", "coverage"}
    tags = version_description.tags(job, winner, cases)
    assert float(tags["rmse"]) == pytest.approx(winner["test"]["rmse"], rel=1e-3)
    low, high = tags["rmse_interval"].split(" to ")
    assert float(low) < float(tags["rmse"]) < float(high)
    assert json.loads(tags["scale"]) and len(json.loads(tags["examples"])) == 5


def test_the_gain_over_the_baseline_does_not_depend_on_the_unit(
    jobs: Mapping[float, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = GateRules(GateParams(), NumberGates())
    monkeypatch.setattr(serve, "gate_rules", lambda *_: rules)
    monkeypatch.setattr(serve, "_champion_results", lambda *_: None)
    judged = []
    for job in jobs.values():
        tree = board(job)
        winner = tree["candidates"][0]
        cases = version_description.answered(served(job))
        gate, *_ = serve._judge(served(job), RegistryParams(), winner, tree, cases)
        assert gate.passed and gate.interval is not None
        assert gate.detail.startswith("relative gain of rmse on test")
        assert 0 < gate.interval[0] < gate.value < gate.interval[1] < 1  # type: ignore[operator]
        judged.append(gate.value)
    assert judged == pytest.approx([judged[0]] * 3)


def test_a_preflight_compares_numbers_of_any_size(jobs: Mapping[float, Job]) -> None:
    model = SimpleNamespace(examples=[{"size": 30.0}, {"size": 100.0}])
    version: Any = SimpleNamespace(version="1", bundle=jobs[1e6].outputs["winner"], model=model)
    assert examined(version) > 0


def test_a_service_answers_as_evaluate_did(
    jobs: Mapping[float, Job], priced_task: PricedEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = served(jobs[1e6])
    predictor = load(job.inputs["winner"])
    questions = read_table(job.inputs["answers"], "test", ["query", "answer"]).to_pylist()

    def ask(url: str, queries: list[Any], key: str) -> dict[str, Any]:
        asked = [priced_task.Query.model_validate(query) for query in queries]
        answers = predictor.predict(asked)
        return {"predictions": [json.loads(answer.model_dump_json()) for answer in answers]}

    monkeypatch.setattr(serve, "ask", ask)
    tested = serve._ask_questions(job, "", "", questions)
    assert tested.different == 0 and tested.largest < 1e-5
    predictor.intervals = None
    assert serve._ask_questions(job, "", "", questions).different == len(questions)


@pytest.mark.parametrize(
    "table",
    [
        "wide",
        None,
        [],
        {"coverage": 0.9},
        {"coverage": 0.9, "edges": [], "below": [-5.0], "above": [1.0], "rows": 3},
        {"coverage": 0.9, "edges": [], "below": [{}], "above": [1.0], "rows": 3},
    ],
)
def test_a_hostile_table_of_a_card_is_refused(
    priced_task: PricedEvaluator, tmp_path: Path, table: Any
) -> None:
    clean_rows(tmp_path, flats(200))
    save_baseline(tmp_path, "classical", tmp_path / "bundle")
    add_to_profile(tmp_path / "bundle", {KEY: table})
    with pytest.raises(BundleError, match="has intervals that cannot be used"):
        load(tmp_path / "bundle")
    with pytest.raises(BundleError, match="has intervals that cannot be used"):
        first_answers(str(tmp_path / "bundle"), None, None, ['{"size": 50.0}'])
