"""The report's section on the search: what the scheduler did, which parameters mattered, and searches of which there is little to tell."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.stages.evaluate import search_plots
from components.stages.evaluate.importance import ENOUGH, importance
from components.stages.evaluate.report import ReportData, write_report
from tests.components.stages.evaluate.test_report import ACCURACY, Page, words

BARE = ReportData("p", "some_task", "", 0, ACCURACY, ACCURACY, [ACCURACY], [], watch="macro f1")


def searched(count: int, noise: float = 0.0) -> list[dict[str, Any]]:
    """Trials whose figure is made by the learning rate alone; the dropout of a net is there for its architecture only."""
    rng, rows = np.random.default_rng(3), list[dict[str, Any]]()
    for number in range(count):
        kind = ("textcnn", "transformer")[number % 2]
        rate = float(10 ** rng.uniform(-4, -2))
        params = {
            "architecture": kind,
            "learning_rate": rate,
            "batch_size": int(rng.choice([64, 128])),
            f"nets.{kind}.dropout": float(rng.uniform(0, 0.5)),
        }
        figure = (
            0.8 - 0.1 * abs(math.log10(rate) + 3) if not noise else float(rng.uniform(0, noise))
        )
        rows.append(
            {
                "trial": number,
                "params": params,
                "watch": figure,
                "epochs": 2,
                "status": "finished",
                "curve": [figure - 0.1, figure],
            }
        )
    return rows


def page(folder: Path, trials: list[dict[str, Any]], **search: Any) -> str:
    write_report(folder / "r.html", replace(BARE, trials=trials, search=search))
    return (folder / "r.html").read_text(encoding="utf-8")


def test_what_makes_the_figure_is_found() -> None:
    found = importance(searched(40))
    assert found is not None
    assert next(iter(found.shares)) == "learning_rate"
    assert found.shares["learning_rate"] > 0.8
    assert set(found.shares) == {
        "architecture",
        "learning_rate",
        "batch_size",
        "nets.textcnn.dropout",
        "nets.transformer.dropout",
    }
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.explained > 0.5


def test_what_is_chance_explains_nothing() -> None:
    found = importance(searched(40, noise=1.0))
    assert found is not None
    assert found.explained < 0.2


def test_few_trials_and_one_configuration_tell_nothing() -> None:
    assert importance(searched(ENOUGH - 1)) is None
    assert (
        importance(
            [{"params": {"learning_rate": 0.1}, "watch": number / 50} for number in range(30)]
        )
        is None
    )


def test_the_section_tells_all_of_it(tmp_path: Path) -> None:
    rungs = [
        {"epoch": 1, "reached": 31, "went_on": 12, "stopped": 18, "finished": 0, "failed": 1},
        {"epoch": 2, "reached": 12, "went_on": 0, "stopped": 0, "finished": 12, "failed": 0},
    ]
    html = page(
        tmp_path,
        searched(31),
        searcher="optuna",
        scheduler="asha",
        ended_by="time",
        forecast="ASHA: after epoch 1 about 15 of 31 go on",
        rungs=rungs,
    )
    text = words(html)
    assert (
        "31 trials, searcher optuna, scheduler asha; macro f1 on validation steers it. It was ended by its budget of time. Forecast: ASHA: after epoch 1 about 15 of 31 go on."
        in text
    )
    assert "<th>1</th><td>31</td><td>12</td><td>18</td><td>0</td><td>1</td>" in html
    assert "Share of each parameter" in text
    assert re.search("<text[^>]*>learning_rate</text>", html)
    assert re.search("<text[^>]*>textcnn.dropout</text>", html), "two nets have a dropout"
    assert re.search("<text[^>]*>not set</text>", html), (
        "a trial of one net has none of the other's"
    )
    assert len(Page(html).ids) == len(set(Page(html).ids))


def test_one_trial(tmp_path: Path) -> None:
    text = words(
        page(
            tmp_path,
            searched(1),
            searcher="random",
            scheduler="asha",
            forecast="1 trials < 2 x reduction factor 2: ASHA will stop little",
            rungs=[],
        )
    )
    assert "1 trial, searcher random" in text
    assert "ASHA will stop little" in text
    assert "1 trial with a figure: too few" in text
    assert "Parameters of the trials" not in text


def test_failed_trials_only_and_no_search(tmp_path: Path) -> None:
    failed = [
        {
            "trial": number,
            "params": {"learning_rate": number},
            "watch": None,
            "epochs": 0,
            "status": "failed",
            "curve": [],
        }
        for number in range(25)
    ]
    html = page(
        tmp_path,
        failed,
        rungs=[
            {"epoch": 0, "reached": 25, "went_on": 0, "stopped": 0, "finished": 0, "failed": 25}
        ],
    )
    assert "No trial has a figure: all of them failed." in html
    assert html.count(">failed</span>") == 25
    assert "<svg" not in html
    assert "No search was recorded." in page(tmp_path, [])


def test_axes_hold_numbers_names_and_lists_of_any_script() -> None:
    rows = [
        {"params": {"kernels": kernels, "损失": name, "flag": flag, "wide": wide}, "watch": wide}
        for kernels, name, flag, wide in (
            ([1, 2], "交叉熵", True, 1e-4),
            ([1], "焦点", False, 1.0),
            (None, "焦点", True, 0.1),
        )
    ]
    rows[2]["params"] = {
        key: value for key, value in rows[2]["params"].items() if value is not None
    }  # type: ignore[attr-defined]
    plot = search_plots.parallel(rows, "max", "f")
    assert plot is not None
    for said in ("交叉熵", "焦点", "[1, 2]", "True", "损失", "0.0001"):
        assert f">{said}</text>" in plot.svg
    places, ticks = search_plots._axis([1e-4, 1e-2, None, 1.0])
    assert places == [0, 0.5, None, 1]  # logarithmic
    assert ticks == [(0, "0.0001"), (0.5, "0.01"), (1, "1")]


def test_the_best_so_far_goes_the_right_way() -> None:
    rows = [{"curve": [3.0, 2.0]}, {"curve": []}, {"curve": [2.5, 1.0]}]
    down, up = search_plots.progress(rows, "min"), search_plots.progress(rows, "max")
    assert down is not None and up is not None
    assert down.svg != up.svg
    assert search_plots.progress([{"curve": []}, {}], "max") is None


def test_a_search_that_was_switched_off_is_named(tmp_path: Path) -> None:
    shown = page(tmp_path, [], skipped="tune.trials is 0")
    assert "No search: tune.trials is 0." in shown
    assert "No search was recorded" not in shown
