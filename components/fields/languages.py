"""Identify the languages of texts, and filter by them.

Most scripts tell the language. For the others py3langid computes a naive Bayes score over byte
n-grams (Lui and Baldwin 2012), among the languages of this list.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from components.core.installed_packages import check_installed
from components.core.params import Strict
from components.fields.base import Reject
from components.fields.scripts import main_script

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

# ISO 639-1 codes.
LANGUAGES = (
    *("am", "ar", "bg", "bn", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "gu"),
    *("he", "hi", "hr", "hu", "hy", "id", "it", "ja", "ka", "km", "kn", "ko", "lo", "lt", "lv"),
    *("ml", "ms", "my", "nl", "no", "pa", "pl", "pt", "ro", "ru", "si", "sk", "sl", "sr", "sv"),
    *("ta", "te", "th", "tr", "uk", "ur", "vi", "zh"),
)
# Code of ISO 639-2 for a text without letters, or of which no language is likely.
UNDETERMINED = "und"
_OF_SCRIPT = {
    "greek": "el",
    "han": "zh",
    "hangul": "ko",
    "hebrew": "he",
    "kana": "ja",
    "thai": "th",
}
# Where no n-gram is known, all languages have the same probability, which is 0.02.
_LEAST_LIKELY = 0.1
# Characters that tell the language of a long text.
_MOST_CHARACTERS = 1000
# Beginning of the reasons and of the counts, before the code of a language.
LANGUAGE = "language_"
# Reason -> the param that decides it.
LANGUAGE_REASONS = {LANGUAGE + code: "clean.languages.keep" for code in LANGUAGES}


class Languages(Strict):
    """Languages of the texts that stay."""

    keep: list[str] = Field(
        [], description="Codes of the languages that stay, such as [zh, en] (empty: all, counted)."
    )
    min_probability: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Texts are filtered if all kept languages together are less probable.",
    )

    @field_validator("keep")
    @classmethod
    def _check_codes(cls, keep: list[str]) -> list[str]:
        for code in keep:
            if code not in LANGUAGES:
                raise ValueError(f"{code!r} is no known language: take from {', '.join(LANGUAGES)}")
        return keep

    def check(self, text: str) -> None:
        """Check that the language of a text is one that stays.

        A text of undetermined language stays.

        Raises:
            Reject: it is another language, which the reason names.
            EnvironmentFault: py3langid is needed and not installed.
        """
        if not self.keep:
            return
        language = language_of(text)
        if language == UNDETERMINED or language in self.keep:
            return
        probabilities = _probabilities(text)
        if sum(probabilities.get(code, 0.0) for code in self.keep) < self.min_probability:
            raise Reject(LANGUAGE + language)


def language_of(text: str) -> str:
    """Return the most probable language of a text, or `UNDETERMINED`.

    Raises:
        EnvironmentFault: py3langid is needed and not installed.
    """
    probabilities = _probabilities(text)
    language = max(probabilities, key=lambda code: probabilities[code])
    return language if probabilities[language] >= _LEAST_LIKELY else UNDETERMINED


# Cleaning asks for the same text up to three times in a row.
@lru_cache(maxsize=4)
def _probabilities(text: str) -> Mapping[str, float]:
    """Return the probability of each possible language of a text."""
    script = main_script(text)
    if script in _OF_SCRIPT:
        return {_OF_SCRIPT[script]: 1.0}
    if not any(map(str.isalpha, text)):
        return {UNDETERMINED: 1.0}
    return dict(_identifier().rank(text[:_MOST_CHARACTERS]))


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    """Return the identifier of this process.

    Raises:
        EnvironmentFault: py3langid is not installed.
    """
    check_installed("py3langid", "texts", where="clean.languages")
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier
