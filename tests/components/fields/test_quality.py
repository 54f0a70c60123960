"""Filters of texts of poor quality: each rule takes what it should, and no plain sentence."""

from __future__ import annotations

import pytest
from stage_runner import sentences

from components.fields.base import Reject
from components.fields.quality import QUALITY_REASONS, TextQuality
from components.fields.text import Text

CHINESE = "房间很干净,位置也好,早餐一般,下次还会来住。"
ENGLISH = "The room was clean, breakfast was poor, and we would still come back next year."


def reason_of(text: str, **limits: object) -> str | None:
    """The reason for which clean filters a text, or none."""
    field = Text(quality=TextQuality.model_validate(limits))
    try:
        field.clean(text)
    except Reject as error:
        assert field.knobs[error.reason].startswith("clean.quality.")
        return error.reason
    return None


@pytest.mark.parametrize(
    "text", [CHINESE, ENGLISH, "好!", "5分", "👍", "이 방은 깨끗하고 조용했어요", "ดีมากๆ"]
)
def test_plain_texts_stay(text: str) -> None:
    assert reason_of(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("非常不错的" * 8, "max_repeated_ngrams"),
        (CHINESE * 2, "max_repeated_ngrams"),
        ("buy now and save a lot " * 3, "max_repeated_ngrams"),
        ("好评\n差评\n好评\n好评", "max_repeated_lines"),
        ("哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈", "min_entropy"),
        ("烦" + "!" * 15, "max_symbols"),
        ("_______ hm _______ hm", "max_symbols"),
        ("加 qq 673946022 有优惠", "max_digits"),
    ],
)
def test_a_rule_takes_what_it_should(text: str, reason: str) -> None:
    assert reason_of(text) == f"quality_{reason}"
    assert reason_of(text, **{reason: None}) != f"quality_{reason}"


def test_lengths_are_off_until_they_are_set() -> None:
    assert reason_of(CHINESE, min_length=len(CHINESE), max_length=len(CHINESE)) is None
    assert reason_of(CHINESE, min_length=len(CHINESE) + 1) == "quality_min_length"
    assert reason_of(CHINESE, max_length=len(CHINESE) - 1) == "quality_max_length"
    with pytest.raises(ValueError, match="at most max_length, which is 5"):
        TextQuality(min_length=6, max_length=5)


def test_a_short_text_is_not_judged_by_entropy() -> None:
    assert reason_of("哈" * 15, max_repeated_ngrams=None) is None
    assert reason_of("哈" * 16, max_repeated_ngrams=None) == "quality_min_entropy"


def test_generated_reviews_stay() -> None:
    assert [row["text"] for row in sentences(400) if reason_of(row["text"])] == []


def test_each_limit_has_a_reason_and_serving_answers_all_texts() -> None:
    assert set(QUALITY_REASONS.values()) == {
        f"clean.quality.{name}" for name in TextQuality.model_fields
    }
    assert Text(quality=TextQuality()).normalize("烦" + "!" * 20) == "烦" + "!" * 20
