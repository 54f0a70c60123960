"""Leaks are counted anew from clean, and what they would have claimed is shown."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from stage_runner import IMAGE, TEXT, StageRunner, pictures, png, sentences

from components.core.job import Job
from components.core.tables import read_table, write_table
from components.fields.image import decode
from components.stages.evaluate.leakage import leaked_rows, naive_claim
from components.tasks import base
from components.tasks.shared.baselines.classification.baselines import fit_linear

# Texts that share no character.
WORDS = [chr(0x4E00 + 7 * number) + chr(0x5E00 + 7 * number) for number in range(80)]


def job(runner: StageRunner) -> Job:
    return runner.job("clean", ["clean", "audit"], [])


def fitted(runner: StageRunner, classes: list[str]) -> dict[str, bytes]:
    """The files of the classical baseline, as train fits it."""
    rows, validation = (read_table(runner.root / "clean", name) for name in ("train", "validation"))
    sections = (runner.sections["train"], runner.sections["clean"])
    baseline = base.baselines(runner.task).baselines["classical"]
    _, files = baseline.fit(rows, {"classes": classes}, *sections, runner.seed, validation)
    return {f"encoder/{name}": content for name, content in files.items()}


def inject(runner: StageRunner, rows: list[dict[str, Any]], split: str) -> None:
    """Add rows to a split of clean, behind its back."""
    parts = {
        name: read_table(runner.root / "clean", name) for name in ("train", "validation", "test")
    }
    parts[split] = pa.concat_tables(
        [parts[split], pa.Table.from_pylist(rows, schema=parts[split].schema)]
    )
    write_table(runner.root / "clean", parts)


def test_there_is_none_after_clean(reviews: StageRunner, bars: StageRunner) -> None:
    assert leaked_rows(job(reviews)) == 0
    assert leaked_rows(job(bars)) == 0


@pytest.mark.parametrize(
    ("source", "target", "leaks"),
    [
        ("train", "test", 3),
        ("train", "validation", 3),
        ("validation", "test", 3),
        ("test", "train", 3),
        ("train", "train", 0),
    ],
)
def test_an_injected_leak_is_found_in_any_dress(
    tmp_path: Path, source: str, target: str, leaks: int
) -> None:
    runner = StageRunner.make(tmp_path, sentences(120)).clean()
    one, two, three, *_ = runner.rows("clean", source)
    dressed = [
        one,
        {**two, "text": two["text"].upper() + " ..."},
        {**three, "text": html.escape("“" + " ".join(three["text"]) + "”")},
    ]
    inject(runner, dressed, target)
    assert leaked_rows(job(runner)) == leaks


def test_an_injected_picture_is_found(tmp_path: Path) -> None:
    runner = StageRunner.make(tmp_path, pictures(80), IMAGE).clean()
    row = runner.rows("clean", "train")[0]
    inject(runner, [{**row, "image": png(decode(row["image"], 1)[:, :, 0])}], "test")
    assert leaked_rows(job(runner)) == 1


def test_the_naive_split_claims_more_and_says_how_many_rows_leaked(tmp_path: Path) -> None:
    """Every row stands three times, and a third of the labels are noise: only a leak can be right about them."""
    rows = [{**row, "label": ("差评", "好评")[i % 3 == 0]} for i, row in enumerate(sentences(150))]
    runner = StageRunner.make(tmp_path, rows * 3, clean={"test_share": 0.2}).clean()
    classes = ["好评", "差评"]
    claim = naive_claim(job(runner), {"classes": classes}, 0.5, fitted(runner, classes))
    assert claim["honest"] == 0.5
    assert claim["test_rows"] == 90
    assert claim["leaked_rows"] > 75
    assert claim["naive"] > 0.85
    assert claim["is_split"]


def test_different_rows_are_not_split(tmp_path: Path) -> None:
    rows = [{"text": word * 4, "label": ("差评", "好评")[i % 2]} for i, word in enumerate(WORDS)]
    runner = StageRunner.make(tmp_path, rows, train={"classical": {"min_documents": 1}}).clean()
    assert runner.manifest()["near_duplicate_pairs"] == 0
    classes = ["好评", "差评"]
    claim = naive_claim(job(runner), {"classes": classes}, 0.5, fitted(runner, classes))
    assert claim["leaked_rows"] == 0
    assert not claim["is_split"]


def test_the_naive_split_knows_merged_classes(tmp_path: Path) -> None:
    rows = sentences(120)
    rows += [
        {"text": f"{row['text']} {name}", "label": name}
        for name, some in (("中评", rows[:8]), ("neutral", rows[8:16]))
        for row in some
    ]
    runner = StageRunner.make(
        tmp_path, rows, clean={"small_classes": "merge", "near_duplicates": 1.0, "test_share": 0.3}
    ).clean()
    classes = runner.manifest()["classes"]
    claim = naive_claim(job(runner), {"classes": classes}, 0.5, fitted(runner, classes))
    assert claim["test_rows"] == int(136 * 0.3)  # none was left out
    assert 0 < claim["naive"] <= 1
    assert runner.task == TEXT


def test_the_naive_split_of_a_handful_of_rows_has_a_test_row(tmp_path: Path) -> None:
    runner = StageRunner.make(
        tmp_path,
        sentences(8),
        clean={"min_rows_per_class": 3},
        train={"classical": {"min_documents": 1}},
    ).clean()
    classes = ["好评", "差评"]
    assert (
        naive_claim(job(runner), {"classes": classes}, 0.5, fitted(runner, classes))["test_rows"]
        == 1
    )


def test_the_naive_split_is_fitted_once_with_what_the_baseline_chose(
    reviews: StageRunner,
    bars: StageRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits: list[float] = []

    def counted(problem: Any, kind: Any, strength: float) -> Any:
        fits.append(strength)
        return fit_linear(problem, kind, strength)

    classes = reviews.manifest()["classes"]
    files = fitted(reviews, classes)
    monkeypatch.setattr(
        "components.tasks.shared.baselines.classification.baselines.fit_linear", counted
    )
    naive_claim(job(reviews), {"classes": classes}, 0.5, files)
    assert fits == list(json.loads(files["encoder/tfidf.json"])["models"].values())

    plain = LogisticRegression

    def noted(**params: Any) -> LogisticRegression:
        fits.append(params["C"])
        return plain(**params)

    fits.clear()
    classes = bars.manifest()["classes"]
    files = fitted(bars, classes)
    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", noted)
    naive_claim(job(bars), {"classes": classes}, 0.5, files)
    assert fits == [json.loads(files["encoder/features.json"])["C"]]
