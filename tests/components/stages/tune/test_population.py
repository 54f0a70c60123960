"""Population based training: who goes on from whom, with a real Ray and members that take no time, and one small fit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from stage_runner import TEXT, StageRunner

from components.core.job import Job
from components.orchestration.pipeline_params import section_model
from components.stages.tune.params import TuneParams
from components.stages.tune.population import Population, inherit
from components.stages.tune.search import search
from components.stages.tune.search_report import account
from components.stages.tune.searchers import asker, draw
from components.stages.tune.study import MonitoredMetric, Study, Trial
from components.training.fit_config import FitConfig
from components.training.loop import fit
from components.training.params import FitParams
from tests.components.small_ray import small_ray

Report = Callable[[Mapping[str, float]], None]
WATCHED = MonitoredMetric("validation_f", "max")
SPACE = {
    "learning_rate": {"loguniform": [0.001, 1.0]},
    "momentum": {"choice": [0.0, 0.5, 0.7, 0.9]},
    "batch_size": {"choice": [32, 64]},
}
KNOBS = {"space": SPACE, "trials": 8, "epochs": 4, "perturb_epochs": 1, "scheduler": "pbt"}
TRAIN = section_model("train", TEXT).model_validate({"architecture": "textcnn"})


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of two CPUs of our own."""
    with small_ray():
        yield


def population(**knobs: Any) -> Population:
    """Eight members."""
    return Population(TuneParams.model_validate({**KNOBS, **knobs}), TRAIN, 7, WATCHED)


def gained(rate: float, epoch: int) -> float:
    """By an epoch, from 0: the best rate falls from 1 by a tenth of an order of magnitude each."""
    return math.exp(-2 * abs(math.log10(rate) + 0.1 * epoch))


def climber(fails: Sequence[int] = ()) -> Callable[[FitConfig, Report], None]:
    """A fit whose figure is the sum of its epochs' learning rates, and whose checkpoint is the curve."""

    def climb(spec: FitConfig, report: Report) -> None:
        if int(spec.state.name) in fails:
            raise ValueError("no")
        assert spec.until is not None
        kept = sorted((spec.state / "checkpoints").glob("step-*.pt"))
        curve = json.loads(kept[-1].read_text()) if kept else []
        for row in curve:
            report(row)
        (spec.state / "checkpoints").mkdir(exist_ok=True)
        for epoch in range(len(curve) + 1, spec.until + 1):
            curve.append(
                {
                    "epoch": float(epoch),
                    "validation_f": (curve[-1]["validation_f"] if curve else 0.0)
                    + spec.params.learning_rate,
                }
            )
            (spec.state / "checkpoints" / f"step-{epoch:09d}.pt").write_text(json.dumps(curve))
            with (spec.state.parents[3] / "log").open("a") as stream:
                stream.write(f"{int(spec.state.name)} {epoch}\n")
            report(curve[-1])
        (spec.state / "best.safetensors").write_text(spec.state.name)
        (spec.state / "fitted.json").write_text("{}")

    return climb  # made here, so that Ray ships its code


def run(root: Path, fails: Sequence[int] = (), **knobs: Any) -> Study:
    """A search of these members."""
    (root / "tokens").mkdir(exist_ok=True, parents=True)
    (root / "tokens" / "manifest.json").write_text("a")
    each = population(**knobs)
    study = Study(
        Job(
            "tune",
            TEXT,
            7,
            root,
            each.params,
            {"train": TRAIN},
            {"tokens": root / "tokens"},
            {},
            root / "tune" / "key",
        )
    )

    def spec_of(values: dict[str, Any], state: Path) -> FitConfig:
        return FitConfig(TEXT, root, "textcnn", {}, FitParams(**values), {}, 7, state)

    search(
        study,
        asker(each.params, TRAIN, 7, WATCHED),
        spec_of,
        WATCHED,
        each.params,
        climber(fails),
        each,
    )
    return study


