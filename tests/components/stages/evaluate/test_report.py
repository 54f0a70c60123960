"""The report tells all of it, loads nothing, believes no text, and is the same bytes for the same facts."""

from __future__ import annotations

import itertools
import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jinja2 import Environment

from components.core import svg
from components.core.markdown_templates import markdown_environment
from components.core.page_templates import (
    count,
    environment,
    number,
    percent,
    points,
    ratio,
    significant,
    size,
)
from components.fields.text import Text
from components.stages.evaluate import plots
from components.stages.evaluate.metric_scale import MetricScale
from components.stages.evaluate.refits import RefitResult
from components.stages.evaluate.report import ReportData, ShownCase, WorstCases, write_report
from components.stages.evaluate.report_data import _recipes
from components.stages.evaluate.resampling import Resampling
from components.stages.evaluate.robustness import ChangeResult
from components.tasks.base import Case, ReportPanel, ReportSection
from components.tasks.shared.evaluator.classification import confusion_plots
from components.tasks.shared.evaluator.classification.answer_panels import (
    ClassificationReport,
    class_panels,
    coverage_section,
)
from components.tasks.shared.evaluator.classification.evaluator import (
    Answer,
    ClassificationEvaluator,
)
from components.tasks.shared.evaluator.regression.evaluator import RegressionEvaluator
from tests import hostile

HOSTILE = '<script>alert("x")</script><img src=https://evil.example/x.png>$\\frac$]]>&\x0b'


METRICS = {metric.name: metric for metric in ClassificationEvaluator.metrics}
ACCURACY = METRICS["accuracy"]
MACRO_F1 = METRICS["macro_f1"]
RMSE = RegressionEvaluator.report_metric
COLUMNS = [METRICS[name] for name in ClassificationReport.columns]
SPLITS = {
    "train": {"差评": 7210, "好评": 6646},
    "validation": {"差评": 901, "好评": 831},
    "test": {"差评": 901, "好评": 831},
}


def rows_by_split(classes: list[str], splits: dict[str, dict[str, int]]) -> list[ReportPanel]:
    """The panel about the rows of the data."""
    manifest = {"classes": classes, "splits": splits}
    return list(ClassificationReport().data_panels(manifest))


def footer(classes: list[str]) -> list[tuple[str, str]]:
    """What the foot of the page says about the classes."""
    return list(ClassificationReport().data_details({"classes": classes}))


def mistakes(*rows: tuple[str, str, str, float]) -> WorstCases:
    """Worst cases: what is shown, truth, prediction and probability."""
    cases, answers, shown = [], [], {}
    for position, (query, truth, predicted, probability) in enumerate(rows):
        cases.append(Case(f"{position:02d}", None, truth, {}))
        shown[cases[-1].id] = query
        answers.append(Answer(label=predicted, probability=probability, probabilities={}))
    worst = ClassificationReport().worst_answers(answers, cases, 12)
    return WorstCases(
        worst.title,
        worst.note,
        [ShownCase(shown[answer.case.id], answer.verdict) for answer in worst.answers],
    )


def candidate(
    name: str,
    title: str,
    validation: float,
    test: float,
    bytes_: int,
    latency: float,
    **marks: bool,
) -> dict[str, Any]:
    rate = {"precision": test - 0.001, "recall": test + 0.002, "macro_f1": test - 0.002}
    return {
        "name": name,
        "title": title,
        "origin": title.partition("(")[2].removesuffix(")").split(" + "),
        "bundle": f"data/models/{name}",
        "validation": {
            "accuracy": validation,
            "macro_f1": validation - 0.001,
            "precision": validation,
            "recall": validation,
            "auc": 1 - (1 - validation) / 2,
        },
        "test": {"accuracy": test, **rate, "auc": 1 - (1 - test) / 2 if test > 0.6 else None},
        "test_interval": {
            "accuracy": [test - 0.0171, test + 0.0166],
            "macro_f1": [test - 0.019, test + 0.017],
        },
        "size_bytes": bytes_,
        "latency_ms": {"p50": latency, "p95": latency * 1.9},
        "throughput_per_s": 2400 / latency,
        "winner": False,
        "baseline": False,
        **marks,
    }


@cache
def coverage() -> ReportSection:
    """The section of answers by their certainty. It is drawn once, and is not to be changed."""
    return coverage_section(
        {
            "curve": [
                {"coverage": 0.5, "accuracy": 0.95},
                {"coverage": 1.0, "accuracy": 0.85},
            ],
            "shares": [
                {"stated": 0.05, "threshold": 0.83, "answered": 0.61, "wrong": 0.048},
                {"stated": 0.01, "threshold": None, "answered": 0.0, "wrong": None},
            ],
        }
    )


@cache
def panels() -> Sequence[ReportPanel]:
    """The panels of the classes. They are drawn once, and are not to be changed."""
    return class_panels([[780, 121], [141, 690]], ["差评", "好评"])


def reviews() -> ReportData:
    """What the default pipeline could have found."""
    rows = [
        candidate("classical", "classical (train)", 0.852, 0.8483, 3_104_000, 0.61, baseline=True),
        candidate("textcnn", "textcnn (train)", 0.833, 0.8262, 6_212_000, 2.9),
        candidate("transformer", "transformer (train)", 0.826, 0.8210, 8_912_000, 5.4),
        candidate("tuned", "textcnn (tune)", 0.856, 0.8489, 9_480_000, 3.6, winner=True),
        candidate("tuned-pruned", "textcnn (tune + prune)", 0.851, 0.8431, 4_703_000, 2.1),
        candidate("tuned-int8", "textcnn (tune + quantize)", 0.8555, 0.8486, 2_406_000, 1.3),
        candidate("distilled", "textcnn (distill)", 0.841, 0.8360, 2_950_000, 1.2),
        candidate("trivial", "trivial (train)", 0.502, 0.5110, 900, 0.02, baseline=True),
    ]
    rates = {"textcnn": 0.826, "transformer": 0.817, "tuned": 0.856, "distilled": 0.841}
    curves = [
        {
            "arm": arm,
            "epoch": epoch,
            "train_loss": 0.7 * 0.72**epoch + 0.9 - top,
            "validation_loss": 1.2 - top + 0.3 * 0.6**epoch + 0.002 * epoch**2,
            "watch": top - 0.18 * 0.5**epoch,
        }
        for arm, top in rates.items()
        for epoch in range(1, 5 if arm == "distilled" else 9)
    ]
    trials = [
        {
            "trial": f"t{number:02d}",
            "params": {
                "architecture": kind,
                "learning_rate": 0.0003 * (number + 1),
                "batch_size": 64,
                f"nets.{kind}.dropout": 0.1 + 0.05 * number,
                "nets.transformer.layers": 2,
            },
            "watch": watch,
            "epochs": epochs,
            "status": "finished" if epochs == 4 else "stopped" if watch else "failed",
        }
        for number, (kind, watch, epochs) in enumerate(
            [
                ("textcnn", 0.81, 4),
                ("transformer", 0.772, 1),
                ("textcnn", 0.838, 4),
                ("textcnn", 0.79, 1),
                ("transformer", 0.829, 4),
                ("textcnn", 0.853, 4),
                ("transformer", 0.81, 2),
                ("textcnn", None, 0),
            ]
        )
    ]
    return ReportData(
        pipeline="reviews",
        task="some_task",
        data_hash="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        seed=7,
        data_details=footer(["差评", "好评"]),
        deciding_metric=MACRO_F1,
        report_metric=ACCURACY,
        metrics=COLUMNS,
        test_cases=1732,
        leaderboard=rows,
        counts={
            "raw": 35124,
            "quarantined": {"empty": 214, "too_short": 1201, "boilerplate": 660},
            "exact_duplicates": 15670,
            "near_duplicate_pairs": 1650,
            "conflicting": 59,
            "conflict_reason": "conflicting_labels",
            "filtered": 0,
            "clean": 17320,
        },
        account=[
            {
                "stage": "clean",
                "what": "text_cut",
                "rows": 3228,
                "of": 4640,
                "message": "3,228 of 4,640 texts cut at 2,000 characters: clean.max_characters",
                "share_lost": 0.58,
            },
        ],
        winner_sections=[coverage()],
        quarantine={"too_short": ["好", "!!!", "ok"], "boilerplate": ["此用户没有填写评论内容"]},
        data_panels=rows_by_split(["差评", "好评"], SPLITS),
        lengths={
            "histogram": {
                "edges": list(range(0, 165, 8)),
                "counts": [int(3000 * np.exp(-((i - 3) ** 2) / 18)) + 90 for i in range(20)],
            },
            "percentiles": {"p50": 34, "p90": 84, "p95": 96, "p99": 150},
        },
        winner_panels=panels(),
        curves=curves,
        trials=trials,
        watch="accuracy",
        slices={
            "length: short": {"n": 431, "value": 0.812, "interval": [0.772, 0.846]},
            "length: long": {"n": 420, "value": 0.871, "interval": [0.836, 0.901]},
            "script: han": {"n": 1702, "value": 0.85, "interval": [0.832, 0.867]},
        },
        worst=mistakes(
            (
                "书的内容不错,就是包装太差了,到手的时候封面已经折了。物流也慢,等了整整一个星期才收到。",
                "差评",
                "好评",
                0.991,
            ),
            ("酒店位置很好 &lt;3 but the room was tiny", "差评", "好评", 0.987),
            ("没有想象中的那么差", "好评", "差评", 0.979),
        ),
        leak={
            "honest": 0.8483,
            "naive": 0.9127,
            "leaked_rows": 1622,
            "test_rows": 3512,
            "is_split": True,
        },
        compression=[
            {
                "name": "tuned-pruned",
                "parent": "tuned",
                "size": 0.496,
                "latency": 0.583,
                "metric": 0.993,
            },
            {
                "name": "tuned-int8",
                "parent": "tuned",
                "size": 0.254,
                "latency": 0.361,
                "metric": 0.9996,
            },
            {
                "name": "distilled",
                "parent": "tuned",
                "size": 0.311,
                "latency": 0.333,
                "metric": 0.985,
            },
        ],
        recipes=[
            {
                "recipe": "distilled",
                "step": "distill",
                "settings": "architecture textcnn, epochs 4",
                "size_bytes": 2_950_000,
                "outcome": "kept",
            },
            {
                "recipe": "tuned-int8",
                "step": "finetune",
                "settings": "epochs 2",
                "size_bytes": 5_900_000,
                "outcome": "dropped: worse on validation (0.81 after 0.84) and not cheaper",
            },
        ],
    )


def lean() -> ReportData:
    """The reviews with little to draw: for tests of words."""
    return replace(reviews(), winner_panels=(), curves=(), trials=(), lengths=None)


def digits() -> ReportData:
    """What a pipeline with ten classes and pictures could have found."""
    rng = np.random.default_rng(1)
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
    confusion = rng.poisson(0.15, (10, 10)) + np.diag(rng.integers(16, 19, 10))
    rows = [
        candidate("classical", "classical (train)", 0.961, 0.956, 5_400, 0.05, baseline=True),
        candidate("convnet", "convnet (train)", 0.984, 0.983, 310_000, 0.8, winner=True),
    ]
    picture = f'<img class="tiny" alt="" src="data:image/png;base64,{pixel}">'
    classes = [str(digit) for digit in range(10)]
    splits = {
        split: dict.fromkeys(classes, n)
        for split, n in (("train", 142), ("validation", 18), ("test", 18))
    }
    return ReportData(
        "digits",
        "other_task",
        "ab" * 32,
        7,
        ACCURACY,
        ACCURACY,
        COLUMNS,
        rows,
        data_details=footer(classes),
        test_cases=int(confusion.sum()),
        winner_panels=class_panels(confusion.tolist(), classes),
        worst=mistakes(*((picture, str(i), str(9 - i), 0.9) for i in range(5))),
        data_panels=rows_by_split(classes, splits),
    )


