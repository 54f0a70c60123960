"""Judge the quality of texts by counts of their characters, as corpora of web pages do.

The rules are those of Gopher (Rae et al. 2021, arXiv:2112.11446) and ROOTS (Laurençon et al. 2022,
arXiv:2303.03915). FineWeb (Penedo et al. 2024, arXiv:2406.17557) uses most of them. They count
words, and here Chinese, Japanese and Thai are counted by characters.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

from pydantic import Field, model_validator

from components.core.params import Strict
from components.fields.base import Reject
from components.fields.scripts import SIGNS, main_script

_DIGIT = re.compile(r"\d")
_SYMBOL = re.compile(rf"[^\w\s{SIGNS}]|_")
# Scripts without spaces between words.
_UNSPACED = ("han", "kana", "thai")
_WORDS_OF_GRAM = 5
_CHARACTERS_OF_GRAM = 10
# In shorter texts, shares and entropy say little: "5 分!" is half digits and symbols.
_SHORTEST_JUDGED = 16
# Beginning of the reasons, before the name of a limit.
_REASON = "quality_"


class TextQuality(Strict):
    """Limits that a text must keep; null: no limit.

    Entropy, symbols and digits are judged in texts of 16 characters or more.
    """

    min_length: int | None = Field(None, ge=1, description="Fewest characters.")
    max_length: int | None = Field(
        None, ge=1, description="Most characters; must be below clean.max_characters."
    )
    max_repeated_lines: float | None = Field(
        0.3, ge=0, lt=1, description="Largest share of lines that repeat another (Gopher: 0.3)."
    )
    max_repeated_ngrams: float | None = Field(
        0.2,
        ge=0,
        lt=1,
        description="Largest share of text in repeated runs of 5 words or 10 characters (ROOTS).",
    )
    min_entropy: float | None = Field(
        2.0,
        ge=0,
        le=16,
        description="Least entropy of the characters in bits.",
    )
    max_symbols: float | None = Field(
        0.4, ge=0, lt=1, description="Largest share of punctuation and symbols (ROOTS: 0.4)."
    )
    max_digits: float | None = Field(
        0.4, ge=0, lt=1, description="Largest share of digits (ROOTS: 0.4 with symbols)."
    )

    @model_validator(mode="after")
    def _check_lengths(self) -> TextQuality:
        if self.min_length and self.max_length and self.min_length > self.max_length:
            raise ValueError(f"min_length must be at most max_length, which is {self.max_length}")
        return self

    def check(self, value: str, text: str) -> None:
        """Check that a text keeps all limits.

        Args:
            value: the raw text, with its lines.
            text: the cleaned text, not empty.

        Raises:
            Reject: it does not; the reason names the first limit that it breaks.
        """
        rules: tuple[tuple[str, float | None, Callable[[str], float], str], ...] = (
            ("min_length", self.min_length, len, text),
            ("max_length", self.max_length, len, text),
            ("max_symbols", self.max_symbols, _share_of_symbols, text),
            ("max_digits", self.max_digits, _share_of_digits, text),
            ("max_repeated_lines", self.max_repeated_lines, _repeated_lines, value),
            ("min_entropy", self.min_entropy, _entropy, text),
            ("max_repeated_ngrams", self.max_repeated_ngrams, _repeated_ngrams, text),
        )
        for name, limit, measure, subject in rules:
            if limit is None:
                continue
            measured = measure(subject)
            is_outside = measured > limit
            if name.startswith("min"):
                is_outside = measured < limit
            if is_outside:
                raise Reject(_REASON + name, f"{measured:.3g}")


def _repeated_lines(value: str) -> float:
    """Return the share of the lines of a raw text that repeat an earlier one."""
    lines = [line.strip() for line in value.splitlines() if line.strip()]
    if not lines:
        return 0.0
    return 1 - len(set(lines)) / len(lines)


def _repeated_ngrams(text: str) -> float:
    """Return the share of the characters in n-grams that occurred before, without overlaps."""
    words = text.split()
    if main_script(text) in _UNSPACED:
        return _repeated_share("".join(words), _CHARACTERS_OF_GRAM)
    return _repeated_share(tuple(words), _WORDS_OF_GRAM)


def _repeated_share(units: Sequence[str], n: int) -> float:
    """Return the share of the characters in repeated n-grams.

    Args:
        units: words, or a string of characters.
        n: units of a gram.
    """
    grams = [units[start : start + n] for start in range(len(units) - n + 1)]
    if len(set(grams)) == len(grams):
        return 0.0
    seen = set()
    repeated = 0
    start = 0
    while start < len(grams):
        gram = grams[start]
        if gram in seen:
            repeated += sum(map(len, gram))
            start += n
        else:
            seen.add(gram)
            start += 1
    return repeated / sum(map(len, units))


def _entropy(text: str) -> float:
    """Return the entropy of the characters in bits; infinity for a text that is not judged."""
    if len(text) < _SHORTEST_JUDGED:
        return math.inf
    repeated = sum(count * math.log2(count) for count in Counter(text).values() if count > 1)
    return math.log2(len(text)) - repeated / len(text)


def _share_of_symbols(text: str) -> float:
    """Return the share of punctuation and symbols (see `_share_of`)."""
    return _share_of(_SYMBOL, text)


def _share_of_digits(text: str) -> float:
    """Return the share of digits (see `_share_of`)."""
    return _share_of(_DIGIT, text)


def _share_of(pattern: re.Pattern[str], text: str) -> float:
    """Return the share of the characters that match, white space not counted.

    It is 0 for a text that is not judged.
    """
    if len(text) < _SHORTEST_JUDGED:
        return 0.0
    return len(pattern.findall(text)) / sum(map(len, text.split()))


# Reason -> the param that decides it.
QUALITY_REASONS = {_REASON + name: f"clean.quality.{name}" for name in TextQuality.model_fields}