def test_the_worst_go_on_from_the_best_and_a_killed_search_comes_to_the_same(
    tmp_path: Path, cluster: None
) -> None:
    # when a population learns
    study, each = run(tmp_path / "whole"), population()
    trials = [study.trials[number] for number in range(32)]
    # then each stretch took its epoch once, and its figure is that of its parent and what it gained
    log = (tmp_path / "whole" / "log").read_text().splitlines()
    assert sorted(log) == sorted(f"{number} {number // 8 + 1}" for number in range(32))
    parents = each.lineage(trials)
    for trial in trials[8:]:
        (row,), (before,) = trial.rows, trials[parents[trial.number] or 0].rows
        assert trial.outcome == "finished"
        assert row["epoch"] == trial.number // 8 + 1
        assert row["validation_f"] == pytest.approx(
            before["validation_f"] + trial.values["learning_rate"]
        )
    # and of the states the last generation's are left, with the best one's weights
    assert {int(path.parent.name) for path in study.state.glob("trials/*/best.safetensors")} == set(
        range(24, 32)
    )
    assert "PBT: 8 members in 4 stretches" in study.journal.path.read_text()
    told = account(trials, each.params, WATCHED, "trials", each)
    assert [rung["stopped"] for rung in told["rungs"]] == [2, 2, 2, 0]
    assert [
        (rung["epoch"], rung["reached"], rung["went_on"], rung["finished"])
        for rung in told["rungs"]
    ][-2:] == [(3, 8, 6, 0), (4, 8, 0, 8)]
    assert {row["parent"] for row in told["trials"][:8]} == {None}
    assert sum(row["parent"] != row["trial"] - 8 for row in told["trials"][8:]) == 6

    # when a search is cut in the midst of a generation, and the same command is given again
    run(tmp_path / "cut", total_epochs=20)
    again = run(tmp_path / "cut")
    # then it comes to the same, and what had ended was not run again
    assert {number: (trial.values, trial.rows) for number, trial in again.trials.items()} == {
        trial.number: (trial.values, trial.rows) for trial in trials
    }
    cut = (tmp_path / "cut" / "log").read_text().splitlines()
    assert len(cut) == len(set(cut)) == 32


def test_members_that_fail_are_replaced_and_a_population_that_fails_ends(
    tmp_path: Path, cluster: None
) -> None:
    # given a population of which three fail in the first stretch, and all in the third of four
    fails = (0, 1, 2, 8, 9, 10, 11)
    study, each = run(tmp_path, fails, trials=4), population(trials=4)
    # then the one that is left is gone on from, and after the third nobody is
    assert {number: trial.outcome for number, trial in sorted(study.trials.items())} == {
        number: "failed" if number in fails else "finished" for number in range(12)
    }
    trials = list(study.trials.values())
    assert [each.lineage(trials)[number] for number in range(4, 8)] == [3, 3, 3, 3]
    assert [trial.number for trial in each.candidates(trials)] == [3, 4, 5, 6, 7]
    assert each.lost(study.trials)
    assert not each.lost({number: study.trials[number] for number in range(8)})
    # and asked again, nothing is run
    before = (tmp_path / "log").read_text()
    assert sorted(run(tmp_path, trials=4).trials) == list(range(12))
    assert (tmp_path / "log").read_text() == before