def render(folder: Path, facts: ReportData) -> str:
    write_report(folder / "report.html", facts)
    return (folder / "report.html").read_text(encoding="utf-8")


def words(page: str) -> str:
    return re.sub("[ \n]+", " ", re.sub("<[^>]+>", "", page))


class Page(HTMLParser):
    """The tags and attributes that a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [
            value or ""
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "srcset", "data", "action")
        ]
        self.ids += [value or "" for name, value in attrs if name == "id"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The reports of `reviews` and `digits`."""
    folder = tmp_path_factory.mktemp("reports")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of missing glyphs above all
        return render(folder, reviews()), render(folder, digits())


def test_tells_every_candidate_class_and_the_provenance(pages: tuple[str, str]) -> None:
    for page, facts in zip(pages, (reviews(), digits()), strict=True):
        for row in facts.leaderboard:
            assert row["title"] in page and page.count(row["name"]) >= 2
        for name in facts.data_details[0][1].split(", "):
            assert f"<th>{name}</th>" in page and re.search(rf"<text[^>]*>{name}</text>", page)
        assert facts.data_hash in page and facts.task in page


def test_gives_the_verdict_in_words(pages: tuple[str, str]) -> None:
    text = words(pages[0])
    assert (
        "The winner is textcnn (tune): its macro F1 is 84.7\u202f% on 1,732 test cases (95\u202f% interval 83.0–86.6\u202f%)"
        in text
    )
    assert (
        "better than the baseline classical (train), which reaches 84.6\u202f%, by 0.1 points: a lead smaller than the uncertainty of this test set"
        in text
    )
    assert "1,650 pairs of near duplicates were kept" in text
    assert (
        "would have claimed +6.4 points: 1,622 of its 3,512 test rows also stand in its train split"
        in text
    )


@pytest.mark.parametrize(
    ("winner", "accuracy", "said"),
    [
        (
            "tuned",
            0.8000,
            "It is not better than the baseline classical (train), which reaches 84.8\u202f%: −4.8 points.",
        ),
        ("tuned", 0.8480, "points, a gap smaller than the uncertainty of this test set."),
        ("tuned", 0.9, "by 5.2 points."),
        (
            "classical",
            0.8483,
            "It is the classical baseline itself: on validation no network did better.",
        ),
    ],
)
def test_does_not_flatter_the_winner(
    tmp_path: Path, winner: str, accuracy: float, said: str
) -> None:
    rows = [{**row, "winner": row["name"] == winner} for row in reviews().leaderboard]
    rows = [
        {
            **row,
            "test": {"accuracy": accuracy},
            "test_interval": {"accuracy": [accuracy - 0.017, accuracy + 0.017]},
        }
        if row["winner"]
        else row
        for row in rows
    ]
    text = words(render(tmp_path, replace(lean(), leaderboard=rows, deciding_metric=ACCURACY)))
    assert (
        said in text and f"its accuracy is {accuracy * 100:.1f}\u202f% on 1,732 test cases" in text
    )


