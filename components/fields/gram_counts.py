"""Count the n-grams of characters and words, in numpy. Fitting and serving use the same code.

An n-gram is identified by a key of 44 bits: 5 for its kind, and 39 of a hash of its characters.
Among a million n-grams of a kind about one pair is expected to share a key.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Analyzer = Literal["char", "char_wb", "word"]
Integers = NDArray[np.int64]

LONGEST = 8
ANALYZERS: tuple[Analyzer, ...] = get_args(Analyzer)
_KEY_BITS = 44
_HASH_BITS = 39
_KEY_MASK = (1 << _KEY_BITS) - 1
# Texts are counted together in chunks of this many characters or texts. The number of a text in
# its chunk has 19 bits, above those of a key.
_CHUNK_CHARACTERS = 1 << 20
_CHUNK_TEXTS = 1 << 18
# Shares of letters in scripts without spaces from which texts have no words, and up to which they
# have little else.
_MOSTLY_UNSPACED = 0.9
_HARDLY_UNSPACED = 0.1
# With more keys than this, those that occurred once so far are dropped.
_MOST_KEYS = 1 << 23
# An odd number has an inverse modulo 2^64.
_BASE = 0x9E3779B97F4A7C15 | 1
_INVERSE = pow(_BASE, -1, 1 << 64)
_SPACE = ord(" ")
# First words of the Unicode names of letters whose scripts put no spaces between words.
_UNSPACED = frozenset(
    {
        "BOPOMOFO",
        "CJK",
        "HIRAGANA",
        "KATAKANA",
        "KHMER",
        "LAO",
        "MYANMAR",
        "THAI",
        "TIBETAN",
        "YI",
    }
)


@dataclass(frozen=True)
class GramBlock:
    """N-grams of one kind.

    Args:
        analyzer: char counts anywhere, char_wb within words with a space at either end, word
            counts words and marks.
        shortest: characters, or words, of the shortest n-gram.
        longest: of the longest.
    """

    analyzer: Analyzer
    shortest: int
    longest: int

    def kind(self, n: int) -> int:
        """Return the number that marks n-grams of n characters or words in their keys."""
        return ANALYZERS.index(self.analyzer) * LONGEST + n - 1


def analyzer_of(keys: Integers) -> Integers:
    """Return the index of the analyzer of each key.

    Args:
        keys: (k,) of n-grams.

    Returns:
        (k,) indices into `ANALYZERS`.
    """
    return (keys >> _HASH_BITS) // LONGEST


def n_of(keys: Integers) -> Integers:
    """Return how many characters or words each key has.

    Args:
        keys: (k,) of n-grams.
    """
    return (keys >> _HASH_BITS) % LONGEST + 1


def document_frequencies(
    texts: Iterable[str],
    blocks: Sequence[GramBlock],
) -> tuple[Integers, Integers]:
    """Return the keys that occur, ascending, and the number of texts of each.

    Args:
        texts: n texts.
        blocks: kinds of the n-grams.

    Returns:
        (k,) keys; (k,) numbers of texts.
    """
    keys = np.zeros(0, np.int64)
    counts = np.zeros(0, np.int64)
    for chunk in _chunks(texts):
        pairs, _ = _runs(np.sort(_pairs(chunk, blocks)))
        distinct, documents = _runs(np.sort(pairs & _KEY_MASK))
        keys, counts = _merge(keys, counts, distinct, documents)
        if len(keys) > _MOST_KEYS:
            is_repeated = counts > 1
            keys = keys[is_repeated]
            counts = counts[is_repeated]
    return keys, counts


def gram_counts(
    texts: Iterable[str],
    blocks: Sequence[GramBlock],
    vocabulary: Integers,
) -> tuple[Integers, Integers, Integers]:
    """Return the known n-grams of texts, ragged: columns and counts (nnz,), offsets (n + 1,).

    Args:
        texts: n texts.
        blocks: kinds of the n-grams.
        vocabulary: their keys, ascending. A column is an index into it.
    """
    columns = []
    counts = []
    lengths = [np.zeros(1, np.int64)]
    for chunk in _chunks(texts):
        pairs, occurrences = _runs(np.sort(_pairs(chunk, blocks)))
        keys = pairs & _KEY_MASK
        # A key above the whole vocabulary would be one position behind it.
        last = max(len(vocabulary) - 1, 0)
        position = np.minimum(np.searchsorted(vocabulary, keys), last)
        is_known = np.zeros(len(keys), bool)
        if len(vocabulary):
            is_known = vocabulary[position] == keys
        columns.append(position[is_known])
        counts.append(occurrences[is_known])
        document = pairs[is_known] >> _KEY_BITS
        lengths.append(np.bincount(document, minlength=len(chunk)))
    offsets = np.cumsum(np.concatenate(lengths))
    if not columns:
        empty = np.zeros(0, np.int64)
        return empty, empty.copy(), offsets
    return np.concatenate(columns), np.concatenate(counts), offsets


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield chunks of texts in lower case. The texts of a chunk are counted at once."""
    chunk: list[str] = []
    characters = 0
    for text in texts:
        chunk.append(text.lower())
        characters += len(text)
        if characters >= _CHUNK_CHARACTERS or len(chunk) == _CHUNK_TEXTS:
            yield chunk
            chunk = []
            characters = 0
    if chunk:
        yield chunk


