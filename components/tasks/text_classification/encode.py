"""Text to token ids: each Han character is a token, words of other scripts are cut into pieces by byte-pair encoding."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from components.core.errors import InputError, ParamsError
from components.core.files import to_json
from components.core.params import Strict
from components.core.pretrained_files import CONFIG, TOKENIZER, digest, files_of
from components.fields.base import Summary
from components.fields.text import Text, Title
from components.tasks.base import Arrays
from components.tasks.text_classification.schema import MASK, TextClean

PAD, UNKNOWN = "[PAD]", "[UNK]"
_INPUTS = ("text", "title")


class TextTokenize(Strict):
    """Params of `tokenize`."""

    vocabulary_size: int = Field(
        8000, ge=50, le=1_000_000, description="Most tokens of the vocabulary."
    )
    min_frequency: int = Field(
        2, ge=1, description="Fewest occurrences of a token in the train rows."
    )
    max_length: int = Field(
        160, ge=4, le=8192, description="Tokens after which a longer text is cut."
    )
    pretrained: str | None = Field(
        None, description="Folder or hub id of an encoder whose vocabulary is used (null: none)."
    )
    pretrained_sha256: str | None = Field(
        None, description="SHA-256 of the encoder's files; the first run prints it."
    )


class TextFacts(Strict):
    """What stands in encoder.json."""

    classes: list[str] = Field(min_length=1)
    max_length: int = Field(ge=1, le=1_000_000)
    max_characters: int = Field(ge=1, le=100_000_000)
    network: dict[str, Any] | None = None
    pad: int = Field(0, ge=0, lt=2**31)


class TextEncoder:
    """A fitted vocabulary and the class names.

    Args:
        tokenizer: the JSON of a `tokenizers.Tokenizer`.
        facts: {"classes", "max_length", "max_characters"}; and of a pretrained network {"network": its config.json, "pad": its token id of padding}.
    """

    def __init__(self, tokenizer: str, facts: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer

        self._json, self._facts = tokenizer, dict(facts)
        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(facts["max_length"])
        self.network: Mapping[str, Any] | None = facts.get("network")
        self.pad: int = facts.get("pad", 0)
        self._fields = {
            "text": Text(max_characters=facts["max_characters"]),
            "title": Title(max_characters=facts["max_characters"]),
        }
        self.classes: Sequence[str] = list(facts["classes"])
        self.max_length: int = facts["max_length"]

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def mask(self) -> int:
        """The id that stands for a hidden token."""
        found = [self._tokenizer.token_to_id(name) for name in (MASK, "<mask>")]
        return next((each for each in found if each is not None), self.pad)

    @property
    def special(self) -> list[int]:
        """Ids that are no text."""
        return sorted(
            {
                self.pad,
                *(
                    id_
                    for id_, token in self._tokenizer.get_added_tokens_decoder().items()
                    if token.special
                ),
            }
        )

    def _ids(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        unknown = self._tokenizer.token_to_id(UNKNOWN) or self.pad
        # A text of which no token is left (only unknown marks, say) is still one row: it is the unknown token.
        return [
            np.asarray(encoding.ids or [unknown], dtype=np.int32)
            for encoding in self._tokenizer.encode_batch_fast(list(texts))
        ]

    def encode(self, rows: pa.Table) -> pa.Table:
        """Columns id, ids (ragged), target (class index; -1 of a row without a label)."""
        index = {name: i for i, name in enumerate(self.classes)} | {None: -1}
        ids = self._ids(
            _whole({name: rows[name].to_pylist() for name in _INPUTS if name in rows.column_names})
        )
        target = [index[name] for name in rows["label"].to_pylist()]
        return pa.table(
            {
                "id": rows["id"],
                "ids": pa.array(ids, pa.list_(pa.int32())),
                "target": pa.array(target, pa.int64()),
            }
        )

    def losses(self, rows: pa.Table, encoded: pa.Table) -> NDArray[np.int64]:
        """Return (n,) the tokens of each row beyond `max_length`."""
        lost = np.zeros(rows.num_rows, dtype=np.int64)
        full = np.flatnonzero(self.lengths(encoded) >= self.max_length)
        cut = rows.take(pa.array(full))
        texts = _whole(
            {name: cut[name].to_pylist() for name in _INPUTS if name in cut.column_names}
        )
        for place, encoding in zip(full.tolist(), self._tokenizer.encode_batch(texts), strict=True):
            lost[place] = sum(
                len(part.ids) - sum(part.special_tokens_mask) for part in encoding.overflowing
            )
        return lost

    def tell(self, summary: Summary) -> str:
        """Return the line about cut texts."""
        return f"{summary.rows_of_all('texts')} cut at {self.max_length:,} tokens ({summary.share_lost} of their tokens lost): tokenize.max_length"

    def collate(self, rows: Mapping[str, Sequence[NDArray[Any]]]) -> Arrays:
        """{"ids": (n, t) int64, "mask": (n, t) float32}; t is the longest row of the batch."""
        ragged = rows["ids"]
        lengths = np.array([len(row) for row in ragged])
        present = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(present.shape, self.pad, dtype=np.int64)
        ids[present] = np.concatenate(ragged)
        return {"ids": ids, "mask": present.astype(np.float32)}

    def pack(self, rows: Mapping[str, Sequence[NDArray[Any]]]) -> Arrays:
        """{"ids": (all tokens,) int64, "lengths": (n,) int64}."""
        ragged = rows["ids"]
        return {
            "ids": np.concatenate(ragged).astype(np.int64),
            "lengths": np.array([len(row) for row in ragged], dtype=np.int64),
        }

    def rows(self, inputs: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """{"ids": n ragged rows}: normalized as in clean, then encoded. Raises `Reject`."""
        return {
            "ids": self._ids(
                _whole(
                    {
                        name: [self._fields[name].normalise(value) for value in values]
                        for name, values in inputs.items()
                    }
                )
            )
        }

    def files(self) -> Mapping[str, bytes]:
        """tokenizer.json and encoder.json."""
        return {
            "tokenizer.json": self._json.encode(),
            "encoder.json": to_json(self._facts).encode(),
        }

    def lengths(self, rows: pa.Table) -> NDArray[np.int64]:
        """(n,) tokens of each row."""
        import pyarrow.compute as pc

        return np.asarray(pc.list_value_length(rows["ids"]), dtype=np.int64)


def _whole(inputs: Mapping[str, Sequence[str]]) -> list[str]:
    """Each text below its title: where a text is too long, its end is cut."""
    titles = inputs.get("title") or [""] * len(inputs["text"])
    return [
        f"{title} {text}" if title else text
        for title, text in zip(titles, inputs["text"], strict=True)
    ]


class TextEncoding:
    """Facet encode.py."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {"tokenize": TextTokenize}

    def fit(
        self,
        rows: Iterator[pa.RecordBatch],
        classes: Sequence[str],
        options: BaseModel,
        clean: BaseModel,
    ) -> TextEncoder:
        """Train the vocabulary (Sennrich et al. 2016, arXiv:1508.07909). The same rows give the same bytes: WordPiece's trainer does not (its ids follow a hash map's order)."""
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

        assert isinstance(options, TextTokenize)
        assert isinstance(clean, TextClean)
        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
        # Han characters apart: out of 14,000 reviews merged words learn worse (a TextCNN's validation macro F1 was 0.777 with them, 0.831 without).
        tokenizer.normalizer = normalizers.BertNormalizer(
            clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=True
        )
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        texts = [
            text
            for batch in rows
            for text in _whole(
                {
                    name: batch.column(name).to_pylist()
                    for name in _INPUTS
                    if name in batch.schema.names
                }
            )
        ]
        # The trainer cuts a large alphabet by frequency and leaves ties to a hash map's order: cut here, it has nothing to choose.
        counts = Counter(
            char
            for text in texts
            for char in tokenizer.normalizer.normalize_str(text)
            if not char.isspace()
        )
        alphabet = sorted(counts, key=lambda char: (-counts[char], char))[
            : options.vocabulary_size * 3 // 4
        ]
        trainer = trainers.BpeTrainer(
            vocab_size=options.vocabulary_size,
            min_frequency=options.min_frequency,
            special_tokens=[PAD, UNKNOWN, MASK],
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return TextEncoder(
            tokenizer.to_str(),
            {
                "classes": list(classes),
                "max_length": options.max_length,
                "max_characters": clean.max_characters,
            },
        )

    def pretrained_files(self, options: BaseModel, root: Path) -> Mapping[str, Path]:
        """The files of `tokenize.pretrained`. Raises `GristmillError` where they are not whole, or not those that params tell."""
        assert isinstance(options, TextTokenize)
        if options.pretrained is None:
            return {}
        files = files_of(options.pretrained, root)
        if (found := digest(files)) != options.pretrained_sha256:
            what = (
                "is not told"
                if options.pretrained_sha256 is None
                else f"tells of other files than lie in {options.pretrained}"
            )
            raise ParamsError(
                f"{what}; DVC would not see it when the encoder changes",
                where="tokenize.pretrained_sha256",
                remedy=f"if this encoder is meant, write: pretrained_sha256: {found}",
            )
        return files

    def load_vocabulary(
        self,
        files: Mapping[str, Path],
        classes: Sequence[str],
        options: BaseModel,
        clean: BaseModel,
    ) -> TextEncoder:
        """A pretrained network's own tokenizer: its ids, its special tokens, its padding."""
        assert isinstance(options, TextTokenize)
        assert isinstance(clean, TextClean)
        network = {
            name: value
            for name, value in json.loads(files[CONFIG].read_text(encoding="utf-8")).items()
            if not name.startswith("_")
        }
        pad = network.get("pad_token_id") or 0
        places = network.get("max_position_embeddings", options.max_length) - (
            2 if pad == 1 else 0
        )  # RoBERTa and its kind count from behind the id of padding
        if options.max_length > places:
            raise ParamsError(
                f"{options.max_length}: the encoder takes at most {places} tokens",
                where="tokenize.max_length",
                remedy=f"set it to {places} or less",
            )
        facts = {
            "classes": list(classes),
            "max_length": options.max_length,
            "max_characters": clean.max_characters,
            "network": network,
            "pad": pad,
        }
        try:
            return TextEncoder(files[TOKENIZER].read_text(encoding="utf-8"), facts)
        except Exception as error:  # whatever the library raises of a file that is none of its own
            raise InputError(
                f"is no tokenizer ({error})",
                where=str(files[TOKENIZER]),
                remedy="download it again",
            ) from None

    def load(self, files: Mapping[str, bytes]) -> TextEncoder:
        """Return the encoder of a bundle or of tokens/. Raises pydantic's `ValidationError`."""
        facts = TextFacts.model_validate_json(files["encoder.json"])
        return TextEncoder(files["tokenizer.json"].decode(), facts.model_dump(exclude_unset=True))


ENCODING = TextEncoding()
