"""A task with a number as target goes through evaluate: no classes, no right answers, smaller is better."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel

from components.core.bundles import CARD
from components.stages.evaluate import candidates, leakage, plots, stage
from components.stages.evaluate.answer_costs import measure_costs
from components.stages.evaluate.candidates import CandidateResult, measure_candidate
from components.stages.evaluate.metric_scale import MetricScale
from components.stages.evaluate.params import EvaluateParams
from components.stages.evaluate.report import ReportData, ShownCase, WorstCases, write_report
from components.stages.evaluate.report_data import _compression, slices
from components.tasks import base
from components.tasks.base import (
    Case,
    CaseStats,
    Metric,
    ReportPanel,
    ReportSection,
    TargetInfo,
    WorstAnswer,
    WorstAnswers,
)
from tests.components.stages.evaluate.test_report import HOSTILE, Page, words

PARAMS = EvaluateParams(resamples=100, latency_queries=20, throughput_batch=8)


class Query(BaseModel):
    """The size of a flat, m²."""

    size: float


class Price(BaseModel):
    """A number between two bounds."""

    value: float
    low: float
    high: float


class ErrorMetric:
    """A mean of errors; 0 is best."""

    goal: Literal["min", "max"] = "min"
    is_share = False

    def __init__(self, name: str, title: str, power: int) -> None:
        self.name = name
        self.title = title
        self.power = power

    def example_stats(self, answer: Any, truth: Any) -> Mapping[str, Any]:
        """Return the error."""
        return {"error": abs(answer.value - truth)}

    def value(self, units: Mapping[str, NDArray[Any]]) -> float:
        """Return the power mean of the errors (n,)."""
        mean = np.mean(units["error"] ** self.power)
        return float(mean ** (1 / self.power))


class PriceReport:
    """What the report shows of prices."""

    columns: Sequence[str] = ("rmse", "mae")

    def plot_rows(
        self, answers: Sequence[Any], cases: Sequence[Case[Any]]
    ) -> Sequence[tuple[str, str]]:
        """Return truth and answer as texts."""
        pairs = zip(answers, cases, strict=True)
        return [(f"{case.truth:.2f}", f"{answer.value:.2f}") for answer, case in pairs]

    def winner_panels(
        self, answers: Sequence[Any], cases: Sequence[Case[Any]], targets: TargetInfo
    ) -> Sequence[ReportPanel]:
        """Return a panel whose texts are those of the data."""
        return [ReportPanel(f"Residuals of {targets['unit']}", HOSTILE, HOSTILE)]

    def confidence_section(
        self, table: Mapping[str, Any], answers: Sequence[Any], cases: Sequence[Case[Any]]
    ) -> ReportSection | None:
        """Return none: prices state no confidence."""
        assert not table
        return None

    def data_panels(self, manifest: Mapping[str, Any]) -> Sequence[ReportPanel]:
        """Return none."""
        return []

    def data_details(self, targets: TargetInfo) -> Sequence[tuple[str, str]]:
        """Return the unit."""
        return [("unit", targets["unit"])]

    def worst_answers(
        self, answers: Sequence[Any], cases: Sequence[Case[Any]], count: int
    ) -> WorstAnswers:
        """Return the largest errors."""
        pairs = list(zip(answers, cases, strict=True))
        pairs.sort(key=lambda pair: -abs(pair[0].value - pair[1].truth))
        worst = [
            WorstAnswer(case, f"is {case.truth:.1f}, was estimated as <{answer.value:.1f}>")
            for answer, case in pairs[:count]
        ]
        return WorstAnswers("Its largest errors", "In thousands.", worst)


RMSE: Metric = ErrorMetric("rmse", "RMSE", 2)
MAE: Metric = ErrorMetric("mae", "mean error", 1)


class PriceEvaluator:
    """The part of the facet evaluator.py that evaluate uses."""

    metrics = (RMSE, MAE)
    report_metric = RMSE
    report: base.TaskReport = PriceReport()

    def confidence(self, answer: Any) -> None:
        """Return None: a number states no probability."""
        return

    def case_stats(self, answers: Sequence[Any], truths: Sequence[Any]) -> CaseStats:
        """Return the errors."""
        pairs = zip(answers, truths, strict=True)
        return {"error": [answer.value - truth for answer, truth in pairs]}

    def show(self, case: Case[Any]) -> str:
        """Return the size."""
        return f"{case.query.size:.0f} m²"


EVALUATOR: Any = PriceEvaluator()


class Prices:
    """A model whose errors have a size of its own."""

    def __init__(self, bundle: Path) -> None:
        content = json.loads((bundle / CARD).read_text())
        self.error = content["error"]
        self.card = SimpleNamespace(task="price", runtime="numpy", **content)

    def predict(self, queries: Sequence[Any]) -> list[Price]:
        """Return prices that are too high by a share of the size."""
        values = [query.size * (3 + self.error) for query in queries]
        return [Price(value=value, low=value - 9, high=value + 9) for value in values]

    def warm(self, query: Any) -> None:
        """Do nothing."""


def cases(split: str, count: int) -> list[Case[Any]]:
    """Flats of 20 m² and more, each at 3,000 a m²."""
    result = []
    for number in range(count):
        size = 20.0 + number
        kind = "small" if number < count / 2 else "large"
        result.append(Case(f"{split}-{number:03d}", Query(size=size), 3 * size, {"size": kind}))
    return result


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, CandidateResult]:
    """The results of three candidates; the error of the first is the smallest."""
    monkeypatch.setattr(base, "evaluator", lambda task: EVALUATOR)
    monkeypatch.setattr(candidates, "load", Prices)
    measured = {}
    for name, error, origin in (
        ("classical", 0.18, ["train"]),
        ("trained", 0.1, ["train"]),
        ("int8", 0.15, ["train", "quantize"]),
        ("hopeless", 3.0, ["guess"]),
    ):
        bundle = tmp_path / name
        bundle.mkdir()
        content = {"title": name, "origin": origin, "error": error}
        (bundle / CARD).write_text(json.dumps(content))
        (bundle / "arrays.safetensors").write_bytes(b"0" * 100)
        measured[name] = measure_candidate(
            name, bundle, name, cases("validation", 30), cases("test", 40), PARAMS, seed=7
        )
    predictors = {name: result.predictor for name, result in measured.items()}
    queries = [case.query for case in cases("validation", 30)]
    for name, costs in measure_costs(predictors, queries, PARAMS).items():
        measured[name].row.update(costs, parameters=5, load_ms=1.5, peak_memory_bytes=None)
    return measured


def job(folder: Path) -> Any:
    """The part of a job that the leaderboard needs."""
    return SimpleNamespace(params=PARAMS, seed=7, task="price", root=folder)


def test_the_smallest_error_wins_and_the_board_begins_with_it(
    results: dict[str, CandidateResult], tmp_path: Path
) -> None:
    ranked = stage._ranked_rows(job(tmp_path), RMSE, results)
    assert [row["name"] for row in ranked] == ["trained", "int8", "classical", "hopeless"]
    low, high = ranked[0]["over_baseline"]
    assert low <= high < 0
    assert ranked[0]["test"]["rmse"] == pytest.approx(
        0.1 * math.sqrt(np.mean([(20 + number) ** 2 for number in range(40)]))
    )


def test_answers_and_metrics_have_the_names_of_the_task(
    results: dict[str, CandidateResult], tmp_path: Path
) -> None:
    test = cases("test", 40)
    answers = results["trained"].test_answers
    table = stage._answers(EVALUATOR, answers, test)
    assert table.column_names == ["id", "query", "truth", "answer", "error", "slices"]
    assert table["error"][0].as_py() == pytest.approx(2.0)
    winner = stage._ranked_rows(job(tmp_path), RMSE, results)[0]
    metrics = stage._metrics(winner, "rmse", 0, {"naive": 1.5})
    assert metrics["rmse_low"] <= metrics["rmse"] <= metrics["rmse_high"]
    assert metrics["naive_split_rmse"] == 1.5
    assert not [name for name in metrics if "accuracy" in name]
    assert stage._abstention(EVALUATOR, answers, test) == {}
    csv = stage._plot_csv(EVALUATOR.report.plot_rows(answers, test)).splitlines()
    assert csv[:2] == ["actual,predicted", '"60.00","62.00"']


def test_the_naive_claim_is_of_the_report_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = cases("test", 4)
    evaluator = SimpleNamespace(cases=lambda rows: test, report_metric=RMSE)
    monkeypatch.setattr(base, "evaluator", lambda task: evaluator)
    monkeypatch.setattr(leakage, "_naive_rows", lambda *_: None)
    monkeypatch.setattr(leakage, "_random_split", lambda *_: (None, None, None))
    monkeypatch.setattr(leakage, "_rows_in_train", lambda *_: 3)
    (tmp_path / CARD).write_text(json.dumps({"error": 0.1}))
    monkeypatch.setattr(leakage, "fit_baseline", lambda *_: Prices(tmp_path))
    claim = leakage.naive_claim(job(tmp_path), {"unit": "€"}, 2.5, {})
    squares = [(0.1 * case.query.size) ** 2 for case in test]
    assert claim["naive"] == pytest.approx(math.sqrt(np.mean(squares)))
    assert claim["honest"] == 2.5


def page(results: dict[str, CandidateResult], folder: Path) -> str:
    """The report of the four candidates."""
    test = cases("test", 40)
    rows = stage._ranked_rows(job(folder), RMSE, results)
    answers = results["trained"].test_answers
    worst = EVALUATOR.report.worst_answers(answers, test, 3)
    data = ReportData(
        pipeline="flats",
        task="price",
        data_hash="ab" * 32,
        seed=7,
        deciding_metric=RMSE,
        report_metric=RMSE,
        metrics=[RMSE, MAE],
        leaderboard=rows,
        data_details=EVALUATOR.report.data_details({"unit": "€"}),
        test_cases=len(test),
        winner_panels=EVALUATOR.report.winner_panels(answers, test, {"unit": "€"}),
        slices=slices(PARAMS, EVALUATOR, answers, test, seed=7),
        worst=WorstCases(
            worst.title,
            worst.note,
            [ShownCase(EVALUATOR.show(answer.case), answer.verdict) for answer in worst.answers],
        ),
        leak={"honest": 8.2, "naive": 6.1, "leaked_rows": 3, "test_rows": 40, "is_split": True},
        compression=_compression(rows, "rmse"),
    )
    write_report(folder / "report.html", data)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_report_writes_numbers_and_turns_what_is_better(
    results: dict[str, CandidateResult], tmp_path: Path
) -> None:
    html = page(results, tmp_path)
    text = words(html)
    assert "its RMSE is 4.12 on 40 test cases" in text
    assert "It is better than the baseline classical, which reaches 7.41, by 3.29." in text
    assert re.search(r"interval of the difference is −3\.\d+ to −3\.\d+\.", text)
    assert "less is better for size, latency (p50) and RMSE" in text
    assert "would have changed the RMSE by −2.10: 3 of its 40 test rows" in text
    assert "−3.29change of test RMSE" in text
    assert text.index("size: large") < text.index("size: small")
    assert "points" not in text and "accuracy" not in text.lower()
    assert "on validation. Intervals are 95\u202f%." in text
    assert "Its largest errors" in text and "was estimated as &lt;" in text
    assert "unit€" in text
    seen = Page(html)
    assert "script" not in seen.tags and "img" not in seen.tags


def test_a_baseline_that_errs_less_is_said_to_be_better(
    results: dict[str, CandidateResult], tmp_path: Path
) -> None:
    worse = results["trained"].row
    worse["test"] = {**worse["test"], "rmse": 9.0}
    worse["test_interval"] = {**worse["test_interval"], "rmse": [8.0, 11.0]}
    text = words(page(results, tmp_path))
    assert "It is not better than the baseline classical, which reaches 7.41: +1.59." in text
    worse["test_interval"] = {**worse["test_interval"], "rmse": [7.0, 11.0]}
    text = words(page(results, tmp_path))
    assert "+1.59, a gap smaller than the uncertainty of this test set." in text


def test_axes_turn_so_that_better_is_right_and_above(
    results: dict[str, CandidateResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[tuple[tuple[float, float], tuple[float, float]]] = []

    def painted(name: str, height: float, margins: Any, paint: Any) -> str:
        from matplotlib.figure import Figure

        axes = Figure().add_axes((0, 0, 1, 1))
        paint(axes)
        limits.append((axes.get_xlim(), axes.get_ylim()))
        return ""

    monkeypatch.setattr(plots, "draw", painted)
    rows = stage._ranked_rows(job(tmp_path), RMSE, results)
    scale = MetricScale(RMSE)
    plots.leaderboard(rows, scale)
    left, right = limits[-1][0]
    assert left > rows[2]["test"]["rmse"] > rows[0]["test"]["rmse"] > right
    # The hopeless candidate is cut off.
    assert left < rows[3]["test"]["rmse"]
    plots.tradeoff(rows, scale, lambda row: row["size_bytes"], "size")
    bottom, top = limits[-1][1]
    assert bottom > rows[2]["test"]["rmse"] > rows[0]["test"]["rmse"] > top


@pytest.mark.parametrize(
    ("unit", "ticks"),
    [(1.0, ["5", "4"]), (1e-9, ["5e−9", "4e−9"]), (1e8, ["5e8", "4e8"]), (1e3, ["5,000", "4,000"])],
)
def test_ticks_and_values_of_any_size_fit_beside_the_axes(unit: float, ticks: list[str]) -> None:
    rows = [
        {"name": name, "test": {"rmse": unit * value}, "winner": name == "a"}
        for name, value in (("a", 3.21), ("b", 5.54))
    ]
    plot = plots.leaderboard(rows, MetricScale(RMSE))
    assert plot is not None
    texts = re.findall(r">([^<>\n]+)</text>", plot.svg)
    assert set(ticks) <= set(texts)
    assert MetricScale(RMSE).write(unit * 3.21) in texts
