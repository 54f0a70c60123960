"""Define the fields of texts and titles, in any language."""

from __future__ import annotations

import html
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core import escaping
from components.core.sorted_arrays import distinct
from components.fields.base import Change, Reject, Summary
from components.fields.languages import LANGUAGE, LANGUAGE_REASONS, Languages, language_of
from components.fields.markup import without_tags
from components.fields.privacy import IGNORE, Privacy
from components.fields.quality import QUALITY_REASONS, TextQuality
from components.fields.scripts import SIGNS, main_script
from components.fields.text_form import PLAIN, TextForm

# A letter or a digit.
_LETTER = re.compile(r"[^\W_]")
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# Han characters, or a word of another script.
_RUN = re.compile(
    r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
    r"|(?:[^\W_\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|[" + SIGNS + "])+"
)
_LONGEST_WORD = 30
_GRAM = 3
# Of a character of which it is not known yet whether it is significant.
_UNKNOWN = -1
# Between texts that are folded together.
_SEPARATOR = ord("\n")
# Of the number of a gram, beside which the number of a text or of a pair has room.
_ID_BITS = 32
# Text that is escaped twice is common. A dozen times is an attack.
_PASSES = 12
# MinHash: a pair of Jaccard similarity 0.8 shares a band with a probability of
# 1 - (1 - 0.8^4)^32 > 0.9999.
_BANDS = 32
_ROWS = 4
_MIXER = np.uint64(0x9E3779B97F4A7C15)
# (hashes, 2): an odd multiplier, and an offset.
_HASHES = np.random.default_rng(20261122).integers(
    0, 1 << 32, size=(_BANDS * _ROWS, 2), dtype=np.uint32
) | np.array([1, 0], dtype=np.uint32)
# Bounds the memory of one pass over many texts.
_CHARACTERS_AT_ONCE = 1 << 20

