"""Languages of texts: identified by script or n-grams, filtered, and counted."""

from __future__ import annotations

import pytest

from components.core import installed_packages
from components.core.errors import EnvironmentFault
from components.fields import languages
from components.fields.base import Reject, Summary
from components.fields.languages import UNDETERMINED, Languages, language_of
from components.fields.text import Text, Title

SENTENCES = {
    "zh": "房间很干净,早餐一般,下次还会来住。",
    "en": "The room was clean, but breakfast was poor.",
    "ja": "部屋はとてもきれいで、朝食も美味しかったです。",
    "ko": "방이 깨끗하고 조용해서 좋았습니다.",
    "de": "Das Zimmer war sauber, aber das Frühstück war schlecht.",
    "fr": "La chambre était propre, mais le petit déjeuner était mauvais.",
    "es": "La habitación estaba limpia, pero el desayuno era malo.",
    "ru": "Номер был чистым, но завтрак был плохим.",
    "ar": "كانت الغرفة نظيفة ولكن الإفطار كان سيئا.",
    "hi": "कमरा साफ था लेकिन नाश्ता खराब था।",
    "th": "ห้องสะอาดมากแต่อาหารเช้าไม่อร่อย",
    "ta": "அறை சுத்தமாக இருந்தது.",
}


@pytest.mark.parametrize(("language", "text"), SENTENCES.items())
def test_a_sentence_is_identified(language: str, text: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["👍👍", "2009-6-13 9:36", "3.5 !!!", "ok"])
def test_a_text_that_tells_no_language_is_undetermined_and_stays(text: str) -> None:
    assert language_of(text) == UNDETERMINED
    assert Text(languages=Languages(keep=["zh", "en"])).clean(text) == text


def test_other_languages_are_filtered_with_a_reason_each() -> None:
    field = Text(languages=Languages(keep=["zh", "en"]))
    for language, text in SENTENCES.items():
        if language in ("zh", "en"):
            assert field.clean(text) == text
            continue
        with pytest.raises(Reject) as caught:
            field.clean(text)
        assert caught.value.reason == f"language_{language}"
        assert field.knobs[caught.value.reason] == "clean.languages.keep"
        assert field.normalize(text) == text


def test_short_and_mixed_texts_of_kept_languages_stay() -> None:
    field = Text(languages=Languages(keep=["zh", "en"]))
    # py3langid takes the first for Norwegian.
    text = "Fiat mulls Ferrari market listing"
    assert language_of(text) != "en" and field.clean(text) == text
    assert field.clean("thinkpad x60s 很好用") == "thinkpad x60s 很好用"


def test_a_report_counts_languages_and_titles_are_not_identified() -> None:
    field = Text(languages=Languages())
    text = SENTENCES["fr"]
    (kind,) = field.changes(text, field.clean(text))
    assert kind == "language_fr"
    summary = Summary(2, 5, 0, 0, {})
    assert field.describe_change(kind, summary) == "2 of 5 texts are in fr: clean.languages"
    assert Title().changes(text, text) == {}


def test_an_unknown_code_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'cn' is no known language: take from am, ar"):
        Languages(keep=["cn"])


def test_a_missing_library_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    languages._identifier.cache_clear()
    languages._probabilities.cache_clear()
    monkeypatch.setattr(installed_packages, "find_spec", lambda name: None)
    assert language_of(SENTENCES["zh"]) == "zh"
    with pytest.raises(EnvironmentFault, match="needs py3langid") as caught:
        language_of(SENTENCES["en"])
    assert ".[texts]" in str(caught.value.remedy)
