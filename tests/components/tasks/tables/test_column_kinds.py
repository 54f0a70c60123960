"""Columns of texts are told from ids, codes, links and names."""

from __future__ import annotations

import hashlib
import random

import pytest

from components.stages.ingest.sample import ColumnSample
from components.tasks.shared.defaults.tables.column_kinds import Guess, guess_column

DRAWN = random.Random(0)
WORDS = [
    "the",
    "room",
    "was",
    "very",
    "clean",
    "and",
    "quiet",
    "but",
    "breakfast",
    "came",
    "late",
    "again",
]
SIGNS = "房间很干净服务也好早餐一般位置不错交通方便性价比高"


def guess(values: list[str | None], name: str = "note") -> Guess:
    """Return the guess for a column."""
    column = ColumnSample(name)
    for value in values:
        column.add(value)
    return guess_column(column, len(values))


def sentence(words: int) -> str:
    return " ".join(DRAWN.choice(WORDS) for _ in range(words))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([sentence(9) for _ in range(60)], "texts of about 9 words, 60 different ones"),
        ([sentence(9) if n % 2 else None for n in range(60)], "30 different ones"),
        (["".join(DRAWN.choices(SIGNS, k=18)) for _ in range(60)], "about 9 words"),
        ([sentence(80) for _ in range(60)], "characters"),
        ([sentence(80) if n % 3 else "nothing" for n in range(60)], "characters"),
    ],
)
def test_sentences_and_long_values_are_texts(values: list[str | None], reason: str) -> None:
    result = guess(values)
    assert (result.kind, result.input) == ("text", "text")
    assert reason in result.reason


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([f"row-{n}" for n in range(60)], "id"),
        ([hashlib.sha256(str(n).encode()).hexdigest() for n in range(60)], "id"),
        ([f"https://example.com/a/long/path/of/a/shop/items/{n}" for n in range(60)], "id"),
        ([f"Anna Maria Smith {n}" for n in range(60)], "id"),
        ([f"{n:06d}" for n in range(60)], "category"),
        ([WORDS[n % 5] for n in range(60)], "category"),
        (["a rather long name of one of the three kinds of homes", "b", "c"] * 20, "category"),
        ([sentence(9)] * 30 + [sentence(9)] * 30, "category"),
        (["".join(SIGNS[n : n + 3]) for n in range(20)] * 3, "category"),
    ],
)
def test_ids_codes_links_and_names_are_no_texts(values: list[str | None], kind: str) -> None:
    assert guess(values).kind == kind
