"""Leaks are counted anew from clean, and what they would have claimed is shown."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from mill import IMAGE, TEXT, Mill, pictures, png, sentences
from sklearn.linear_model import LogisticRegression

from components.core.job import Job
from components.core.tables import read_table, write_table
from components.fields.image import decode
from components.stages.evaluate.leakage import leaked_rows, naive_claim
from components.tasks import base
from components.tasks.classification.baselines import fit_linear


def job(mill: Mill) -> Job:
    return mill.job("clean", ["clean", "audit"], [])


def fitted(mill: Mill, classes: list[str]) -> dict[str, bytes]:
    """The files of the classical baseline, as train fits it."""
    rows, validation = (read_table(mill.root / "clean", name) for name in ("train", "validation"))
    sections = (mill.sections["train"], mill.sections["clean"])
    baseline = base.baselines(mill.task).baselines["classical"]
    _, files = baseline.fit(rows, classes, *sections, mill.seed, validation)
    return {f"encoder/{name}": content for name, content in files.items()}


def inject(mill: Mill, rows: list[dict[str, Any]], split: str) -> None:
    """Add rows to a split of clean, behind its back."""
    parts = {
        name: read_table(mill.root / "clean", name) for name in ("train", "validation", "test")
    }
    parts[split] = pa.concat_tables(
        [parts[split], pa.Table.from_pylist(rows, schema=parts[split].schema)]
    )
    write_table(mill.root / "clean", parts)


def test_there_is_none_after_clean(reviews: Mill, bars: Mill) -> None:
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
    mill = Mill.make(tmp_path, sentences(120)).clean()
    one, two, three, *_ = mill.rows("clean", source)
    dressed = [
        one,
        {**two, "text": two["text"].upper() + " ..."},
        {**three, "text": html.escape("“" + " ".join(three["text"]) + "”")},
    ]
    inject(mill, dressed, target)
    assert leaked_rows(job(mill)) == leaks


def test_an_injected_picture_is_found(tmp_path: Path) -> None:
    mill = Mill.make(tmp_path, pictures(80), IMAGE).clean()
    row = mill.rows("clean", "train")[0]
    inject(mill, [{**row, "image": png(decode(row["image"], 1)[:, :, 0])}], "test")
    assert leaked_rows(job(mill)) == 1


def test_the_naive_split_claims_more_and_says_how_many_rows_leaked(tmp_path: Path) -> None:
    """Every row stands three times, and a third of the labels are noise: only a leak can be right about them."""
    rows = [{**row, "label": ("差评", "好评")[i % 3 == 0]} for i, row in enumerate(sentences(150))]
    mill = Mill.make(tmp_path, rows * 3, clean={"test_share": 0.2}).clean()
    classes = ["好评", "差评"]
    claim = naive_claim(job(mill), classes, 0.5, fitted(mill, classes))
    assert claim["honest"] == 0.5
    assert claim["test_rows"] == 90
    assert claim["leaked_rows"] > 75
    assert claim["naive"] > 0.85


def test_the_naive_split_knows_merged_classes(tmp_path: Path) -> None:
    rows = sentences(120)
    rows += [
        {"text": f"{row['text']} {name}", "label": name}
        for name, some in (("中评", rows[:8]), ("neutral", rows[8:16]))
        for row in some
    ]
    mill = Mill.make(
        tmp_path, rows, clean={"small_classes": "merge", "near_duplicates": 1.0, "test_share": 0.3}
    ).clean()
    classes = mill.manifest()["classes"]
    claim = naive_claim(job(mill), classes, 0.5, fitted(mill, classes))
    assert claim["test_rows"] == int(136 * 0.3)  # none was left out
    assert 0 < claim["naive"] <= 1
    assert mill.task == TEXT


def test_the_naive_split_of_a_handful_of_rows_has_a_test_row(tmp_path: Path) -> None:
    mill = Mill.make(
        tmp_path,
        sentences(8),
        clean={"min_rows_per_class": 3},
        train={"classical": {"min_documents": 1}},
    ).clean()
    classes = ["好评", "差评"]
    assert naive_claim(job(mill), classes, 0.5, fitted(mill, classes))["test_rows"] == 1


def test_the_naive_split_is_fitted_once_with_what_the_baseline_chose(
    reviews: Mill,
    bars: Mill,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits: list[float] = []

    def counted(problem: Any, kind: Any, strength: float) -> Any:
        fits.append(strength)
        return fit_linear(problem, kind, strength)

    classes = reviews.manifest()["classes"]
    files = fitted(reviews, classes)
    monkeypatch.setattr("components.tasks.classification.baselines.fit_linear", counted)
    naive_claim(job(reviews), classes, 0.5, files)
    assert fits == list(json.loads(files["encoder/tfidf.json"])["models"].values())

    plain = LogisticRegression

    def noted(**params: Any) -> LogisticRegression:
        fits.append(params["C"])
        return plain(**params)

    fits.clear()
    classes = bars.manifest()["classes"]
    files = fitted(bars, classes)
    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", noted)
    naive_claim(job(bars), classes, 0.5, files)
    assert fits == [json.loads(files["encoder/features.json"])["C"]]