@pytest.mark.parametrize("seed", range(5))
def test_a_population_follows_a_best_rate_that_changes(seed: int) -> None:
    # given a task whose best learning rate falls a thousandfold in 30 epochs
    each = Population(population(epochs=30).params, TRAIN, seed, WATCHED)
    first = [draw(each.params.space, TRAIN, seed, number) for number in range(8)]
    # when members go on from others, in figures alone
    trials: dict[int, Trial] = {}
    for number in range(each.params.numbers):
        parent, values = (
            (each.born(number, trials) or (0, {})) if number >= 8 else (None, first[number])
        )
        figure = gained(values["learning_rate"], number // 8) + (
            0.0 if parent is None else trials[parent].rows[-1]["validation_f"]
        )
        trials[number] = Trial(
            number, values, [{"epoch": number // 8 + 1.0, "validation_f": figure}], "finished"
        )
    # then the best of them ends better than it would had each been left to itself
    alone = [sum(gained(values["learning_rate"], epoch) for epoch in range(30)) for values in first]
    assert max(trial.rows[-1]["validation_f"] for trial in trials.values()) > 1.2 * max(alone)


def test_values_stay_in_the_space_and_what_cannot_change_is_the_donors() -> None:
    each = population()
    values: list[dict[str, Any]] = [
        {"learning_rate": 0.9, "momentum": 0.0, "batch_size": 64},
        {"learning_rate": 0.9, "momentum": 0.9, "batch_size": 32},
    ]
    trials = {
        number: Trial(
            number, values[number % 2], [{"epoch": 1.0, "validation_f": -number}], "finished"
        )
        for number in range(8)
    }
    seen = set()
    for seed in range(200):
        parent, new = Population(each.params, TRAIN, seed, WATCHED).born(15, trials) or (9, {})
        assert parent in (0, 1)
        assert new["batch_size"] == trials[parent].values["batch_size"]
        assert 0.001 <= new["learning_rate"] <= 1.0
        assert (new["momentum"] == 0.0) == (parent == 0)
        seen.add((new["momentum"], round(new["learning_rate"], 6) in (0.72, 1.0)))
    assert seen >= {(0.0, True), (0.0, False), (0.9, True), (0.7, True)}
    assert each.born(8, trials) == (0, trials[0].values)
    assert each.born(15, trials) == each.born(15, trials)
    assert not each.ready(15, {**trials, 3: Trial(3, {})})


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        (
            {"searcher": "grid", "space": {"learning_rate": {"choice": [0.1, 0.2]}}},
            "set searcher to random, not grid",
        ),
        ({"trials": 1}, "needs two members"),
        ({"perturb_epochs": 4}, "two stretches"),
        ({"space": {"batch_size": {"choice": [32, 64]}}}, "may change while a net learns"),
    ],
)
def test_what_makes_no_population_is_refused(knobs: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        population(**knobs)


def test_a_population_is_another_study_and_a_trial_more_of_the_rest_is_not() -> None:
    assert "trials" not in population().params.budget
    assert "trials" in TuneParams.model_validate({"space": SPACE}).budget


def test_a_fit_goes_on_from_anothers_end_with_values_of_its_own(
    reviews: StageRunner, tmp_path: Path
) -> None:
    from dataclasses import replace

    import torch

    # given a fit of two epochs that ended after one
    knobs = {"epochs": 2, "optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.1}
    first = fit(replace(reviews.spec(tmp_path / "a", **knobs), until=1))
    assert len(first.curve) == 1
    # when two others go on from it, one as it was, one with other values
    ends = {}
    for name, rate, momentum in (("same", 5e-3, 0.5), ("other", 5e-2, 0.9)):
        inherit(tmp_path / "a", tmp_path / name)
        fit(
            replace(
                reviews.spec(
                    tmp_path / name, **knobs | {"momentum": momentum, "learning_rate": rate}
                ),
                until=2,
            )
        )
        ends[name] = torch.load(
            sorted((tmp_path / name / "checkpoints").glob("*.pt"))[-1], weights_only=True
        )
    # then the first is where a fit of two epochs ends, and the second has its own values
    whole = fit(reviews.spec(tmp_path / "b", **knobs))
    assert ends["same"]["position"]["curve"] == whole.curve
    assert ends["other"]["position"]["curve"][:1] == first.curve
    assert ends["other"]["position"]["curve"] != whole.curve
    assert {
        name: end["optimisers"]["all"]["param_groups"][0]["momentum"] for name, end in ends.items()
    } == {"same": 0.5, "other": 0.9}
    assert np.isfinite(ends["other"]["position"]["curve"][1]["train_loss"])
