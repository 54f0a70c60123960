"""What params follow from somebody's texts."""

from __future__ import annotations

from typing import Any

import pytest

from components.tasks import base
from components.tasks.base import Setting

TASK = "text_classification"
ENGLISH = "The room was clean and the breakfast was good. "
CHINESE = "房间很干净，早餐也很好。"


def settings(text: str, rows: int, classes: int = 2, repeats: int = 1) -> dict[str, Any]:
    """Values by path of a source of `rows` rows, of which 60 are read."""
    facet = base.defaults(TASK)
    read = [
        {"text": f"{number} {text * repeats}", "label": f"c{number % classes}"}
        for number in range(max(60, classes))
    ]
    found = facet.settings(facet.measure(iter(read), rows))
    assert all(isinstance(each, Setting) and each.reason for each in found)
    return {each.path: each.value for each in found}


@pytest.mark.parametrize(("repeats", "characters"), [(1, 2000), (100, 5000), (1000, 20_000)])
def test_texts_are_whole_up_to_the_budget(repeats: int, characters: int) -> None:
    assert settings(ENGLISH, 5000, repeats=repeats)["clean.max_characters"] == characters


@pytest.mark.parametrize(
    ("text", "repeats", "rows", "tokens"),
    [
        (ENGLISH, 1, 5000, 32),
        # 41 words and marks, of which each may be more than one token
        (ENGLISH, 4, 5000, 64),
        (CHINESE, 4, 5000, 64),
        (ENGLISH, 100, 5000, 512),
        (ENGLISH, 100, 50_000, 256),
    ],
)
def test_a_network_reads_the_95th_percentile_within_its_budget(
    text: str, repeats: int, rows: int, tokens: int
) -> None:
    assert settings(text, rows, repeats=repeats)["tokenize.max_length"] == tokens


def test_little_data_have_no_search() -> None:
    assert settings(ENGLISH, 300)["tune.trials"] == settings(ENGLISH, 3000)["tune.trials"] == 0
    assert settings(ENGLISH, 5000)["tune.trials"] > 0
    assert settings(ENGLISH, 300)["train.workers"] == 1
    assert settings(ENGLISH, 300)["compress.quantize"] is None
    assert "compress.quantize" not in settings(ENGLISH, 3000)


def test_more_rows_need_fewer_epochs() -> None:
    epochs = [settings(ENGLISH, rows)["train.epochs"] for rows in (300, 5000, 50_000)]
    assert epochs == sorted(epochs, reverse=True) and epochs[0] > epochs[-1]


def test_the_table_of_a_network_fits_the_size_gate_whatever_the_classes() -> None:
    # 4 bytes a weight, and 12 for the key and the rarity of a row
    for classes in (2, 50, 500):
        rows = settings(ENGLISH, 50_000, classes)["train.nets.counted.rows"]
        assert rows * (4 * classes + 12) < 150e6


def test_the_search_begins_no_deeper_than_the_network_is_trained() -> None:
    found = settings(ENGLISH, 100_000)
    assert found["tune.epochs"] <= found["train.epochs"]
