"""augment: only added train rows, each with its parent, none that clean already has."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stage_runner import StageRunner, sentences

from components.fields.text import comparable
from components.tasks.text_classification.schema import _UNIT, MASK, SCHEMA


def runner(root: Path, rows: list[dict[str, Any]] | None = None, **augment: Any) -> StageRunner:
    """The reviews after augment."""
    return (
        StageRunner.make(root, sentences(120) if rows is None else rows, augment=augment)
        .clean()
        .augment()
    )


def journal(made: StageRunner) -> str:
    """The events of augment."""
    return made.job("augment", [], []).journal.path.read_text(encoding="utf-8")


def test_rate_zero_adds_nothing_and_the_line_goes_on(tmp_path: Path) -> None:
    made = runner(tmp_path, rate=0.0).tokenize()
    assert made.rows("augmented") == []
    assert len(made.rows("tokens", "train")) == len(made.rows("clean", "train"))
    assert "no rows are added: augment.rate is 0" in journal(made)


def test_pictures_are_not_added_to(bars: StageRunner) -> None:
    assert bars.rows("augmented") == []


def test_the_reason_is_another_one_without_a_method(tmp_path: Path) -> None:
    made = runner(tmp_path, methods=[], rate=0.5)
    assert "no rows are added: no method of this task adds rows" in journal(made)


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_added_rows_are_variants_of_train_rows_and_equal_no_row_of_clean(
    tmp_path: Path, rate: float
) -> None:
    made = runner(tmp_path, rate=rate)
    clean, train, added = (
        made.rows("clean"),
        {row["id"]: row for row in made.rows("clean", "train")},
        made.rows("augmented"),
    )
    assert len(added) == pytest.approx(rate * len(train), rel=0.25)
    keys = comparable([row["text"] for row in added])
    assert not set(keys) & set(comparable([row["text"] for row in clean]))
    assert len(set(keys)) == len(keys)
    for row in added:
        parent = train[row["parent"]]
        assert (row["label"], row["split"], row["group"]) == (
            parent["label"],
            "train",
            parent["group"],
        )
        assert row["id"] not in train
    assert {row["method"] for row in added} == {"delete", "swap", "mask"}


def test_a_variant_that_equals_a_test_row_is_never_added(tmp_path: Path) -> None:
    """All that swapping two of four words can give are test rows."""
    words = ["alpha", "bravo", "delta", "gamma"]
    swaps = [
        " ".join(words[{i: j, j: i}.get(k, k)] for k in range(4))
        for i in range(4)
        for j in range(i)
    ]
    rows = [
        {**row, "split": "test" if i < 20 else "dev" if i < 40 else "train"}
        for i, row in enumerate(sentences(100))
    ]
    rows += [{"text": " ".join(words), "label": "好评", "split": "train", "id": "parent"}] + [
        {"text": text, "label": "好评", "split": "test"} for text in swaps
    ]
    made = (
        StageRunner.make(
            tmp_path,
            rows,
            augment={"rate": 10.0, "methods": ["swap"]},
            clean={"near_duplicates": 1.0},
        )
        .clean()
        .augment()
    )
    assert "parent" in {row["id"] for row in made.rows("clean", "train")}
    assert not [row for row in made.rows("augmented") if row["parent"] == "parent"]


def test_the_same_seed_gives_the_same_bytes_and_another_other_rows(tmp_path: Path) -> None:
    one, two = runner(tmp_path / "1", rate=0.5), runner(tmp_path / "2", rate=0.5)
    assert (one.root / "augmented" / "manifest.json").read_bytes() == (
        two.root / "augmented" / "manifest.json"
    ).read_bytes()
    two.seed = 8
    two.augment()
    assert one.rows("augmented") != two.rows("augmented")


@pytest.mark.parametrize("strength", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("method", ["delete", "swap", "mask"])
def test_strength_is_the_share_of_units_that_are_touched(method: str, strength: float) -> None:
    options = SCHEMA.options["augment"].model_validate({"methods": [method], "strength": strength})
    augment, rng = SCHEMA.augmenters(options)[method], np.random.default_rng(0)
    for row in sentences(200, seed=4):
        variant = augment(row, rng)
        if variant is None:
            continue
        before, after = (
            _UNIT.findall(row["text"]),
            re.split(f"({re.escape(MASK)})", variant["text"]),
        )
        words = [unit for unit in before if unit.strip()]
        allowed = max(2 if method == "swap" else 1, round(len(words) * strength))
        kept = Counter(words)
        kept.subtract(
            unit for part in after if part != MASK for unit in _UNIT.findall(part) if unit.strip()
        )
        if method == "swap":
            moved = [a != b for a, b in zip(before, _UNIT.findall(variant["text"]), strict=True)]
            assert not +kept
            assert 2 <= sum(moved) <= allowed
        else:
            assert sum(kept.values()) == allowed
            assert after.count(MASK) == (allowed if method == "mask" else 0)
        assert allowed <= len(words) / 2


@pytest.mark.parametrize("text", ["好", "很好啊", "one two three", "!!! ..."])
def test_texts_too_short_to_lose_a_word_are_left_alone(text: str) -> None:
    options = SCHEMA.options["augment"].model_validate({})
    assert all(
        augment({"text": text}, np.random.default_rng(0)) is None
        for augment in SCHEMA.augmenters(options).values()
    )
