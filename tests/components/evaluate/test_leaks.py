"""Leaks are counted anew from clean, and what they would have claimed is shown."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from mill import IMAGE, TEXT, Mill, pictures, png, sentences

from components.core.job import Job
from components.core.tables import read_table, write_table
from components.evaluate.leak import leaked_rows, naive_claim
from components.fields.image import decode


def job(mill: Mill) -> Job:
    return mill.job("clean", ["clean", "audit"], [])


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
    claim = naive_claim(job(mill), ["好评", "差评"], honest=0.5)
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
    claim = naive_claim(job(mill), mill.manifest()["classes"], honest=0.5)
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
    assert naive_claim(job(mill), ["好评", "差评"], honest=0.5)["test_rows"] == 1
