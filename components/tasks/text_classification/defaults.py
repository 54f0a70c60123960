"""Measure a user's texts and derive the params from the measurements."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from components.tasks.base import ColumnStats, Fit, Setting, SourceStats
from components.tasks.shared.defaults.classification.defaults import (
    ClassCounts,
    ClassDefaults,
    check_classes,
    describe_classes,
)
from components.tasks.shared.defaults.preset_values import (
    Presets,
    with_ensemble,
    with_search,
    without_search,
)

# Columns beside texts, at most, of a source whose texts are the input.
_FEW_COLUMNS = 4
# Characters of a text, on average; of one in Han characters; and the share of different ones.
_LONG = 30
_LONG_HAN = 7
_DIFFERENT = 0.5
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
# Texts on which words and scripts are counted, and the characters of each that are read.
_SAMPLE = 4_000
_CHARACTERS = 10_000
# A Han character, a word of another script, or a mark: what the tokenizer begins with.
_UNIT = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\W\u3400-\u9fff\uf900-\ufaff]+|[^\w\s]")
_SCRIPTS = {"CJK": "han", "HIRAGANA": "kana", "KATAKANA": "kana", "HANGUL": "hangul"}
# Scripts whose words are not separated by spaces.
UNSPACED = frozenset({"han", "kana", "thai", "lao", "khmer", "myanmar", "tibetan"})
# Characters of a text that are kept: all of them, up to what the service takes by default.
_LEAST_CHARACTERS = 2_000
_CHARACTERS_BUDGET = 20_000
# Tokens that a network reads. Above _MANY_ROWS rows it reads half as many. The linear model reads
# all.
_TOKENS = 512
_LEAST_TOKENS = 32
_MANY_ROWS = 20_000
# Tokens of a word or mark, in scripts with spaces.
_PIECES = 4 / 3
# Above this share of letters without spaces between words, characters are what counts.
_MIXED = 0.5
# With fewer rows no network came near the linear model: a search would be idle.
FEW_ROWS = 4_000
_PARALLEL_ROWS = 10_000
# Below it the export to int8 takes longer than all other stages together.
_LEAST_QUANTIZED = 1_000
_BATCH = 64
_STEPS = 1_200
_LEAST_EPOCHS = 6
_MOST_EPOCHS = 30
# Rows of the table of n-grams, and weights of all classes together: 80 MB in 32 bits.
_TABLE = 300_000
_LEAST_TABLE = 20_000
_WEIGHTS = 20_000_000
# Architecture of a new pipeline, and the one that its values are chosen for.
_NETWORK = "counted"
_SPACE = {
    "architecture": {"choice": ["counted", "textcnn"]},
    "learning_rate": {"loguniform": [1.0e-3, 6.0e-3]},
    "nets.counted.n": {"choice": [2, 3, 4]},
    "nets.textcnn.dropout": {"uniform": [0.3, 0.6]},
}
_STUDENT = {
    "architecture": "textcnn",
    "nets": {"textcnn": {"width": 64, "channels": 64, "kernels": [1, 2, 3]}},
}
# Words that are frequent in one language and rare in the others.
_COMMON_WORDS = {
    "English": ("the", "and", "is", "you", "of", "this", "it", "to"),
    "German": ("der", "und", "ist", "nicht", "das", "ich", "mit", "ein"),
    "French": ("le", "et", "est", "pas", "les", "vous", "pour", "dans"),
    "Spanish": ("el", "y", "los", "una", "está", "por", "muy", "las"),
    "Italian": ("il", "che", "di", "non", "è", "per", "della", "sono"),
    "Portuguese": ("o", "não", "uma", "você", "os", "são", "isso", "com"),
    "Dutch": ("het", "een", "van", "niet", "zijn", "ook", "maar", "wij"),
    "Polish": ("nie", "się", "jest", "że", "to", "jak", "ale", "czy"),
    "Russian": ("и", "не", "в", "что", "это", "на", "как", "мы"),
    "Turkish": ("ve", "bir", "bu", "için", "çok", "değil", "ile", "ama"),
    "Indonesian": ("yang", "dan", "tidak", "ini", "itu", "dengan", "untuk", "saya"),
    "Vietnamese": ("là", "và", "không", "của", "có", "được", "cho", "người"),
}
# Characters of a text in which these words are looked for, and their share of its words.
_PROBE = 2_000
_COMMON = 0.08
# No language is named where more texts than this are unclear.
_UNKNOWN = 0.6
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
        percentiles = np.percentile(lengths or [0], (50, 95, 99))
        p50, p95, p99 = (int(np.ceil(value)) for value in percentiles)
        return cls(
            p50=p50,
            p95=p95,
            p99=p99,
            max=max(lengths, default=0),
        )

    def __str__(self) -> str:
        """Return a line for a person."""
        return f"half up to {self.p50:,}, 95% up to {self.p95:,}, longest {self.max:,}"


@dataclass(frozen=True)
class TextMeasurements:
    """Measurements of texts that the choice of params depends on."""

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
    # share of the texts whose language can be told by a few words
    languages: Mapping[str, float] = field(default_factory=dict)
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


class TextDefaults(ClassDefaults):
    """Facet defaults.py."""

    @property
    def presets(self) -> Presets:
        """Return the presets."""
        return {"fast": _fast, "best": _best}

    def fit(self, source: SourceStats, target: str | None) -> Fit:
        """Return whether the source holds texts and few other inputs."""
        if any(column.is_picture for column in source.columns.values()):
            return Fit(0.0, "there are pictures")
        if not source.is_table:
            return Fit(0.9, "the files are texts")
        others = [column for name, column in source.columns.items() if name != target]
        texts = [column for column in others if is_text(column)]
        if not texts:
            return Fit(0.0, "no column holds texts")
        longest = max(texts, key=lambda column: column.mean)
        reason = f"{longest.name!r} holds texts of {longest.mean:,.0f} characters on average"
        few_others = len(others) - len(texts) <= _FEW_COLUMNS
        return Fit(0.8 if few_others else 0.4, reason)

    def measure(self, rows: Iterable[Mapping[str, Any]], total: int) -> TextMeasurements:
        """Return lengths, scripts and classes."""
        classes = ClassCounts()
        lengths: list[int] = []
        titles = 0
        sample: list[str] = []
        # A fixed seed: equal data give equal params.
        rng = np.random.default_rng(0)
        for row in rows:
            text = row["text"]
            classes.add(row.get("label"))
            lengths.append(len(text))
            titles += bool(row.get("title"))
            # Reservoir sampling (Vitter 1985): files are often sorted by class.
            index = len(sample) if len(sample) < _SAMPLE else int(rng.integers(len(lengths)))
            if index == len(sample):
                sample.append(text[:_CHARACTERS])
            elif index < _SAMPLE:
                sample[index] = text[:_CHARACTERS]
        units = [len(_UNIT.findall(text)) for text in sample]
        return TextMeasurements(
            total=total,
            classes=classes,
            characters=Lengths.of(lengths),
            units=Lengths.of(units),
            scripts=_scripts(sample),
            languages=_languages(sample),
            titles=titles / max(len(lengths), 1),
            lengths=lengths,
            unit_lengths=units,
        )

    def describe(self, measured: TextMeasurements) -> Sequence[tuple[str, str]]:
        """Return lengths, scripts and classes for a person."""
        scripts = ", ".join(f"{name} {share:.0%}" for name, share in measured.scripts.items())
        lines = [
            ("characters of a text", str(measured.characters)),
            ("words, marks and Han characters", str(measured.units)),
            ("scripts", scripts or "no letters"),
        ]
        if measured.languages:
            shares = [f"{name} {share:.0%}" for name, share in measured.languages.items()]
            unclear = 1 - sum(measured.languages.values())
            if unclear >= _MINOR:
                shares.append(f"unclear {unclear:.0%}")
            lines.append(("languages, by common words", ", ".join(shares)))
        if measured.titles:
            lines.append(("rows with a title", f"{measured.titles:.0%}"))
        return [*lines, *describe_classes(measured.classes)]

    def check(self, measured: TextMeasurements) -> None:
        """Refuse targets that are no classes."""
        check_classes(measured.classes, number_task="tabular_regression")

    def settings(self, measured: TextMeasurements) -> Sequence[Setting]:
        """Return limits, network and effort for these texts."""
        return [*_limits(measured), *_network(measured)]

    def losses(self, measured: TextMeasurements, params: Mapping[str, Any]) -> Sequence[str]:
        """Return how many texts are cut."""
        lines = []
        number = len(measured.lengths)
        characters = params["clean"]["max_characters"]
        if cut := measured.longer_than(characters):
            where = f"clean.max_characters ({characters:,})"
            lines.append(f"{cut:,} of {number:,} texts are cut at {where}")
        tokens = params["tokenize"]["max_length"]
        longer = np.mean(np.array(measured.unit_lengths or [0]) > tokens)
        if longer:
            share = "fewer than 1%" if longer < 0.01 else f"{longer:.0%}"
            where = f"tokenize.max_length ({tokens:,} tokens)"
            lines.append(f"{share} of the texts are longer than {where}: networks read their start")
        return lines


def _fast(params: Mapping[str, Any]) -> list[Setting]:
    """Return the settings of n-grams alone: one short fit, and one linear model."""
    settings = [
        *without_search(params, epochs=6),
        Setting("tokenize.pretrained", None, "no encoder"),
        Setting("tokenize.pretrained_sha256", None, "no encoder"),
        Setting("train.architecture", "counted", "n-grams, which fit in seconds"),
        Setting("train.classical.models", ["nb_svm"], "one linear model instead of three"),
    ]
    # A search space of another architecture would be a mistake, even without a search.
    if "architecture" not in params["tune"]["space"]:
        space = {"learning_rate": _SPACE["learning_rate"]}
        settings.append(Setting("tune.space", space, "the params that counted has"))
    return settings


def _best(params: Mapping[str, Any]) -> list[Setting]:
    """Return the settings of a wide search, with an ensemble, and students of it and the best."""
    ensemble = with_ensemble(params)
    recipes = {**ensemble.value, "distilled": [{"distill": dict(_STUDENT)}]}
    reason = f"a student of the best network, {ensemble.reason}"
    return [*with_search(params), Setting("compress.recipes", recipes, reason)]


def is_text(column: ColumnStats) -> bool:
    """Return whether a column holds texts: long values, most of them different."""
    if not column.filled:
        return False
    if 2 * column.long > column.filled:
        return True
    with_han = sum(rows for value, rows in column.values.items() if _HAN.search(value))
    least = _LONG_HAN if 2 * with_han > column.filled else _LONG
    different = column.long + len(column.values)
    return column.mean >= least and (column.overflow or different > _DIFFERENT * column.filled)


def _limits(measured: TextMeasurements) -> list[Setting]:
    """Return where texts are cut: clean.max_characters, tokenize.max_length."""
    longest = measured.characters.max
    characters = _rounded(max(longest, _LEAST_CHARACTERS))
    reason = f"no text is cut: the longest has {longest:,}"
    if characters > _CHARACTERS_BUDGET:
        characters = _CHARACTERS_BUDGET
        cut = measured.longer_than(characters)
        reason = f"the budget of one text; {cut:,} of {len(measured.lengths):,} are longer"
    # Words are cut into pieces: a third more tokens than words and marks, as measured.
    factor = 1.0 if measured.unspaced > _MIXED else _PIECES
    wanted = math.ceil(measured.units.p95 * factor / 16) * 16
    budget = _TOKENS if measured.labelled <= _MANY_ROWS else _TOKENS // 2
    tokens = min(max(wanted, _LEAST_TOKENS), budget)
    about = f"95% of the texts have up to {measured.units.p95:,} words and marks"
    if wanted > budget:
        about = f"the budget of a network; {about}"
    return [
        Setting("clean.max_characters", characters, reason),
        Setting("tokenize.max_length", tokens, about),
        Setting("augment.rate", 0.0, "no rows are added: --set augment.rate=0.1 adds a tenth"),
    ]


def _network(measured: TextMeasurements) -> list[Setting]:
    """Return the architecture, its sizes, epochs, the search space and the student."""
    rows = measured.labelled
    classes = max(len(measured.classes.counts), 2)
    few = rows < FEW_ROWS
    # As many steps as the weights of n-grams need, whatever the number of rows.
    epochs = min(max(round(_STEPS * _BATCH / max(rows, 1)), _LEAST_EPOCHS), _MOST_EPOCHS)
    table = min(_TABLE, max(_LEAST_TABLE, _WEIGHTS // classes))
    spaced = measured.unspaced <= _MIXED
    vocabulary = 8_000
    if spaced:
        script = "words have spaces between them"
        longest_ngram = 3
        if rows >= 5_000:
            vocabulary = 16_000
    else:
        script = "characters are tokens"
        longest_ngram = 4
    if few:
        learning_rate = 3.0e-3
        trials = 0
    else:
        learning_rate = 1.0e-3
        trials = 4
    workers = 1 if rows < _PARALLEL_ROWS else 2
    return [
        Setting("tokenize.vocabulary_size", vocabulary, f"{rows:,} rows; {script}"),
        Setting("train.architecture", _NETWORK, "the best network on the shipped reviews"),
        Setting("train.workers", workers, f"{rows:,} rows"),
        Setting("train.epochs", epochs, f"about {_STEPS:,} steps of {_BATCH} rows, at least"),
        Setting("train.learning_rate", learning_rate, f"{rows:,} rows"),
        Setting("train.patience", 6, "n-gram weights improve in late epochs", _NETWORK),
        Setting(
            "train.label_smoothing", 0.0, "it lowered accuracy on the shipped reviews", _NETWORK
        ),
        Setting("train.nets.counted.n", longest_ngram, "tokens of the longest n-gram", _NETWORK),
        Setting(
            "train.nets.counted.rows",
            table,
            f"n-grams with weights for {classes:,} classes",
            _NETWORK,
        ),
        Setting("tune.epochs", min(epochs, 8), "enough epochs to compare networks"),
        Setting("tune.trials", trials, f"{rows:,} rows"),
        Setting("tune.space", dict(_SPACE), "the params that the search varies"),
        Setting("compress.prune", None, "counted with fewer n-grams is hardly faster", _NETWORK),
        Setting(
            "compress.distill", None, "no student beat the linear model on the shipped reviews"
        ),
        *_quantize(rows),
    ]


def _quantize(rows: int) -> list[Setting]:
    """Return that int8 is skipped where its export takes longer than all other stages."""
    if rows >= _LEAST_QUANTIZED:
        return []
    return [Setting("compress.quantize", None, f"{rows:,} rows: the network is small already")]


def _rounded(number: int) -> int:
    """Return the next number of one digit and zeros that is not smaller."""
    unit = int(10 ** (len(str(number)) - 1))
    return -(-number // unit) * unit


def _scripts(texts: Sequence[str]) -> dict[str, float]:
    """Return the share of each script in the letters of some texts."""
    counts: Counter[str] = Counter()
    for character, count in Counter("".join(texts)).items():
        if character.isalpha():
            counts[script_of(character)] += count
    total = max(sum(counts.values()), 1)
    return {name: n / total for name, n in counts.most_common() if n / total >= _MINOR}


def _languages(texts: Sequence[str]) -> dict[str, float]:
    """Return the share of texts by language; nothing where most texts cannot be told.

    This is for a person to read. No choice depends on it.
    """
    counts = Counter(_language(text[:_PROBE]) for text in texts)
    unknown = counts.pop("", 0)
    if not counts or unknown > len(texts) * _UNKNOWN:
        return {}
    return {name: n / len(texts) for name, n in counts.most_common() if n > len(texts) * _MINOR}


def _language(text: str) -> str:
    """Return the language whose common words are frequent in a text; "" if that is unclear."""
    words = Counter(text.lower().split())
    hits = {name: _occurrences(words, common) for name, common in _COMMON_WORDS.items()}
    first, second = sorted(hits, key=lambda name: -hits[name])[:2]
    is_frequent = hits[first] >= _COMMON * words.total()
    is_clear = hits[first] >= 2 * hits[second]
    return first if hits[first] and is_frequent and is_clear else ""


def _occurrences(words: Counter[str], common: Sequence[str]) -> int:
    return sum(words[word] for word in common)


@lru_cache(maxsize=65_536)
def script_of(letter: str) -> str:
    """Return the script of a letter, by the first word of its Unicode name: latin, han, thai."""
    first = unicodedata.name(letter, "other").split(" ")[0].split("-")[0]
    if first == "FULLWIDTH":
        return "latin"
    return _SCRIPTS.get(first, first.lower())


DEFAULTS = TextDefaults()
