"""Token ids of texts, from the ids of their words.

The vocabularies that this project trains treat each character and each word alone. So the ids of
a word are computed once, by the tokenizer itself, and a text takes a quarter of the CPU time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# The parts of a tokenizer that treat characters and words alone, as `fit` builds them.
NORMALIZER = {
    "clean_text": False,
    "handle_chinese_chars": True,
    "strip_accents": False,
    "lowercase": True,
}
_PARTS: dict[str, Any] = {
    "normalizer": {"type": "BertNormalizer", **NORMALIZER},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
}
_MODEL: dict[str, Any] = {
    "type": "BPE",
    "dropout": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "byte_fallback": False,
}
# Characters and words that are remembered, and the length of a word that is.
_MOST = 1 << 17
_LONGEST_WORD = 30


class WordIds:
    """Computes the ids of texts.

    Args:
        tokenizer: one that treats words alone.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._characters = _CharacterTable(tokenizer)
        self._words = _WordTable(tokenizer)
        added = tokenizer.get_added_tokens_decoder().values()
        self._added = [token.content for token in added]

    def of(self, text: str) -> list[int] | None:
        """Return the ids of a text, none of them cut.

        None: the text has an added token such as a mask, which the tokenizer finds before it
        divides a text into words.
        """
        if any(name in text for name in self._added):
            return None
        words = text.translate(self._characters).split(" ")
        return list(chain.from_iterable(map(self._words.__getitem__, words)))


class _CharacterTable(dict[int, str]):
    """Table for `str.translate`, after which words stand between spaces. It fills itself on use."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._normalizer: Any = tokenizer.normalizer
        self._pre_tokenizer: Any = tokenizer.pre_tokenizer

    def __missing__(self, code: int) -> str:
        if len(self) >= _MOST:
            self.clear()
        normal = self._normalizer.normalize_str(f"a{chr(code)}a")
        words = [word for word, _ in self._pre_tokenizer.pre_tokenize_str(normal)]
        # Without the two letters around it.
        self[code] = " ".join(words)[1:-1]
        return self[code]


class _WordTable(dict[str, Sequence[int]]):
    """Ids of normalized words. It fills itself on use."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__({"": ()})
        self._model: Any = tokenizer.model

    def __missing__(self, word: str) -> Sequence[int]:
        ids = tuple(token.id for token in self._model.tokenize(word))
        if len(word) > _LONGEST_WORD:
            return ids
        if len(self) >= _MOST:
            self.clear()
            self[""] = ()
        self[word] = ids
        return ids


def word_ids(tokenizer: Tokenizer) -> WordIds | None:
    """Return the ids of words, or None where a tokenizer does not treat words alone.

    Args:
        tokenizer: of this project or of a pretrained network.
    """
    # Those of pretrained networks have one, and their JSON takes long to parse.
    if tokenizer.post_processor is not None:
        return None
    parts = json.loads(tokenizer.to_str())
    model = parts["model"]
    has_parts = all(parts.get(name) == part for name, part in _PARTS.items())
    has_model = all(model.get(name) == value for name, value in _MODEL.items())
    # A normalized one is searched in the text after its case is folded.
    added = tokenizer.get_added_tokens_decoder().values()
    is_plain = not any(token.normalized for token in added)
    return WordIds(tokenizer) if has_parts and has_model and is_plain else None
