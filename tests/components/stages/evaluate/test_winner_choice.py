"""The winner: budgets, then the metric on validation, then the cost; and costs are measured in turn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from components.core.energy import EnergyCounter
from components.core.errors import InputError
from components.core.files import to_json
from components.stages.evaluate import answer_costs
from components.stages.evaluate.answer_costs import measure_costs
from components.stages.evaluate.params import EvaluateParams
from components.stages.evaluate.winner_choice import choose_winner

CASES = 400


class MeanScore:
    """The mean of a score that each case has."""

    name, title, is_share = "score", "score", True

    def __init__(self, goal: str = "max") -> None:
        self.goal = goal

    def value(self, stats: Any) -> float:
        return float(stats["score"].mean())


def params(**choose: Any) -> EvaluateParams:
    return EvaluateParams.model_validate({"resamples": 200, "choose": choose})


def candidate(
    name: str, scores: NDArray[Any], cost: float, *, noise: float = 0.01, **more: Any
) -> tuple[dict[str, Any], NDArray[Any]]:
    """A row of the leaderboard, and the score of each validation case."""
    row = {
        "name": name,
        "validation": {"score": float(scores.mean())},
        "test": {"score": more.pop("test", 0.5)},
        "size_bytes": 1_000_000,
        "peak_memory_bytes": 100_000_000,
        "latency_ms": {"p50": 1.0, "p95": 2.0},
        "throughput_per_s": 100.0,
        "cpu_s_per_1000": {"weighted": [cost, cost - noise, cost + noise]},
    }
    return row | more, scores


def shares(right: int) -> NDArray[Any]:
    """Scores of the cases, the first of which are right."""
    return (np.arange(CASES) < right).astype(float)


def choose(candidates: Sequence[Any], rule: EvaluateParams, goal: str = "max") -> dict[str, Any]:
    """Choose among candidates; their rows by name, the winner under "winner"."""
    rows = [row for row, _ in candidates]
    stats = {row["name"]: {"score": scores} for row, scores in candidates}
    winner = choose_winner(rows, stats, MeanScore(goal), rule, 7)  # type: ignore[arg-type]
    return {row["name"]: row for row in rows} | {"winner": winner}


@pytest.mark.parametrize("turn", [1, -1])
def test_a_candidate_better_on_test_but_worse_on_validation_loses(turn: int) -> None:
    candidates = [
        candidate("lucky", shares(280), 0.1, test=0.99),
        candidate("honest", shares(320), 9.0, test=0.1),
    ]
    chosen = choose(candidates[::turn], params())
    assert chosen["winner"]["name"] == "honest"
    assert chosen["lucky"]["choice"]["status"] == "worse"
    assert "beyond noise" in chosen["lucky"]["choice"]["reason"]


@pytest.mark.parametrize("turn", [1, -1])
def test_of_equals_the_cheaper_wins(turn: int) -> None:
    candidates = [candidate("dear", shares(320), 2.0), candidate("cheap", shares(320), 1.0)]
    chosen = choose(candidates[::turn], params())
    assert chosen["winner"]["name"] == "cheap"
    assert chosen["dear"]["choice"]["status"] == "as good"
    assert chosen["dear"]["choice"]["reason"] == "2 times the cost of cheap"
    assert chosen["dear"]["choice"]["dominated_by"] == "cheap"
    assert chosen["cheap"]["choice"]["dominated_by"] is None


def test_a_smaller_candidate_is_not_dominated_by_a_cheaper_one() -> None:
    for size, dominated_by in ((960_000, "cheap"), (900_000, None)):
        candidates = [
            candidate("cheap", shares(300), 1.0),
            candidate("small", shares(300), 2.0, size_bytes=size),
        ]
        rows = choose(candidates, params())
        assert rows["small"]["choice"]["dominated_by"] == dominated_by


def test_a_figure_that_should_be_small_is_chosen_small() -> None:
    candidates = [candidate("a", shares(320), 1.0), candidate("b", shares(280), 1.0)]
    assert choose(candidates, params(), "min")["winner"]["name"] == "b"


def test_within_noise_a_cheaper_one_wins_only_up_to_max_drop() -> None:
    # One case of 400 is 0.3% of the best value.
    candidates = [candidate("best", shares(320), 2.0), candidate("cheap", shares(319), 1.0)]
    strict = choose(candidates, params(max_drop=0.002))
    assert strict["winner"]["name"] == "best"
    assert "though within noise" in strict["cheap"]["choice"]["reason"]
    assert strict["best"]["choice"]["dominated_by"] is None
    assert choose(candidates, params(max_drop=0.004))["winner"]["name"] == "cheap"


def test_beyond_noise_max_drop_does_not_help() -> None:
    candidates = [candidate("best", shares(320), 2.0), candidate("cheap", shares(280), 1.0)]
    assert choose(candidates, params(max_drop=0.5))["winner"]["name"] == "best"


def test_costs_that_cannot_be_told_apart_do_not_decide() -> None:
    candidates = [
        candidate("better", shares(320), 2.0, noise=0.6),
        candidate("cheaper", shares(319), 1.9, noise=0.6),
    ]
    assert choose(candidates, params(max_drop=0.01))["winner"]["name"] == "better"


@pytest.mark.parametrize(
    ("budget", "big"),
    [
        ({"size_mb": 4}, {"size_bytes": 5_000_000}),
        ({"memory_mb": 300}, {"peak_memory_bytes": 301_000_000}),
        # Memory that could not be measured may be any.
        ({"memory_mb": 300}, {"peak_memory_bytes": None}),
        ({"latency_p95_ms": 10}, {"latency_ms": {"p50": 1.0, "p95": 11.0}}),
        ({"throughput_per_s": 50}, {"throughput_per_s": 49.0}),
    ],
)
def test_a_candidate_over_a_budget_is_out(budget: dict[str, Any], big: dict[str, Any]) -> None:
    candidates = [candidate("big", shares(390), 1.0, **big), candidate("small", shares(280), 1.0)]
    chosen = choose(candidates, params(**budget))
    assert chosen["winner"]["name"] == "small"
    assert chosen["big"]["choice"]["status"] == "over budget"
    assert next(iter(budget)) in chosen["big"]["choice"]["reason"]


def test_budgets_that_nobody_keeps_are_refused_with_what_was_reached() -> None:
    candidates = [candidate("a", shares(320), 1.0), candidate("b", shares(280), 1.0)]
    with pytest.raises(InputError, match=r"the smallest size 1\.00 MB") as refused:
        choose(candidates, params(size_mb=0.5))
    assert "size_mb" in str(refused.value.remedy)


@pytest.mark.parametrize(("peak", "shown"), [(301_000_000, "301 MB"), (None, "unknown")])
def test_memory_is_named_where_no_candidate_keeps_its_budget(peak: int | None, shown: str) -> None:
    candidates = [candidate(name, shares(300), 1.0, peak_memory_bytes=peak) for name in ("a", "b")]
    with pytest.raises(InputError, match=f"the least memory {shown}") as refused:
        choose(candidates, params(memory_mb=300))
    assert refused.value.remedy == "loosen memory_mb"


def test_a_metric_that_is_not_defined_still_has_a_winner_and_no_interval() -> None:
    undefined = np.full(CASES, np.nan)
    candidates = [candidate("a", undefined, 2.0), candidate("b", undefined, 1.0)]
    for row, _ in candidates:
        row["validation"]["score"] = None
    chosen = choose(candidates, params())
    assert chosen["winner"]["name"] == "b"
    assert chosen["a"]["choice"]["difference"] is None
    assert chosen["a"]["choice"]["status"] == "worse"
    assert chosen["a"]["choice"]["reason"] == "the metric is not defined on validation"
    # JSON has no NaN.
    to_json({name: row["choice"] for name, row in chosen.items()})


class Waiter:
    """A model that computes for a while for each query."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asked: list[int] = []

    def warm(self, query: Any) -> None:
        self.asked.clear()

    def predict(self, queries: Sequence[Any]) -> Sequence[Any]:
        self.asked.append(len(queries))
        end = time.process_time() + self.seconds * len(queries)
        while time.process_time() < end:
            pass
        return queries