_NON_JOINER = "\u200c"
_JOINER = "\u200d"
# Followed by tag characters it is the flag of a region.
_BLACK_FLAG = "\U0001f3f4"
_TAG_CHARACTER = re.compile(r"[\U000e0020-\U000e007f]")
# Skin tones of emoji.
_TONES = "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
_VARIATION = re.compile(r"[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
# Scripts in which a joiner or a non-joiner between two letters is spelling: Arabic to Sinhala,
# Myanmar, Khmer and Mongolian.
_JOINED_SCRIPTS = re.compile(r"[\u0600-\u0dff\u1000-\u109f\u1780-\u18af]")
# Emoticons count like emoji. Letters and digits after a colon do not form one: "8:30".
_EMOTICON = re.compile(r"([:;=][-'^]?[()\[\]\\|*@$]|\^_*\^|-_+-|>_+<)")
_DECIMAL_POINT = re.compile(r"(?<=\d)\.(?=\d)")
# Reason for which a row is dropped, and the beginning of the changes by kind of data.
PERSONAL_DATA = "personal_data"
_PRIVATE = "private_"
# Reason for which a usable text is filtered by choice -> the param that decides it.
FILTER_REASONS: Mapping[str, str] = {
    PERSONAL_DATA: "clean.private",
    **QUALITY_REASONS,
    **LANGUAGE_REASONS,
}
_MARKS_THAT_COUNT = "!?#%+"
_SYMBOLS_THAT_DO_NOT = "~`^|"


class _Significant:
    """Table of the characters that are significant. It fills itself on use.

    Args:
        marks: punctuation that is significant, too.
    """

    def __init__(self, marks: str) -> None:
        self._marks = marks
        self._table = np.full(sys.maxunicode + 1, _UNKNOWN, np.int8)

    def of(self, codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Return (n,) whether each of the code points (n,) is significant."""
        stays = self._table[codes]
        if (stays == _UNKNOWN).any():
            for code in distinct(codes[stays == _UNKNOWN]).tolist():
                char = chr(code)
                self._table[code] = char in self._marks or _is_significant(char)
            stays = self._table[codes]
        is_significant: NDArray[np.bool_] = stays == 1
        return is_significant


def _is_significant(char: str) -> bool:
    """Return whether a character is a letter, a digit, a combining sign or a symbol.

    Emoji are symbols.
    """
    if _VARIATION.match(char) or char in _SYMBOLS_THAT_DO_NOT:
        return False
    return (
        unicodedata.category(char)[0] in "LNMS"
        or char.isalnum()
        or _TAG_CHARACTER.match(char) is not None
    )


_FOR_EQUALITY = _Significant(_MARKS_THAT_COUNT)
_FOR_SIMILARITY = _Significant("")


def comparable(texts: Sequence[str]) -> list[str]:
    """Return the forms of texts by which these are compared for equality.

    Entities, width and case are folded. White space and plain punctuation are dropped. Emoji,
    emoticons, question and exclamation marks stay, because they change the meaning.
    """
    # Between digits the point distinguishes 3.5 from 35. U+2396 does not occur in texts.
    folded = _DECIMAL_POINT.sub("\u2396", _folded(texts))
    codes = _codes(folded)
    stays = _FOR_EQUALITY.of(codes)
    stays |= codes == _SEPARATOR
    for emoticon in _EMOTICON.finditer(folded):
        stays[emoticon.start() : emoticon.end()] = True
    return _text_of(codes[stays]).split("\n")[: len(texts)]


def _folded(texts: Sequence[str]) -> str:
    """Return texts as one, with entities, width and case folded. A line feed separates them.

    They are folded together, which costs a fraction of folding each.
    """
    lines = [html.unescape(text).replace("\n", " ") for text in texts]
    return unicodedata.normalize("NFKC", "\n".join(lines)).lower()


def _codes(text: str) -> NDArray[np.uint32]:
    """Return the code points (n,) of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _text_of(codes: NDArray[np.uint32]) -> str:
    """Return the text of code points (n,)."""
    return codes.tobytes().decode("utf-32-le", "surrogatepass")


def _content(texts: Sequence[str]) -> NDArray[np.uint32]:
    """Return the letters, digits, combining signs and symbols of texts, as code points.

    Similarity is measured on them. `_SEPARATOR` separates the texts.
    """
    codes = _codes(_folded(texts))
    content: NDArray[np.uint32] = codes[_FOR_SIMILARITY.of(codes) | (codes == _SEPARATOR)]
    return content


def _has_content(text: str, least: int) -> bool:
    """Return whether a text has at least `least` letters, digits and combining signs.

    One emoji or emoticon is enough.
    """
    # Nearly every text has enough of them in its first characters.
    if sum(1 for _ in islice(_LETTER.finditer(text), least)) >= least:
        return True
    categories = [unicodedata.category(char) for char in _text_of(_content([text]))]
    if sum(category[0] in "LNM" for category in categories) >= least:
        return True
    return "So" in categories or _EMOTICON.search(text) is not None


def _readable(text: str, form: TextForm) -> tuple[str, int]:
    """Return a text cleaned once, and the number of tags that were removed."""
    untagged, tags = without_tags(html.unescape(text))
    printable = _without_controls(form.composed(untagged))
    return form.rewritten(" ".join(printable.split())), tags


def _without_controls(text: str) -> str:
    """Return a text without controls, formats, surrogates and private use characters.

    Joiners stay where they are spelling.
    """
    if text.isprintable():
        return text
    result: list[str] = []
    for index, char in enumerate(text):
        if unicodedata.category(char)[0] != "C":
            result.append(char)
        elif char.isspace():
            result.append(" ")
        elif result and _is_spelling(char, result[-1], text[index + 1 : index + 2]):
            result.append(char)
    return "".join(result)


def _is_spelling(char: str, before: str, after: str) -> bool:
    """Return whether a format character belongs to the characters around it.

    It may be part of an emoji sequence, of a flag, or of a word in a script with joined letters.

    Args:
        char: the format character.
        before: the character before it.
        after: the character after it, or "".
    """
    if _TAG_CHARACTER.match(char):
        return before == _BLACK_FLAG or _TAG_CHARACTER.match(before) is not None
    if char not in (_NON_JOINER, _JOINER) or not after:
        return False
    if _JOINED_SCRIPTS.match(before) and _JOINED_SCRIPTS.match(after):
        return _is_significant(before) and _is_significant(after)
    is_emoji = (
        before in _TONES
        or _VARIATION.match(before) is not None
        or unicodedata.category(before) == "So"
    )
    return char == _JOINER and is_emoji and unicodedata.category(after) == "So"


def _is_plain(text: str, before: str, form: TextForm) -> bool:
    """Return whether cleaning surely changes no more of a text.

    Without markup there is no entity and no tag. Where nothing but white space is unprintable,
    nothing was removed between characters that can be composed. A form that rewrites characters
    may have made a phrase that it rewrites, too.

    Args:
        text: cleaned once.
        before: the text before that.
        form: of the characters.
    """
    if "<" in text or "&" in text or "&" in before or form.rewritten(text) != text:
        return False
    return before.isprintable() or "".join(before.split()).isprintable()


def _fully_cleaned(value: str, form: TextForm) -> tuple[str, int]:
    """Return a text cleaned until it no longer changes, and the number of removed tags.

    Args:
        value: the raw text.
        form: of the characters.

    Raises:
        Reject: the text is escaped many times over.
    """
    text = value
    count = 0
    # Each step may uncover work for an earlier one, such as an entity inside an entity, or a
    # tag in full-width signs.
    for _ in range(_PASSES):
        before = text
        text, tags = _readable(text, form)
        count += tags
        if text == before or _is_plain(text, before, form):
            return text, count
    raise Reject("not_text", "escaped many times over")


def normalized(
    value: str,
    max_characters: int,
    privacy: Privacy = IGNORE,
    form: TextForm = PLAIN,
) -> str:
    """Return the form of a text that models see; "" where nothing in it is readable.

    Args:
        value: the raw text.
        max_characters: longer texts are cut, after their personal data are replaced.
        privacy: the treatment of personal data.
        form: of the characters.

    Raises:
        Reject: the text is escaped many times over.
        EnvironmentFault: the form needs a library that is not installed.
    """
    text, _ = _fully_cleaned(value, form)
    before = ""
    # A cut may turn the beginning of a long number into a phone number, and of a phrase into
    # another one.
    while text != before:
        before = text
        protected = privacy.protect(text)
        if protected != text:
            protected, _ = _fully_cleaned(protected, form)
        text = form.rewritten(protected[:max_characters].rstrip(f" {_NON_JOINER}{_JOINER}"))
    return text if _has_content(text, 1) else ""


def _numbers(codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return (n - 2,) a number for each three adjacent code points of n."""
    grams: NDArray[np.uint64] = (
        codes[:-2] * np.uint64(1 << 42) ^ codes[1:-1] * np.uint64(1 << 21) ^ codes[2:]
    )
    return grams


def _gram_codes(values: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the character 3-grams of the contents of texts.

    A content of fewer than four characters is padded with zeros.

    Args:
        values: n texts, at least one.

    Returns:
        (grams,) as numbers, text by text; (n,) where those of each text begin.
    """
    content = _content(values)
    lines = _lengths(content)
    if not lines.all():
        # Texts of nothing but punctuation are compared by that.
        contents = _text_of(content).split("\n")
        forms = [line or form for line, form in zip(contents, comparable(values), strict=True)]
        content = _codes("\n".join(forms))
        lines = _lengths(content)
    lengths = np.maximum(lines, _GRAM + 1)
    ends = np.cumsum(lengths)
    codes = np.zeros(ends[-1], np.uint64)
    shifts = (ends - lengths) - (np.cumsum(lines) - lines)
    codes[np.arange(lines.sum()) + np.repeat(shifts, lines)] = content[content != _SEPARATOR]
    grams = _numbers(codes)
    # Those that begin in the last two places of a text would reach into the next one.
    is_gram = np.ones(len(codes), dtype=bool)
    is_gram[ends - 1] = False
    is_gram[ends - 2] = False
    counts = lengths - _GRAM + 1
    return grams[is_gram[:-2]], np.cumsum(counts) - counts


def _lengths(content: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return (n,) the numbers of code points of the n texts of a content."""
    ends = np.append(np.flatnonzero(content == _SEPARATOR), len(content))
    lengths: NDArray[np.int64] = np.diff(ends, prepend=-1) - 1
    return lengths


def _sets(
    grams: NDArray[np.uint64], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the different grams of each text as small numbers, in ascending order.

    Args:
        grams: (grams,) of n texts.
        starts: (n,) where those of each text begin.

    Returns:
        (m,) numbers below `1 << _ID_BITS`, text by text; (n,) where those of each text end.
    """
    order = np.argsort(grams)
    is_new = np.diff(grams[order], prepend=grams[order[:1]]) != 0
    ids = np.empty(len(grams), np.int64)
    ids[order] = np.cumsum(is_new)
    texts = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(grams)))
    keys = distinct((texts << _ID_BITS) + ids)
    ends = np.searchsorted(keys, (np.arange(len(starts)) + 1) << _ID_BITS)
    return keys & ((1 << _ID_BITS) - 1), ends


def _of_pairs(
    sets: NDArray[np.int64], ends: NDArray[np.int64], texts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the grams of the text of each pair; the number of the pair is in the upper bits.

    Args:
        sets: grams of all texts.
        ends: (n,) where those of each text end.
        texts: (pairs,) a text of each pair.
    """
    sizes = np.diff(ends, prepend=0)[texts]
    numbers = np.repeat(np.arange(len(texts)), sizes)
    first = ends[texts] - sizes
    positions = np.arange(len(numbers)) + np.repeat(first - (np.cumsum(sizes) - sizes), sizes)
    in_pairs: NDArray[np.int64] = (numbers << _ID_BITS) + sets[positions]
    return in_pairs


def _batches(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield texts in batches of a bounded number of characters, which bounds the memory."""
    start = 0
    characters = 0
    for stop, value in enumerate(values, 1):
        characters += len(value)
        if characters >= _CHARACTERS_AT_ONCE:
            yield values[start:stop]
            start = stop
            characters = 0
    if start < len(values):
        yield values[start:]


def _minhash(grams: NDArray[np.uint64], starts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the MinHash bands (n, `_BANDS`) of n texts (Broder 1997).

    The hashes are multiplications modulo 2^32 of a number into which a gram is hashed
    (Dietzfelbinger et al. 1997). The upper bits, which decide the least one, depend on all bits.

    Args:
        grams: (grams,) of all texts; one that occurs twice has the same least hashes.
        starts: (n,) where those of each text begin.
    """
    mixed = (grams * _MIXER >> np.uint64(32)).astype(np.uint32)
    hashed = np.empty_like(mixed)
    bands = np.zeros((_BANDS, len(starts)), dtype=np.uint64)
    for number, (multiplier, offset) in enumerate(_HASHES):
        np.multiply(mixed, multiplier, out=hashed)
        hashed += offset
        band = bands[number // _ROWS]
        band *= np.uint64(1_000_003)
        band += np.minimum.reduceat(hashed, starts)
    return np.ascontiguousarray(bands.T)


class Text:
    """A string.

    Args:
        min_characters: a text with fewer letters and digits is of no use for learning. One emoji
            is enough.
        max_characters: longer texts are cut.
        privacy: the treatment of personal data.
        form: of the characters.
        quality: limits of texts that are learned from; None: none.
        languages: the languages of texts that are learned from; None: they are not identified.
    """

    arrow = pa.string()
    noun = "texts"
    equality = "equal but for case, width, spaces and plain punctuation"
    knobs: Mapping[str, str] = {"too_short": "clean.min_characters", **FILTER_REASONS}

    def __init__(
        self,
        min_characters: int = 1,
        max_characters: int = 100_000,
        *,
        privacy: Privacy = IGNORE,
        form: TextForm = PLAIN,
        quality: TextQuality | None = None,
        languages: Languages | None = None,
    ) -> None:
        self.min_characters = min_characters
        self.max_characters = max_characters
        self.privacy = privacy
        self.form = form
        self.quality = quality
        self.languages = languages

    def normalize(self, value: Any) -> str:
        """Return the text after entities, tags, NFKC, control characters and white space.

        The form of the characters may keep their width, and rewrite some.

        Personal data are replaced if the params say so. A normalized text does not change.

        Raises:
            Reject: the value is no text, is empty, or is escaped many times over.
        """
        if not isinstance(value, str):
            raise Reject("not_text", type(value).__name__)
        text = normalized(value, self.max_characters, self.privacy, self.form)
        if not text:
            raise Reject("empty")
        return text

    def clean(self, value: Any) -> str:
        """Return the normalized text.

        Raises:
            Reject: as `normalize`, the text is too short to learn from, or a filter takes it.
        """
        text = self.normalize(value)
        if not _has_content(text, self.min_characters):
            raise Reject("too_short", text)
        self._check_privacy(value, text)
        if self.quality:
            self.quality.check(value, text)
        if self.languages:
            self.languages.check(text)
        return text

    def _check_privacy(self, value: str, text: str) -> None:
        """Check that a text has no personal data, if their rows are dropped.

        Args:
            value: the raw text.
            text: the normalized text, which may be cut within a number.

        Raises:
            Reject: it has.
        """
        if self.privacy.mode != "drop":
            return
        if self._may_be_cut(text):
            text, _ = _fully_cleaned(value, self.form)
        kinds = self.privacy.counts(text)
        if kinds:
            raise Reject(PERSONAL_DATA, ", ".join(sorted(kinds)))

    def _may_be_cut(self, text: str) -> bool:
        """Return whether a normalized text may have lost its end."""
        # At most a space and a joiner are stripped after a cut.
        return len(text) > self.max_characters - 3

    def redacted(self, value: str) -> str:
        """Return a raw text for the quarantine, without personal data that are kept out."""
        with suppress(Reject):
            return self.privacy.redact(_fully_cleaned(value, self.form)[0])
        return ""

    def changes(self, value: Any, cleaned: Any) -> Mapping[str, Change]:
        """Return the changes "cut" (in characters) and "tags" (in HTML tags).

        "private_phone" and the like are in numbers of personal data, which only a report leaves.
        "language_zh" and the like take nothing from a text.
        """
        result: dict[str, Change] = {}
        if self.languages:
            result[LANGUAGE + language_of(cleaned)] = Change(0, 0)
        may_have_tags = "<" in value or "&" in value or "\uff1c" in value
        may_be_cut = self._may_be_cut(cleaned)
        may_be_protected = self.privacy.replaces and "<" in cleaned
        whole = cleaned
        tags = 0
        if may_have_tags or may_be_cut or may_be_protected:
            whole, tags = _fully_cleaned(value, self.form)
        if may_be_protected or self.privacy.mode == "report":
            for kind, count in self.privacy.counts(whole).items():
                result[f"{_PRIVATE}{kind}"] = Change(count, count)
            whole = self.privacy.protect(whole)
        if len(whole) > self.max_characters:
            result["cut"] = Change(len(whole) - len(cleaned), len(whole))
        if tags:
            result["tags"] = Change(tags, tags)
        return result

    def describe_change(self, change: str, summary: Summary) -> str:
        """Return the line of one kind of change."""
        if change == "cut":
            lost = f"{summary.share_lost} of their characters lost"
            return (
                f"{summary.rows_of_all(self.noun)} cut at {self.max_characters:,} characters "
                f"({lost}): clean.max_characters"
            )
        if change.startswith(LANGUAGE):
            language = change.removeprefix(LANGUAGE)
            return f"{summary.rows_of_all(self.noun)} are in {language}: clean.languages"
        if change.startswith(_PRIVATE):
            verb = "are replaced" if self.privacy.replaces else "stay"
            kind = change.removeprefix(_PRIVATE)
            return (
                f"{summary.rows_of_all(self.noun)} have personal data of the kind {kind} "
                f"({summary.lost:,.0f}, which {verb}): clean.private"
            )
        return (
            f"{summary.lost:,.0f} HTML tags taken out of {summary.rows_of_all(self.noun)}; "
            "their text stays"
        )

    def keys(self, values: Sequence[Any]) -> list[str]:
        """Return the keys of texts, which equal texts share (see `comparable`)."""
        keys: list[str] = []
        for batch in _batches(values):
            keys += comparable(batch)
        return keys

    def lsh_bands(self, values: Sequence[Any]) -> NDArray[np.uint64] | None:
        """Return MinHash bands (n, 32) over character 3-grams."""
        parts = [_minhash(*_gram_codes(batch)) for batch in _batches(values)]
        return np.concatenate([np.empty((0, _BANDS), np.uint64), *parts])

    def similarities(
        self, values: Sequence[Any], pairs: Sequence[tuple[int, int]]
    ) -> NDArray[np.float64]:
        """Return the Jaccard similarities (pairs,) of the character 3-grams."""
        grams, starts = _gram_codes(values)
        sets, ends = _sets(grams, starts)
        one, other = np.array(pairs, np.int64).reshape(-1, 2).T
        sizes = np.diff(ends, prepend=0)
        both = np.concatenate([_of_pairs(sets, ends, one), _of_pairs(sets, ends, other)])
        # Two sorted parts, which the stable sort merges.
        both.sort(kind="stable")
        in_both = both[1:][both[1:] == both[:-1]]
        shared = np.bincount(in_both >> _ID_BITS, minlength=len(pairs))
        similarities: NDArray[np.float64] = shared / (sizes[one] + sizes[other] - shared)
        return similarities

    def profile(self, value: Any) -> Mapping[str, float | str]:
        """Return the length in characters and the main script."""
        return {"length": float(len(value)), "script": main_script(value)}

    def pieces(self, value: Any) -> Sequence[str]:
        """Return pairs of adjacent Han characters, and words of other scripts in lower case."""
        pieces: list[str] = []
        for run in _RUN.findall(value.lower()):
            if _HAN.match(run):
                pieces += [run[i : i + 2] for i in range(max(1, len(run) - 1))]
            else:
                pieces.append(run[:_LONGEST_WORD])
        return pieces

    def vector(self, value: Any) -> NDArray[np.float32] | None:  # noqa: ARG002
        """Return None: drift uses the pieces of texts."""
        return None

    def show(self, value: Any) -> str:
        """Return the text escaped for HTML."""
        return escaping.html(str(value))


class Title(Text):
    """A line above a text. A missing title is the empty string."""

    noun = "titles"

    def normalize(self, value: Any) -> str:
        """Return the normalized title, which is empty where nothing in it is readable.

        Raises:
            Reject: the value is no text, or is escaped many times over.
        """
        try:
            return "" if value is None else super().normalize(value)
        except Reject as error:
            if error.reason != "empty":
                raise
            return ""

    def clean(self, value: Any) -> str:
        """Return the normalized title.

        Raises:
            Reject: as `normalize`, or it has personal data whose rows are dropped.
        """
        title = self.normalize(value)
        if title:
            self._check_privacy(value, title)
        return title

    def changes(self, value: Any, cleaned: Any) -> Mapping[str, Change]:
        """Return the changes of a title that is not empty."""
        return super().changes(value, cleaned) if cleaned else {}

    def lsh_bands(self, values: Sequence[Any]) -> NDArray[np.uint64] | None:  # noqa: ARG002
        """Return None: the texts alone decide whether two rows are near-duplicates."""
        return None

    def profile(self, value: Any) -> Mapping[str, float | str]:  # noqa: ARG002
        """Return no statistics: those of the text are enough."""
        return {}