def test_the_headline_is_of_the_metric_that_decided(tmp_path: Path) -> None:
    rows = [
        {**row, "over_baseline": [-0.012, 0.031]} if row.get("winner") else row
        for row in reviews().leaderboard
    ]
    page = render(tmp_path, replace(reviews(), leaderboard=rows))
    winner, baseline = (next(row for row in rows if row.get(key)) for key in ("winner", "baseline"))
    figure, other = winner["test"]["macro_f1"], baseline["test"]["macro_f1"]
    assert (
        f"its macro F1 is {figure * 100:.1f}\u202f% on 1,732 test cases (95\u202f% interval "
        in words(page)
    )
    assert f"which reaches {other * 100:.1f}\u202f%" in words(page)
    assert "interval of the difference is −1.2 to +3.1 points" in words(page)
    assert (
        "points of test macro F1" in page
        and "<span>Test macro F1</span>" in page
        and "<span>Test accuracy</span>" in page
    )
    # The place where serve writes what the gates said.
    assert page.count("<!-- gates -->") == page.count("<!-- end of gates -->") == 1


def test_loads_nothing_and_runs_nothing(pages: tuple[str, str]) -> None:
    for page in pages:
        seen = Page(page)
        assert all(load.startswith(("#", "data:image/")) for load in seen.loads)
        assert not {"script", "link", "iframe", "object", "embed", "base"} & set(seen.tags)
        assert "http://" not in page and "https://" not in page and "@import" not in page
        assert set(re.findall(r"url\((.)", page)) <= {"#"}
        assert "default-src 'none'" in page


def test_ids_are_unique_and_references_meet_them(pages: tuple[str, str]) -> None:
    for page in pages:
        seen = Page(page)
        assert len(seen.ids) == len(set(seen.ids))
        assert {load[1:] for load in seen.loads if load.startswith("#")} | set(
            re.findall(r"url\(#([^)]+)\)", page)
        ) <= set(seen.ids)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    facts = reviews()
    rows = [
        {**row, "name": HOSTILE + row["name"], "title": HOSTILE, "bundle": '"><script>'}
        for row in facts.leaderboard
    ]
    hostile_facts = replace(
        facts,
        pipeline=HOSTILE,
        data_details=footer([HOSTILE, "items"]),
        leaderboard=rows,
        winner_panels=class_panels([[780, 121], [141, 690]], [HOSTILE, "items"]),
        data_panels=rows_by_split([HOSTILE, "items"], {HOSTILE: {HOSTILE: 3}}),
        quarantine={HOSTILE: [HOSTILE]},
        slices={HOSTILE: {"n": 3, "value": 0.5}},
        trials=[
            {
                "trial": HOSTILE,
                "params": {"architecture": HOSTILE, HOSTILE: HOSTILE},
                "watch": 0.5,
                "status": HOSTILE,
            }
        ],
        curves=[{"arm": HOSTILE, "epoch": 1, "watch": 0.5, "train_loss": 1.0}],
        worst=mistakes(("safe", HOSTILE, HOSTILE + "other", 0.9)),
        compression=[{"name": HOSTILE, "parent": HOSTILE}],
        recipes=[{"recipe": HOSTILE, "step": HOSTILE, "settings": HOSTILE, "outcome": HOSTILE}],
    )
    seen = Page(render(tmp_path, hostile_facts))
    assert "script" not in seen.tags and "img" not in seen.tags
    assert not [load for load in seen.loads if not load.startswith("#")]


def test_the_page_shows_what_nobody_sees(tmp_path: Path) -> None:
    text = " ".join(text[:60] for text in hostile.HOSTILE.values())
    facts = replace(
        reviews(),
        pipeline=text,
        data_details=footer([text, "items"]),
        winner_panels=class_panels([[780, 121], [141, 690]], [text, "items"]),
        data_panels=rows_by_split([text, "items"], SPLITS),
        quarantine={text: [text]},
        slices={text: {"n": 3, "value": 0.5}},
        worst=mistakes((Text().show(text), text, f"{text}!", 0.9)),
        account=[{"stage": "clean", "what": "x", "rows": 1, "of": 2, "message": text}],
    )
    page = render(tmp_path, facts)
    assert not hostile.raw_in(page)
    assert r"\u202e" in page and r"\x1b]52;c" in page