def _runs(values: Integers) -> tuple[Integers, Integers]:
    """Return the distinct values of a sorted array, and the number of times each occurs.

    Args:
        values: (m,) ascending.

    Returns:
        (k,) distinct values, ascending; (k,) how often each occurs.
    """
    if not len(values):
        return values, values
    is_start = np.concatenate([[True], values[1:] != values[:-1]])
    starts = np.flatnonzero(is_start)
    edges = np.append(starts, len(values))
    return values[starts], np.diff(edges)


def _merge(
    keys: Integers,
    counts: Integers,
    other_keys: Integers,
    other_counts: Integers,
) -> tuple[Integers, Integers]:
    """Return two sorted tables of counts as one.

    Args:
        keys: (k,) of the first table, ascending.
        counts: (k,) of the first table.
        other_keys: (m,) of the second table, ascending.
        other_counts: (m,) of the second table.

    Returns:
        The distinct keys, ascending; their counts.
    """
    all_keys = np.concatenate([keys, other_keys])
    all_counts = np.concatenate([counts, other_counts])
    if not len(all_keys):
        return keys, counts
    order = np.argsort(all_keys, kind="stable")
    all_keys = all_keys[order]
    is_start = np.concatenate([[True], all_keys[1:] != all_keys[:-1]])
    starts = np.flatnonzero(is_start)
    sums = np.add.reduceat(all_counts[order], starts)
    return all_keys[starts], sums


def gram_spans(
    text: str, blocks: Sequence[GramBlock], vocabulary: Integers
) -> tuple[Integers, Integers, Integers]:
    """Return each occurrence of a known n-gram in a text: its column, first character and end.

    Args:
        text: in lower case.
        blocks: kinds of the n-grams.
        vocabulary: their keys, ascending. A column is an index into it.

    Returns:
        (m,) columns; (m,) indices of the first character; (m,) indices after the last one.
    """
    empty = [np.zeros(0, np.int64)]
    occurrences = list(_occurrences([text], blocks))
    keys = np.concatenate([pairs & _KEY_MASK for pairs, _, _ in occurrences] or empty)
    # The joined text begins with a space that is added.
    starts = np.concatenate([start for _, start, _ in occurrences] or empty) - 1
    ends = np.concatenate([end for _, _, end in occurrences] or empty) - 1
    columns = np.minimum(np.searchsorted(vocabulary, keys), max(len(vocabulary) - 1, 0))
    is_known = np.zeros(len(keys), bool)
    if len(vocabulary):
        is_known = vocabulary[columns] == keys
    starts = np.clip(starts, 0, len(text))
    ends = np.clip(ends, 0, len(text))
    return columns[is_known], starts[is_known], ends[is_known]


