"""What is measured on somebody's texts, and the params that follow."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from components.tasks.base import Setting
from components.tasks.classification.defaults import (
    ClassCounts,
    check_classes,
    describe_classes,
    effort_settings,
)

# Words and scripts are counted on so many texts, and on so many characters of each.
_SAMPLE = 4_000
_CHARACTERS = 10_000
# A Han character, a word of another script, or a mark: what the tokenizer begins with.
_UNIT = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\W\u3400-\u9fff\uf900-\ufaff]+|[^\w\s]")
_SCRIPTS = {"CJK": "han", "HIRAGANA": "kana", "KATAKANA": "kana", "HANGUL": "hangul"}
# Scripts whose words are not separated by spaces.
UNSPACED = frozenset({"han", "kana", "thai", "lao", "khmer", "myanmar", "tibetan"})
# A script with a smaller share of the letters counts as quotations, names and the like.
_MINOR = 0.05


@dataclass(frozen=True)
class Lengths:
    """Percentiles of the lengths of texts."""

    p50: int
    p95: int
    p99: int
    max: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Lengths:
        """Return the percentiles of some lengths."""
        p50, p95, p99 = (int(np.ceil(each)) for each in np.percentile(lengths or [0], (50, 95, 99)))
        return cls(p50=p50, p95=p95, p99=p99, max=max(lengths, default=0))

    def __str__(self) -> str:
        """Return a line for a person."""
        return f"half up to {self.p50:,}, 95% up to {self.p95:,}, longest {self.max:,}"


@dataclass(frozen=True)
class TextMeasurements:
    """What the choices for texts depend on."""

    # of the whole source, or of its first 100,000 rows times the share that was read
    total: int
    classes: ClassCounts
    characters: Lengths
    # Han characters, words and marks: at least one token each
    units: Lengths
    # share of the letters by script, the greatest first; minor ones are left out
    scripts: Mapping[str, float]
    # share of rows that have a title
    titles: float
    # characters of each text that was read
    lengths: Sequence[int] = field(repr=False, default=())
    # units of each text of a sample
    unit_lengths: Sequence[int] = field(repr=False, default=())

    @property
    def labelled(self) -> int:
        """Return the estimated number of rows with a label."""
        seen = max(self.classes.rows, 1)
        return round(self.total * (1 - self.classes.unlabelled / seen))

    @property
    def unspaced(self) -> float:
        """Return the share of letters in scripts that write no spaces between words."""
        return sum(share for script, share in self.scripts.items() if script in UNSPACED)

    def longer_than(self, characters: int) -> int:
        """Return how many of the texts that were read have more characters."""
        return sum(length > characters for length in self.lengths)


class TextDefaults:
    """Facet defaults.py."""

    def measure(self, rows: Iterable[Mapping[str, Any]], total: int) -> TextMeasurements:
        """Return lengths, scripts and classes."""
        classes, lengths, titles = ClassCounts(), list[int](), 0
        sample: list[str] = []
        # A fixed seed: equal data give equal params.
        rng = np.random.default_rng(0)
        for row in rows:
            text = row["text"]
            classes.add(row.get("label"))
            lengths.append(len(text))
            titles += bool(row.get("title"))
            # Reservoir sampling (Vitter 1985): files are often sorted by class.
            place = len(sample) if len(sample) < _SAMPLE else int(rng.integers(len(lengths)))
            if place == len(sample):
                sample.append(text[:_CHARACTERS])
            elif place < _SAMPLE:
                sample[place] = text[:_CHARACTERS]
        units = [len(_UNIT.findall(text)) for text in sample]
        return TextMeasurements(
            total=total,
            classes=classes,
            characters=Lengths.of(lengths),
            units=Lengths.of(units),
            scripts=_scripts(sample),
            titles=titles / max(len(lengths), 1),
            lengths=lengths,
            unit_lengths=units,
        )

    def describe(self, measured: TextMeasurements) -> Sequence[tuple[str, str]]:
        """Return lengths, scripts and classes for a person."""
        scripts = ", ".join(f"{name} {share:.0%}" for name, share in measured.scripts.items())
        lines = [
            ("characters of a text", str(measured.characters)),
            ("words and marks", str(measured.units)),
            ("scripts", scripts or "no letters"),
        ]
        if measured.titles:
            lines.append(("rows with a title", f"{measured.titles:.0%}"))
        return [*lines, *describe_classes(measured.classes)]

    def check(self, measured: TextMeasurements) -> None:
        """Refuse targets that are no classes."""
        check_classes(measured.classes)

    def settings(self, measured: TextMeasurements) -> Sequence[Setting]:
        """Return limits, network and effort for these texts."""
        return [*_limits(measured), *_network(measured), *effort_settings(measured.labelled)]

    def losses(self, measured: TextMeasurements, params: Mapping[str, Any]) -> Sequence[str]:
        """Return how many texts are cut."""
        lines = []
        number = len(measured.lengths)
        characters = params["clean"]["max_characters"]
        if cut := measured.longer_than(characters):
            where = f"clean.max_characters ({characters:,})"
            lines.append(f"{cut:,} of {number:,} texts are cut at {where}")
        tokens = params["tokenize"]["max_length"]
        shares = np.array(measured.unit_lengths or [0]) > tokens
        if shares.any():
            where = f"tokenize.max_length ({tokens:,} tokens)"
            lines.append(f"networks read {shares.mean():.0%} of the texts only up to {where}")
        return lines


def _limits(measured: TextMeasurements) -> list[Setting]:  # noqa: ARG001
    """Return where texts are cut: clean.max_characters, tokenize.max_length."""
    return []


def _network(measured: TextMeasurements) -> list[Setting]:  # noqa: ARG001
    """Return the architecture, its sizes, epochs, the search space and the student."""
    return []


def _scripts(texts: Sequence[str]) -> dict[str, float]:
    """Return the share of each script in the letters of some texts."""
    counts: Counter[str] = Counter()
    for character, count in Counter("".join(texts)).items():
        if character.isalpha():
            counts[script_of(character)] += count
    total = max(sum(counts.values()), 1)
    return {name: n / total for name, n in counts.most_common() if n / total >= _MINOR}


@lru_cache(maxsize=65_536)
def script_of(letter: str) -> str:
    """Return the script of a letter, by the first word of its Unicode name: latin, han, thai."""
    first = unicodedata.name(letter, "other").split(" ")[0].split("-")[0]
    if first == "FULLWIDTH":
        return "latin"
    return _SCRIPTS.get(first, first.lower())


DEFAULTS = TextDefaults()