@pytest.mark.parametrize("name", hostile.READABLE)
def test_ordinary_text_is_readable_on_the_page(name: str, tmp_path: Path) -> None:
    text = hostile.READABLE[name]
    facts = ReportData("bare", text, "", 0, ACCURACY, ACCURACY, COLUMNS, [])
    assert text in render(tmp_path, facts)


def test_the_same_facts_give_the_same_bytes(pages: tuple[str, str], tmp_path: Path) -> None:
    for drawn_once in (coverage, panels):
        drawn_once.cache_clear()
    assert render(tmp_path, reviews()) == pages[0]


@pytest.mark.parametrize("environment_of", [environment, markdown_environment])
def test_a_template_is_compiled_once(
    environment_of: Callable[[Path], Environment], tmp_path: Path
) -> None:
    (tmp_path / "a.j2").write_text("{{ text }}")
    first = environment_of(tmp_path).get_template("a.j2")
    assert environment_of(tmp_path).get_template("a.j2") is first


def test_missing_facts_leave_sections_out(tmp_path: Path) -> None:
    bare = ReportData("bare", "some_task", "", 0, ACCURACY, ACCURACY, COLUMNS, [])
    page = render(tmp_path, bare)
    assert (
        "No winner was named." in page
        and "No candidate was measured." in page
        and "<svg" not in page
        and "nan" not in page
    )
    sparse = replace(
        bare,
        leaderboard=[
            {"name": "only", "winner": True, "test": None},
            {"name": "other", "test": {"accuracy": float("nan")}},
        ],
        counts={"raw": 3},
        lengths={},
        trials=[{"trial": 1}],
    )
    page = render(tmp_path, sparse)
    assert (
        "only" in page and "other" in page and "There is no baseline" in page and "nan" not in page
    )


def test_rows_left_out_by_time_are_a_step_of_their_own(tmp_path: Path) -> None:
    bare = ReportData("bare", "some_task", "", 0, ACCURACY, ACCURACY, COLUMNS, [])
    for embargoed in (None, 4):
        counts = {"raw": 100, "exact_duplicates": 0, "embargoed": embargoed, "clean": 96}
        page = render(tmp_path, replace(bare, counts=counts))
        step = re.findall(r"too near validation or test in time</th><td>4</td><td>96</td>", page)
        assert len(step) == (embargoed is not None)


@pytest.mark.parametrize(
    ("metric", "gain", "sentence"),
    [
        (ACCURACY, (0.01, 0.03), "More data would probably help."),
        (ACCURACY, (-0.01, 0.03), "Whether more data would help cannot be told."),
        (ACCURACY, (-0.03, -0.01), "The last rows made it worse."),
        (RMSE, (-3.0, -1.0), "More data would probably help."),
        (RMSE, (1.0, 3.0), "The last rows made it worse."),
    ],
)
def test_further_fits_have_a_table_a_curve_and_a_sentence(
    metric: Any, gain: tuple[float, float], sentence: str, tmp_path: Path
) -> None:
    bare = ReportData("bare", "some_task", "", 0, metric, metric, [metric], [])
    half = RefitResult("share-0.5", 50, 9, {metric.name: 0.4}, [0.3, 0.5], {})
    whole = RefitResult("share-1", 100, 9, {metric.name: 0.7}, None, {})
    resampling = Resampling("tuned", [half, whole], [half, whole], gain)
    page = render(tmp_path, replace(bare, resampling=resampling))
    assert sentence in page
    assert 'id="folds"' in page
    assert "From 50 to 100 train rows" in page
    mean = re.search(r">均值<.*?</tr>", page, re.DOTALL)
    assert mean is not None
    assert ("55.0 ± 15.0" if metric.is_share else "0.550 ± 0.150") in mean[0]
    undefined = replace(half, metrics={metric.name: None})
    nothing = Resampling("tuned", [undefined, whole], [undefined, undefined], None)
    page = render(tmp_path, replace(bare, resampling=nothing))
    assert 'id="more-data"' not in page and "nan" not in page