def _pairs(texts: Sequence[str], blocks: Sequence[GramBlock]) -> Integers:
    """Return an integer for each n-gram of each text: the number of the text, and the key.

    Args:
        texts: of one chunk, in lower case.
        blocks: kinds of the n-grams.

    Returns:
        (n-grams,) integers, in no order.
    """
    pairs = [found for found, _, _ in _occurrences(texts, blocks)]
    if not pairs:
        return np.zeros(0, np.int64)
    return np.concatenate(pairs)


def _occurrences(
    texts: Sequence[str], blocks: Sequence[GramBlock]
) -> Iterator[tuple[Integers, Integers, Integers]]:
    """Yield the n-grams of one kind and length: integers as `_pairs`, first characters, ends.

    Characters are counted in the joined texts, with a space at either end of each.

    Args:
        texts: of one chunk, in lower case.
        blocks: kinds of the n-grams.
    """
    # With a space at either end of each text, no n-gram of a word reaches into the next text.
    joined = "".join(f" {text} " for text in texts)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.array([len(text) + 2 for text in texts])
    document = np.repeat(np.arange(len(texts)), lengths)
    sums, inverse = _polynomial(codes.astype(np.uint64) + np.uint64(1))
    ends = np.cumsum(lengths)
    is_added = np.zeros(len(codes), bool)
    is_added[ends - 1] = True
    is_added[ends - lengths] = True
    added_before = np.concatenate([[0], np.cumsum(is_added)])
    spaces_before = np.concatenate([[0], np.cumsum(codes == _SPACE)])
    for block in blocks:
        if block.analyzer == "word":
            yield from _words(block, codes, document, sums, inverse)
            continue
        longest = min(block.longest, len(codes))
        for n in range(block.shortest, longest + 1):
            start = np.arange(len(codes) - n + 1)
            if block.analyzer == "char":
                stays = added_before[start + n] == added_before[start]
            else:
                stays = _within_words(start, n, spaces_before, document)
            start = start[stays]
            hashed = (sums[start + n] - sums[start]) * inverse[start]
            yield _pair(document[start], block.kind(n), hashed), start, start + n


def _within_words(
    start: Integers, n: int, spaces_before: Integers, document: Integers
) -> NDArray[np.bool_]:
    """Return whether n characters from each start are in one word, with a space at its ends.

    Spaces occur only at the ends of an n-gram, and at least one character is no space.

    Args:
        start: indices of characters.
        n: characters of an n-gram.
        spaces_before: spaces before each character.
        document: number of the text of each character.
    """
    inner_end = np.maximum(start + n - 1, start + 1)
    inner_spaces = spaces_before[inner_end] - spaces_before[start + 1]
    all_spaces = spaces_before[start + n] - spaces_before[start]
    result: NDArray[np.bool_] = (inner_spaces == 0) & (all_spaces < n)
    result &= document[start] == document[start + n - 1]
    return result


def _polynomial(values: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return prefix sums (m + 1,) of a polynomial modulo 2^64 over m values, and inverse powers.

    The hash of values[i:j] is (sums[j] - sums[i]) * inverse[i]. It does not depend on i.

    Args:
        values: (m,) code points plus one, or hashes of words.

    Returns:
        (m + 1,) prefix sums; (m + 1,) powers of the inverse of the base.
    """
    one = np.ones(1, np.uint64)
    steps = np.full(len(values), _BASE, np.uint64)
    powers = np.concatenate([one, np.multiply.accumulate(steps)])
    steps[:] = _INVERSE
    inverse = np.concatenate([one, np.multiply.accumulate(steps)])
    terms = values * powers[:-1]
    cumulated = np.cumsum(terms, dtype=np.uint64)
    sums = np.concatenate([np.zeros(1, np.uint64), cumulated])
    return sums, inverse


def _pair(document: Integers, kind: int, hashed: NDArray[np.uint64]) -> Integers:
    """Return the text's number, the kind and 39 bits of a hash in one integer.

    Args:
        document: (m,) number of the text of each n-gram.
        kind: of the n-grams, as `GramBlock.kind` returns it.
        hashed: (m,) hashes of their characters.
    """
    bits = (_mixed(hashed) >> np.uint64(64 - _HASH_BITS)).astype(np.int64)
    return (document << _KEY_BITS) | (kind << _HASH_BITS) | bits


def _mixed(hashed: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return hashes of which each bit depends on all bits (the finalizer of SplitMix64)."""
    hashed = (hashed ^ (hashed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashed = (hashed ^ (hashed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashed ^ (hashed >> np.uint64(31))


def _words(
    block: GramBlock,
    codes: NDArray[np.uint32],
    document: Integers,
    sums: NDArray[np.uint64],
    inverse: NDArray[np.uint64],
) -> Iterator[tuple[Integers, Integers, Integers]]:
    """Yield the n-grams of words and marks, as `_occurrences` does.

    Args:
        block: the lengths in words.
        codes: (characters,) code points of the joined texts.
        document: (characters,) number of the text of each character.
        sums: (characters + 1,) prefix sums of the polynomial.
        inverse: (characters + 1,) inverse powers of its base.
    """
    distinct, inverse_index = np.unique(codes, return_inverse=True)
    group = np.array([_group(int(code)) for code in distinct])[inverse_index]
    # Adjacent letters form a word. A mark stands alone.
    continues = (group[1:] == 2) & (group[:-1] == 2)
    begins_here = np.concatenate([[True], ~continues])
    ends_here = np.concatenate([~continues, [True]])
    is_text = group > 0
    starts = np.flatnonzero(is_text & begins_here)
    ends = np.flatnonzero(is_text & ends_here) + 1
    words = _mixed((sums[ends] - sums[starts]) * inverse[starts])
    word_document = document[starts]
    sums, inverse = _polynomial(words)
    longest = min(block.longest, len(words))
    for n in range(block.shortest, longest + 1):
        start = np.arange(len(words) - n + 1)
        # All words of an n-gram are of one text.
        is_inside = word_document[start] == word_document[start + n - 1]
        start = start[is_inside]
        hashed = (sums[start + n] - sums[start]) * inverse[start]
        pairs = _pair(word_document[start], block.kind(n), hashed)
        yield pairs, starts[start], ends[start + n - 1]


def blocks_for(analyzer: str, texts: Iterable[str], longest: int) -> list[GramBlock]:
    """Return the kinds of n-grams for texts.

    Args:
        analyzer: auto, char, word or mixed.
        texts: train texts, by whose letters auto decides.
        longest: characters of the longest n-gram.

    Returns:
        One block for a single analyzer, two for `word` and `mixed`.
    """
    if analyzer == "auto":
        unspaced = unspaced_share(texts)
        analyzer = "mixed"
        if unspaced >= _MOSTLY_UNSPACED:
            analyzer = "char"
        if unspaced <= _HARDLY_UNSPACED:
            analyzer = "word"
    anywhere = GramBlock("char", 1, longest)
    words = GramBlock("word", 1, 2)
    within = GramBlock("char_wb", min(2, longest), longest)
    blocks = {
        "char": [anywhere],
        "word": [within, words],
        "mixed": [anywhere, words],
    }
    return blocks[analyzer]


def unspaced_share(texts: Iterable[str]) -> float:
    """Return the share of letters in scripts without spaces between words.

    Returns:
        A fraction 0-1; 0 if the texts have no letter.
    """
    letters = 0
    unspaced = 0
    for character, count in Counter("".join(texts)).items():
        if character.isalpha():
            letters += count
            unspaced += count * _is_unspaced(character)
    return unspaced / max(letters, 1)


def _is_unspaced(letter: str) -> bool:
    """Return whether the script of a letter puts no spaces between words, by its Unicode name."""
    first_word = unicodedata.name(letter, "").split(" ")[0]
    # An example is CJK in "CJK UNIFIED IDEOGRAPH-4E00".
    script = first_word.split("-")[0]
    return script in _UNSPACED


@lru_cache(maxsize=1 << 16)
def _group(code: int) -> int:
    """Return 2 for letters, digits and signs that combine with them, 1 for marks, 0 for spaces."""
    character = chr(code)
    if character.isspace():
        return 0
    if character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M":
        return 2
    return 1
