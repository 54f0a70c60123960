"""The model card and the data card: equal in both languages, and no value is markup."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from components.core.cards import Card
from components.stages.evaluate.metric_scale import MetricScale
from components.stages.evaluate.model_cards import CardContent, write_cards
from components.stages.evaluate.params import CardParams
from components.stages.evaluate.report_data import slices_of_weak_results
from tests.components.stages.evaluate.test_report import ACCURACY, reviews

HOSTILE = "| [x](javascript:alert(1)) <script>*b*</script>\n# heading `code`"
NAMES = ("model_card.md", "model_card.zh.md", "data_card.md", "data_card.zh.md")
MODEL = Card(
    task="text_classification",
    runtime="onnx",
    architecture="textcnn",
    config={},
    targets={"classes": ["差评", "好评"]},
    seed=7,
    data_hash="a" * 64,
    params_hash="b" * 64,
    origin=["tune", "int8"],
    versions={"torch": "2.13.0"},
)


def content(statements: CardParams | None = None) -> CardContent:
    """The cards of the default pipeline."""
    report = reviews()
    board = [
        {**row, "parameters": 1234, "load_ms": None, "peak_memory_bytes": 300_000_000}
        for row in report.leaderboard
    ]
    return CardContent(
        report=replace(report, leaderboard=board),
        statements=statements or CardParams(),
        model=MODEL,
        files=[{"name": "neg.txt", "rows": 9012, "sha256": "c" * 64}],
        splits={"train": 13856, "validation": 1732, "test": 1732},
        languages=[{"column": "text", "language": "zh", "rows": 17_321}],
        columns=[{"name": "text", "role": "input", "kind": "Text", "required": True}],
        outputs=["label", "probability"],
        split_by="stratified",
        leaked=0,
        longest=128.0,
    )


def written(folder: Path, one: CardContent) -> dict[str, str]:
    """The four files."""
    write_cards(folder, one)
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    return {name: (folder / name).read_text(encoding="utf-8") for name in NAMES}


def tables(text: str) -> list[list[int]]:
    """The number of cells in each row of each table, as a reader of Markdown sees them."""
    html = MarkdownIt("commonmark").enable("table").render(text)
    found = re.findall(r"<table>.*?</table>", html, re.DOTALL)
    return [[row.count("<t") - 1 for row in table.split("<tr>")[1:]] for table in found]


def test_what_nobody_states_is_unknown(tmp_path: Path) -> None:
    cards = written(tmp_path / "cards", content())
    assert "| license of the model | unknown |" in cards["model_card.md"]
    assert "| 模型的许可证 | 未知 |" in cards["model_card.zh.md"]
    assert "| load time | unknown |" in cards["model_card.md"]
    assert "| energy (Annex XI, 2 (e)) | unknown |" in cards["model_card.md"]
    assert "| 每 1,000 条回答的能耗 | 未知 |" in cards["model_card.zh.md"]
    assert "| license | unknown |" in cards["data_card.md"]
    assert "未知" not in cards["model_card.md"] and "unknown" not in cards["model_card.zh.md"]


def test_statements_and_results_are_in_the_cards(tmp_path: Path) -> None:
    said = CardParams(model_license="MIT", data_license="CC BY 4.0", energy="0.1 kWh")
    cards = written(tmp_path / "cards", content(said))
    for name in NAMES[:2]:
        assert cards[name].count("MIT") == 2 and "CC BY 4.0" in cards[name]
        assert "0.1 kWh" in cards[name] and "1,234" in cards[name] and "300\u202fMB" in cards[name]
        assert "textcnn" in cards[name] and "torch 2.13.0" in cards[name]
        points = ["1 (a)", "1 (b)", "1 (c)", "1 (d)", "1 (e)", "1 (f)", "1 (g)", "1 (h)"]
        assert all(f"| {point} |" in cards[name] for point in [*points, "2 (a)", "2 (b)", "2 (c)"])
        winner = next(row for row in reviews().leaderboard if row["winner"])
        assert f"| {winner['test']['accuracy']:.4f} |" in cards[name]
    for name in NAMES[2:]:
        assert "neg.txt | 9012" in cards[name] and "| 13856 |" in cards[name]
        assert "| text | zh | 17,321 |" in cards[name]


def test_measured_energy_is_in_the_cards_unless_a_person_states_it(tmp_path: Path) -> None:
    plain = content()
    board = [
        {**row, "energy_j_per_1000": {"weighted": [3.21, 3.0, 3.4]}}
        for row in plain.report.leaderboard
    ]
    report = replace(plain.report, leaderboard=board, energy_j=15120.0)
    measured = written(tmp_path / "measured", replace(plain, report=report))
    for name in NAMES[:2]:
        assert "4.20\u202fWh" in measured[name] and "| 3.21 " in measured[name]
    stated = content(CardParams(energy="0.1 kWh"))
    cards = written(tmp_path / "stated", replace(stated, report=report))
    assert "0.1 kWh" in cards["model_card.md"] and "4.20" not in cards["model_card.md"]


@pytest.mark.parametrize("pair", [NAMES[:2], NAMES[2:]])
def test_both_languages_have_the_same_tables(pair: tuple[str, str], tmp_path: Path) -> None:
    cards = written(tmp_path / "cards", content())
    english, chinese = (cards[name] for name in pair)
    assert tables(english) == tables(chinese)
    assert len(tables(english)) >= 4
    assert english.count("\n## ") == chinese.count("\n## ")


def test_no_value_is_markup(tmp_path: Path) -> None:
    said = CardParams.model_validate(dict.fromkeys(CardParams.model_fields, HOSTILE))
    plain = content()
    hostile = replace(
        plain,
        statements=said,
        report=replace(plain.report, pipeline=HOSTILE, slices={HOSTILE: weak_slice()}),
        model=replace(MODEL, architecture=HOSTILE, versions={HOSTILE: HOSTILE}),
        files=[{"name": HOSTILE, "rows": 1, "sha256": None}],
        languages=[{"column": HOSTILE, "language": HOSTILE, "rows": 1}],
        columns=[{"name": HOSTILE, "role": "input", "kind": "Text", "required": False}],
        outputs=[HOSTILE],
    )
    weak = replace(plain, report=replace(plain.report, slices={"a": weak_slice()}))
    expected = written(tmp_path / "plain", weak)
    for name, text in written(tmp_path / "hostile", hostile).items():
        html = MarkdownIt("commonmark").enable("table").render(text)
        assert "<script" not in html and 'javascript:alert(1)"' not in html
        assert tables(text) == tables(expected[name])
        assert html.count("<h1>") == 1 and html.count("<em>") == 0


def weak_slice() -> dict[str, object]:
    """A slice that is worse than all cases."""
    return {"n": 40, "value": 0.5, "interval": [0.4, 0.6]}


def test_weak_slices_are_those_beyond_their_interval_the_worst_first() -> None:
    measured = {
        "low": weak_slice(),
        "lower": {"n": 9, "value": 0.3, "interval": [0.1, 0.7]},
        "touching": {"n": 9, "value": 0.6, "interval": [0.1, 0.9]},
        "unknown": {"n": 1, "value": None, "interval": None},
    }
    weak = slices_of_weak_results(measured, MetricScale(ACCURACY), 0.85)
    assert [name for name, _ in weak] == ["lower", "low"]


def test_small_values_are_good_where_the_metric_says_so() -> None:
    class Error:
        """A metric that is minimized."""

        name = "error"
        title = "error"
        goal = "min"
        is_share = False

    measured = {
        "bad": {"n": 9, "value": 3.0, "interval": [2.0, 4.0]},
        "good": {"n": 9, "value": 0.5, "interval": [0.4, 0.6]},
    }
    weak = slices_of_weak_results(measured, MetricScale(Error()), 1.0)  # type: ignore[arg-type]
    assert [name for name, _ in weak] == ["bad"]