def test_small_changes_have_a_table(tmp_path: Path) -> None:
    change = ChangeResult("<b>shifted", "平移", 359, 0.99, 0.96, (-0.05, -0.01), 14)
    page = render(tmp_path, replace(lean(), changes=[change]))
    row = re.search(r'id="robustness".*?</tbody>', page, re.DOTALL)
    assert row is not None
    for text in ("&lt;b&gt;shifted", "平移", "359", "99.0", "96.0", "−3.0", "−5.0 to −1.0", "14"):
        assert text in row[0]
    assert 'id="robustness"' not in render(tmp_path, lean())


def test_equal_cases_are_no_leaked_rows(tmp_path: Path) -> None:
    leak = {"honest": 0.5, "naive": 0.6, "leaked_rows": None, "test_rows": 90, "is_split": True}
    page = render(tmp_path, replace(lean(), leak=leak))
    assert "would have claimed" in page
    assert "test rows also stand in its train split" not in page


def test_a_random_split_that_splits_no_rows_claims_nothing(tmp_path: Path) -> None:
    leak = {"honest": 0.5, "naive": 0.6, "leaked_rows": 0, "test_rows": 90, "is_split": False}
    page = render(tmp_path, replace(lean(), leak=leak))
    assert "would have claimed" not in page


@pytest.mark.parametrize(
    "field",
    ["counts", "quarantine", "data_panels", "slices", "worst", "leak", "compression", "recipes"],
)
def test_any_one_section_may_be_missing(tmp_path: Path, field: str) -> None:
    facts = replace(lean(), leaderboard=lean().leaderboard[3:4])
    page = render(tmp_path, replace(facts, **{field: type(getattr(facts, field))()}))
    assert "The winner is" in page and page.rstrip().endswith("</html>")


def test_trials_hide_settings_of_other_architectures(pages: tuple[str, str]) -> None:
    (line,) = re.findall(r"<tr><th[^>]*>t05.*?</tr>", pages[0])
    assert "dropout" in line and "learning_rate" in line and "layers" not in line


def test_many_classes_and_steps_are_drawn() -> None:
    plot = confusion_plots.confusion_matrix(
        np.eye(60, dtype=int).tolist(), [f"class {number}" for number in range(60)]
    )
    assert plot.svg.count(">class 59<") == 2
    assert (
        plots.curves(
            [{"arm": "a", "step": 10, "watch": 1.0}, {"arm": "a", "step": 20, "watch": None}],
            {"watch": "-"},
            "watch",
        )
        is not None
    )
    assert (
        plots.trials([{"watch": 2.0, "epochs": 1}, {"watch": 1.0, "epochs": 2}], "min") is not None
    )


def test_a_hopeless_candidate_does_not_squeeze_the_others() -> None:
    rows = sorted(reviews().leaderboard, key=lambda row: -row["test"]["accuracy"])
    plot = plots.leaderboard(rows, MetricScale(ACCURACY))
    assert plot is not None and "50%" not in plot.svg and "51.1%" in plot.svg


def test_labels_do_not_lie_on_each_other() -> None:
    places = plots._spread([1.0, 2.0, 3.0, 99.0], gap=17.0, room=100.0)
    assert all(b - a >= 17.0 for a, b in itertools.pairwise(places)) and places[-1] <= 100.0


def test_plots_use_the_page_colours_and_fonts() -> None:
    plot = plots.leaderboard(reviews().leaderboard, MetricScale(ACCURACY))
    assert plot is not None and "var(--accent)" in plot.svg and "font-family" not in plot.svg
    assert not any(colour in plot.svg for colour in svg.HEX.values())


