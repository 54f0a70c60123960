"""Ids of texts by their words are those that the tokenizer itself gives."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.tasks.shared.encode.text import word_ids
from components.tasks.text_classification.encode import ENCODING, TextEncoder, TextTokenize
from components.tasks.text_classification.schema import TextClean
from tests.components.stage_runner import sentences

TEXTS = [row["text"] for row in sentences(300)]


def fitted() -> TextEncoder:
    """An encoder of Chinese and English texts."""
    options = TextTokenize(vocabulary_size=400, min_frequency=1, max_length=4096)
    batches = iter([pa.record_batch({"text": [*TEXTS, "Straße İstanbul ﬁn 100% naïve 😀!"]})])
    return ENCODING.fit(batches, {"classes": ["a", "b"]}, options, TextClean())


ENCODER = fitted()
TOKENIZER: Any = ENCODER._tokenizer
WORDS = word_ids.word_ids(TOKENIZER)
assert WORDS is not None
characters = st.characters(exclude_categories=["Cs"])
pieces = st.one_of(
    st.text(characters, max_size=30),
    st.sampled_from([*TEXTS, *"\t\n \u3000\u2028\x1c\u0130ßﬁ，。"]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(pieces, max_size=6))
@example(["ΑΣ ΑΣ. ", "ǅ", "e\u0301", "\u200d", "ab\x00c", "a" * 200])
def test_ids_are_those_of_the_tokenizer(parts: list[str]) -> None:
    text = "".join(parts)
    ids = WORDS.of(text)
    if any(name in text for name in ("[PAD]", "[UNK]", "[MASK]")):
        # The tokenizer finds these before it divides a text into words.
        assert ids is None
    else:
        assert ids == TOKENIZER.encode(text).ids


@pytest.mark.parametrize("text", ["[MASK]", "好[MASK]的", "a [PAD]b", "[UNK]"])
def test_texts_with_added_tokens_are_left_to_the_tokenizer(text: str) -> None:
    assert WORDS.of(text) is None
    assert ENCODER.rows({"text": [text]})["ids"][0].tolist() == TOKENIZER.encode(text).ids


def test_what_is_remembered_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_ids, "_MOST", 50)
    words = word_ids.word_ids(TOKENIZER)
    assert words is not None
    for text in [*TEXTS, "".join(map(chr, range(0x4E00, 0x4F00))), "x" * 1000]:
        assert words.of(text) == TOKENIZER.encode(text).ids
    assert len(words._words) <= 50 and len(words._characters) <= 50


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "post_processor"])
def test_another_tokenizer_is_left_to_itself(part: str) -> None:
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors

    others: dict[str, Any] = {
        "normalizer": normalizers.NFD(),
        "pre_tokenizer": pre_tokenizers.Metaspace(),
        "post_processor": processors.TemplateProcessing(
            single="[MASK] $A", special_tokens=[("[MASK]", 2)]
        ),
    }
    other: Any = Tokenizer.from_str(ENCODER.files()["tokenizer.json"].decode())
    assert word_ids.word_ids(other) is not None
    setattr(other, part, others[part])
    assert word_ids.word_ids(other) is None


def test_an_added_token_that_is_searched_without_case_is_left_to_the_tokenizer() -> None:
    from tokenizers import AddedToken, Tokenizer

    other: Any = Tokenizer.from_str(ENCODER.files()["tokenizer.json"].decode())
    other.add_tokens([AddedToken("Hotel", normalized=True)])
    assert word_ids.word_ids(other) is None
