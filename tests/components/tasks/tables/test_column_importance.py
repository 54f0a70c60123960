"""Permutation importance and partial dependence of the columns of a table, and their panels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from components.core.svg import Plot
from components.tasks.shared.evaluator.tables.column_importance import (
    Columns,
    Values,
    answers_by_columns,
    partial_dependence,
    permutation_importance,
)
from components.tasks.shared.evaluator.tables.importance_panels import (
    dependence_panels,
    inspection_section,
)

RNG = np.random.default_rng(0)
ROWS = 500
COLUMNS: dict[str, list[Any]] = {
    "size": RNG.normal(70, 20, ROWS).tolist(),
    "noise": RNG.normal(0, 1, ROWS).tolist(),
    "城市": RNG.choice(["Bonn", "上海", "Oslo"], ROWS, p=[0.5, 0.3, 0.2]).tolist(),
    "same": [1.0] * ROWS,
    "room": [None, 1, 2, 3, 4] * (ROWS // 5),
}
CITIES = {"Bonn": 0.0, "上海": 250.0, "Oslo": 100.0}


class Model:
    """A known function of the columns, which counts the rows that it answers."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, columns: Columns) -> Sequence[float]:
        """Return 10 for each unit of size, an offset of the city and 50 for each room."""
        answers = []
        for size, city, room in zip(columns["size"], columns["城市"], columns["room"], strict=True):
            answers.append(10.0 * size + CITIES[city] + 50.0 * (room or 0))
        self.rows += len(answers)
        return answers


TRUTHS = Model()(COLUMNS)


def rmse(answers: Sequence[float], truths: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(np.subtract(answers, truths)))))


def value(answers: Sequence[float]) -> Mapping[str, Values]:
    return {"answer": np.array(answers)}


def test_columns_are_ranked_by_what_the_answers_depend_on() -> None:
    measured = permutation_importance(Model(), COLUMNS, TRUTHS, rmse, 7)
    growths = {column.name: column.growth for column in measured.columns}
    assert list(growths) == ["size", "城市", "room", "noise"]
    # Two independent values of one column differ by the root of twice its variance.
    assert growths["size"] == pytest.approx(10 * 20 * 2**0.5, rel=0.1)
    assert growths["noise"] == 0
    assert (measured.error, measured.rows, measured.unmeasured) == (0, 500, 0)
    for column in measured.columns:
        assert column.least <= column.growth <= column.largest


def test_equal_seeds_give_equal_importances() -> None:
    one = permutation_importance(Model(), COLUMNS, TRUTHS, rmse, 7)
    assert one == permutation_importance(Model(), COLUMNS, TRUTHS, rmse, 7)
    assert one != permutation_importance(Model(), COLUMNS, TRUTHS, rmse, 8)


def test_the_rows_that_are_answered_are_bounded() -> None:
    model = Model()
    many = {name: values * 100 for name, values in COLUMNS.items()}
    measured = permutation_importance(model, many, list(TRUTHS) * 100, rmse, 7)
    assert measured.rows == 500 and model.rows == 500 * (1 + 4 * 3)
    partial_dependence(model, many, "size", value, 7)
    assert model.rows == 500 * 13 + 60 * 12


def test_of_very_many_columns_the_first_are_measured() -> None:
    rows = 150
    columns = {f"c{number}": list(range(rows)) for number in range(300)}
    answered = []

    def predict(asked: Columns) -> Sequence[float]:
        answered.append(len(asked["c0"]))
        return asked["c0"]

    measured = permutation_importance(predict, columns, list(range(rows)), rmse, 7)
    assert (len(measured.columns), measured.unmeasured, measured.rows) == (100, 200, 20)
    assert sum(answered) <= 6_020
    assert measured.columns[0].name == "c0"


def test_a_curve_of_numbers_is_the_function() -> None:
    curve = partial_dependence(Model(), COLUMNS, "size", value, 7)
    assert curve is not None and curve.kind == "number"
    assert len(curve.values) == 12 and set(curve.values) <= set(COLUMNS["size"])
    slopes = np.diff(curve.outputs["answer"]) / np.diff(curve.values)
    assert slopes == pytest.approx(np.full(11, 10.0))


def test_a_curve_of_names_has_the_most_frequent_first() -> None:
    curve = partial_dependence(Model(), COLUMNS, "城市", value, 7)
    assert curve is not None and curve.kind == "name"
    assert curve.values == ["Bonn", "上海", "Oslo"]
    means = curve.outputs["answer"]
    assert means - means[0] == pytest.approx([0, 250, 100])


def test_texts_have_an_importance_but_no_curve() -> None:
    texts = {**COLUMNS, "note": [f"note {number % (ROWS - 9)} of a row" for number in range(ROWS)]}
    measured = permutation_importance(Model(), texts, TRUTHS, rmse, 7)
    assert "note" in [column.name for column in measured.columns]
    assert partial_dependence(Model(), texts, "note", value, 7) is None