def test_figures_are_written_for_people() -> None:
    assert [percent(0.8489), percent(None), percent(float("nan")), percent(np.float32(0.5))] == [
        "84.9\u202f%",
        "–",
        "–",
        "50.0\u202f%",
    ]
    assert [size(900), size(412_345), size(5_149_000), size(2.5e9), size(None)] == [
        "900\u202fB",
        "412\u202fkB",
        "5.1\u202fMB",
        "2.5\u202fGB",
        "–",
    ]
    assert [number(0.421), number(15.44), number(251.2), number(None)] == [
        "0.42",
        "15.4",
        "251",
        "–",
    ]
    assert [significant(0.00421), significant(4.128), significant(1234), significant(-0.5)] == [
        "0.00421",
        "4.13",
        "1,234",
        "−0.500",
    ]
    assert [count(17320), points(-0.0031), ratio(0.2541)] == ["17,320", "−0.3", "0.25\u202f×"]


def test_tells_what_happened_to_the_rows_and_what_abstaining_brings(pages: tuple[str, str]) -> None:
    page = words(pages[0])
    assert "3,228 of 4,640 texts cut at 2,000 characters: clean.max_characters" in page
    assert "Accuracy against coverage" in page
    assert "no threshold can promise it" in page
    assert "0.05" in page and "61.0" in page
    assert 'id="account"' not in pages[1] and 'id="coverage"' not in pages[1]


def test_the_steps_of_recipes_are_told_with_what_became_of_them(tmp_path: Path) -> None:
    """The file is what compress writes."""
    rows = [
        {
            "step": "prune",
            "settings": {"share": 0.5, "epochs": 2},
            "kept": True,
            "reason": "",
            "value": 0.84,
            "size_bytes": 2_000_000,
        },
        {
            "step": "finetune",
            "settings": {"epochs": 1},
            "kept": False,
            "reason": "worse on validation (0.8000 after 0.8400) and not cheaper",
            "value": 0.84,
            "size_bytes": 2_000_000,
        },
    ]
    path = tmp_path / "recipes.json"
    path.write_text(json.dumps({"small": rows}), encoding="utf-8")
    page = render(tmp_path, replace(lean(), recipes=_recipes(path)))
    panel = page[page.index('id="recipes"') :]
    panel = panel[: panel.index("</table>")]
    for text in ("share 0.5, epochs 2", "kept", "2.0\u202fMB", "dropped: worse on validation"):
        assert text in panel
    assert 'id="recipes"' not in render(
        tmp_path, replace(lean(), recipes=_recipes(tmp_path / "no"))
    )


def test_costs_that_were_not_measured_are_unknown(tmp_path: Path) -> None:
    facts = reviews()
    measured = {
        "compressed_bytes": 200_000,
        "parameters": 1234567,
        "load_ms": 12.3,
        "peak_memory_bytes": 301_944_832,
        "energy_j_per_1000": {"weighted": [4.56, 4.0, 5.0]},
    }
    first, *others = facts.leaderboard
    board = [{**first, **measured}, *others]
    page = render(tmp_path, replace(facts, leaderboard=board, energy_j=15120.0))
    costs = page.partition('id="costs"')[2].partition("</table>")[0]
    assert "train, tune and compress: 4.20\u202fWh" in costs and "4.56" in costs
    assert "1,234,567" in costs and "12.3" in costs and "302\u202fMB" in costs
    # Zstd, parameters, load time, memory, p99 and energy of each other row; p99 of the first.
    assert costs.count("unknown") == 6 * len(others) + 1
    costs = render(tmp_path, facts).partition('id="costs"')[2].partition("</table>")[0]
    assert "train, tune and compress: unknown" in costs


def test_panels_have_their_texts_in_both_languages(tmp_path: Path) -> None:
    panel = ReportPanel("Titled", "noted", "text", zh="中文<b>说明")
    section = ReportSection("Section", "its note", [panel], zh="本节说明")
    page = render(tmp_path, replace(reviews(), winner_sections=[section]))
    assert '<p class="note" lang="zh">中文&lt;b&gt;说明</p>' in page
    assert '<p class="note" lang="zh">本节说明</p>' in page