def test_costs_are_cpu_seconds_and_all_are_asked_the_same() -> None:
    rule = EvaluateParams(latency_queries=20, throughput_batch=8)
    models = {"one": Waiter(1e-4), "two": Waiter(3e-4)}
    costs = measure_costs(models, list(range(50)), rule)  # type: ignore[arg-type]
    assert models["one"].asked == models["two"].asked
    assert {1, 8} == set(models["one"].asked)
    for name, seconds in (("one", 0.1), ("two", 0.3)):
        median, low, high = costs[name]["cpu_s_per_1000"]["weighted"]
        assert low <= median <= high
        assert median == pytest.approx(seconds, rel=0.5)
        assert 0 < costs[name]["latency_ms"]["p50"] <= costs[name]["latency_ms"]["p95"]
    assert costs["one"]["throughput_per_s"] > costs["two"]["throughput_per_s"]


def test_energy_of_answers_is_read_in_each_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    for name, text in (("name", "package-0"), ("max_energy_range_uj", "1000000")):
        (zone / name).write_text(text, encoding="ascii")
    counter = zone / "energy_uj"
    counter.write_text("0", encoding="ascii")

    class Burner(Waiter):
        """Takes 2 mJ for each answer, so that the counter wraps around now and then."""

        def predict(self, queries: Sequence[Any]) -> Sequence[Any]:
            shown = int(counter.read_text(encoding="ascii"))
            counter.write_text(str((shown + 2000 * len(queries)) % 1_000_000), encoding="ascii")
            return super().predict(queries)

    rule = EvaluateParams(latency_queries=20, throughput_batch=8)
    models = {"one": Burner(1e-5)}
    monkeypatch.setattr(answer_costs, "EnergyCounter", lambda: EnergyCounter(tmp_path))
    costs = measure_costs(models, list(range(50)), rule)["one"]  # type: ignore[arg-type]
    for kind in ("single", "batch", "weighted"):
        assert costs["energy_j_per_1000"][kind] == pytest.approx([2, 2, 2])
    monkeypatch.setattr(answer_costs, "EnergyCounter", lambda: EnergyCounter(tmp_path / "none"))
    costs = measure_costs(models, list(range(50)), rule)["one"]  # type: ignore[arg-type]
    assert costs["energy_j_per_1000"] is None


def test_fewer_queries_than_a_batch_are_one_batch() -> None:
    rule = EvaluateParams(latency_queries=20, throughput_batch=64)
    model = Waiter(1e-5)
    assert measure_costs({"one": model}, [1, 2, 3], rule)["one"]["throughput_per_s"] > 0  # type: ignore[dict-item]
    assert set(model.asked) == {1, 3}
