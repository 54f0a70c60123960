"""n-grams are counted as scikit-learn counts them, in chunks as in one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from components.fields import gram_counts as module
from components.fields.gram_counts import (
    GramBlock,
    analyzer_of,
    blocks_for,
    document_frequencies,
    gram_counts,
    n_of,
    unspaced_share,
)

TEXTS = [
    "The cat sat. The CAT!",
    "a",
    "房间很干净 very clean",
    "好 好 好",
    "no, no-no 😀😀 1,5",
    "naïve cafe\u0301",
    "İstanbul",
]
KINDS: list[tuple[GramBlock, dict[str, Any]]] = [
    (GramBlock("char", 1, 4), {"analyzer": "char", "ngram_range": (1, 4)}),
    (GramBlock("char_wb", 2, 5), {"analyzer": "char_wb", "ngram_range": (2, 5)}),
    (
        GramBlock("word", 1, 2),
        {"ngram_range": (1, 2), "token_pattern": r"(?:\w|[\u0300-\u036f])+|[^\w\s]"},
    ),
]


@pytest.mark.parametrize(("block", "kind"), KINDS)
@pytest.mark.parametrize("chunk", [1, 12, 1 << 20])
def test_counts_are_scikit_learns(
    block: GramBlock, kind: dict[str, Any], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK_CHARACTERS", chunk)
    expected = CountVectorizer(**kind).fit_transform(TEXTS)
    keys, documents = document_frequencies(TEXTS, [block])
    columns, counts, offsets = gram_counts(TEXTS, [block], keys)
    assert np.all(np.diff(keys) > 0)
    assert sorted(documents) == sorted(np.asarray((expected > 0).sum(0)).ravel())
    for row, (start, end) in enumerate(pairwise(offsets)):
        assert sorted(counts[start:end]) == sorted(expected[[row]].data)
        assert len(set(columns[start:end])) == end - start


def test_a_key_tells_its_kind() -> None:
    keys, _ = document_frequencies(["abc def"], [GramBlock("char", 2, 3), GramBlock("word", 1, 2)])
    kinds = sorted(zip(analyzer_of(keys).tolist(), n_of(keys).tolist(), strict=True))
    assert kinds == sorted([(0, 2)] * 6 + [(0, 3)] * 5 + [(2, 1)] * 2 + [(2, 2)])


def test_n_grams_that_are_not_known_are_left_out() -> None:
    keys, _ = document_frequencies(["good"], [GramBlock("word", 1, 1)])
    columns, counts, offsets = gram_counts(
        ["bad", "good bad good", ""], [GramBlock("word", 1, 1)], keys
    )
    assert (columns.tolist(), counts.tolist(), offsets.tolist()) == ([0], [2], [0, 0, 1, 1])
    none = gram_counts(["bad"], [GramBlock("word", 1, 1)], keys[:0])
    assert [part.tolist() for part in none] == [[], [], [0, 0]]


def test_no_text_has_no_n_grams() -> None:
    keys, documents = document_frequencies([], [GramBlock("char", 1, 3)])
    assert len(keys) == len(documents) == 0
    assert gram_counts([], [GramBlock("char", 1, 3)], keys)[2].tolist() == [0]


def test_rare_keys_are_forgotten_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_KEYS", 3)
    _, documents = document_frequencies(
        ["one two three four", "one five six seven"], [GramBlock("word", 1, 1)]
    )
    assert documents.tolist() == [2]


def test_signs_that_combine_belong_to_their_word() -> None:
    keys, _ = document_frequencies(
        ["\u0939\u093f\u0928\u094d\u0926\u0940"], [GramBlock("word", 1, 1)]
    )
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("text", "share"),
    [("abc 房", 0.25), ("ห้อง", 1.0), ("123", 0.0), ("방이", 0.0), ("かなカナ", 1.0)],
)
def test_the_share_of_letters_without_spaces(text: str, share: float) -> None:
    assert unspaced_share([text]) == share


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["房间很干净，服务也好", "早餐太差，隔音也不好，电视还坏了，前台 ok"], ["char"]),
        (["ห้องสะอาดมาก", "บริการดี"], ["char"]),
        (["the room was clean", "breakfast was poor 好"], ["char_wb", "word"]),
        (["방이 깨끗하고 조용했어요"], ["char_wb", "word"]),
        (["the room was clean", "房间很干净，服务也好，早餐很不错"], ["char", "word"]),
        (["12345 !!"], ["char_wb", "word"]),
    ],
)
def test_the_scripts_choose_the_kinds_of_n_grams(texts: list[str], expected: list[str]) -> None:
    assert [block.analyzer for block in blocks_for("auto", texts, 4)] == expected


def test_the_kinds_of_n_grams_can_be_said() -> None:
    assert [block.analyzer for block in blocks_for("char", ["the room"], 4)] == ["char"]
    assert [block.analyzer for block in blocks_for("mixed", ["the room"], 4)] == ["char", "word"]