def test_missing_values_are_no_points_of_a_curve() -> None:
    curve = partial_dependence(Model(), COLUMNS, "room", value, 7)
    assert curve is not None and curve.values == [1, 2, 3, 4]
    assert partial_dependence(Model(), COLUMNS, "same", value, 7) is None
    nothing = {**COLUMNS, "noise": [None] * ROWS}
    assert partial_dependence(Model(), nothing, "noise", value, 7) is None


def test_queries_are_made_of_rows() -> None:
    predict = answers_by_columns(lambda queries: [query["b"] for query in queries], dict)
    assert predict({"a": [1, 2], "b": ["x", None]}) == ["x", None]


def test_rows_are_answered_in_small_batches() -> None:
    sizes = []

    def predict(queries: Sequence[Any]) -> Sequence[Any]:
        sizes.append(len(queries))
        return [query["a"] for query in queries]

    rows = list(range(600))
    assert answers_by_columns(predict, dict)({"a": rows}) == rows
    assert sizes == [256, 256, 88]


def section(columns: Columns, outputs: Any = value, **options: Any) -> Any:
    return inspection_section(
        Model(),
        columns,
        TRUTHS,
        rmse,
        outputs,
        7,
        error_name="RMSE",
        output_name="answer",
        **options,
    )


def test_the_section_has_bars_and_a_curve_for_each_important_column() -> None:
    shown = section(COLUMNS)
    titles = [panel.title for panel in shown.panels]
    assert titles == [
        "Importance of the columns",
        "Answer by size",
        "Answer by 城市",
        "Answer by room",
    ]
    for panel in shown.panels:
        assert isinstance(panel.content, Plot)
        assert not re.search(r"nan|#[0-9a-f]{6}", panel.content.svg)
        assert len(panel.content.svg) < 30_000
    labels = [re.search('aria-label="([^"]+)"', panel.content.svg) for panel in shown.panels]
    assert len({label[1] for label in labels if label}) == 4


def test_names_of_columns_are_cut_and_escaped() -> None:
    name = "一个非常非常长的列名，用来检查图表的边距是否足够" * 3
    columns = {**COLUMNS, name: COLUMNS["noise"], "<b>&\u202e": COLUMNS["noise"]}
    svg = section(columns).panels[0].content.svg
    assert "一个非常非常长的列名，…" in svg
    assert "<b>" not in svg and "&lt;b&gt;&amp;\\u202e" in svg


def test_several_outputs_have_a_legend() -> None:
    def chances(answers: Sequence[float]) -> Mapping[str, Values]:
        shares = np.clip(np.array(answers) / 2000, 0, 1)
        return {"yes": shares, "no": 1 - shares}

    curve = section(COLUMNS, chances).panels[1].content
    assert curve.legend == [("s0", "yes"), ("s1", "no")]


def test_times_are_texts_on_an_axis_of_dates() -> None:
    days = np.datetime64("2020-01-01") + RNG.integers(0, 700, ROWS)
    columns = {**COLUMNS, "when": [f"{day} 10:30:00" for day in days]}
    columns["when"][:2] = [None, "2020-02-29"]
    curve = partial_dependence(Model(), columns, "when", value, 7)
    assert curve is not None and curve.kind == "time"
    assert len(curve.values) == 12 and list(curve.values) == sorted(curve.values)
    assert (np.diff(curve.numbers) > 86_400).all()
    (panel,) = dependence_panels([curve], "answer")
    assert panel.title == "Answer by when"
    assert isinstance(panel.content, Plot)
    assert len(re.findall(r">202[01]-\d\d-\d\d<", panel.content.svg)) == 4


@pytest.mark.parametrize("values", [["0001-01-01", "9999-12-31"], ["2020-01-01", "2020-01-02"]])
def test_any_date_is_drawn(values: list[str]) -> None:
    curve = partial_dependence(Model(), {**COLUMNS, "when": values * 250}, "when", value, 7)
    assert curve is not None
    (panel,) = dependence_panels([curve], "answer")
    assert isinstance(panel.content, Plot)


@pytest.mark.parametrize(
    "values", [["2020-13-01", "2020-01-01"], ["20200101", "20200102"], [True, False]]
)
def test_names_like_dates_are_names(values: list[Any]) -> None:
    curve = partial_dependence(Model(), {**COLUMNS, "code": values * 250}, "code", value, 7)
    assert curve is not None and curve.kind == "name"


def test_a_table_without_varied_columns_has_no_section() -> None:
    columns = {name: values[:1] * ROWS for name, values in COLUMNS.items()}
    assert section(columns) is None


def test_an_error_that_is_no_number_is_not_shown() -> None:
    measured = permutation_importance(Model(), COLUMNS, TRUTHS, lambda *_: float("nan"), 7)
    assert measured.columns == []
