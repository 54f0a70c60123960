"""Encode text as token ids.

Each Han character is a token. Words of other scripts are divided by byte-pair encoding.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from components.core.errors import InputError, ParamsError
from components.core.files import copy, to_json
from components.core.params import Strict
from components.core.pretrained_files import CONFIG, TOKENIZER, digest, files_of
from components.core.tables import sample
from components.fields.base import Summary
from components.tasks.base import NO_INPUTS, Arrays, TargetInfo
from components.tasks.shared.encode.text.cut_vocabulary import write_cut
from components.tasks.shared.encode.text.word_ids import NORMALIZER, word_ids
from components.tasks.text_classification.schema import (
    MASK,
    TextClean,
    TextNormalization,
    text_normalization,
)

PAD, UNKNOWN = "[PAD]", "[UNK]"
_INPUTS = ("text", "title")
# Rows by which a vocabulary is trained. More change only which of its rarest tokens it has.
_VOCABULARY_ROWS = 100_000


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
        None,
        description=(
            "Encoder whose vocabulary is used: folder, package:NAME/FOLDER, hub id or null."
        ),
    )
    pretrained_sha256: str | None = Field(
        None, description="SHA-256 of the encoder's files; the first run prints it."
    )
    # Params without it have the hash that they had before.
    pretrained_vocabulary: Literal["all", "used"] = Field(
        "all",
        exclude_if=lambda chosen: chosen == "all",
        description=(
            "Tokens of the encoder that stay (used: those of train rows, and single characters)."
        ),
    )


class TextEncoderMetadata(TextNormalization):
    """Content of encoder.json."""

    classes: list[str] = Field(min_length=1)
    max_length: int = Field(ge=1, le=1_000_000)
    network: dict[str, Any] | None = None
    pad: int = Field(0, ge=0, lt=2**31)


class TextEncoder:
    """A fitted vocabulary and the class names.

    Args:
        tokenizer: the JSON of a `tokenizers.Tokenizer`.
        metadata: {"classes", "max_length"} and `TextClean.normalization`. For a pretrained network
            also "network", its config.json, and "pad", its token id of padding.
    """

    def __init__(self, tokenizer: str, metadata: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer

        self._json = tokenizer
        self._metadata = dict(metadata)
        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(metadata["max_length"])
        self._word_ids = word_ids(self._tokenizer)
        self.network: Mapping[str, Any] | None = metadata.get("network")
        self.pad: int = metadata.get("pad", 0)
        self._fields = text_normalization(metadata).fields()
        self.targets: TargetInfo = {"classes": list(metadata["classes"])}
        self.max_length: int = metadata["max_length"]

    @property
    def vocabulary(self) -> int:
        """Return the number of token ids."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def mask(self) -> int:
        """Return the id of the mask token, or of padding if there is none."""
        for name in (MASK, "<mask>"):
            token_id: int | None = self._tokenizer.token_to_id(name)
            if token_id is not None:
                return token_id
        return self.pad

    @property
    def special(self) -> list[int]:
        """Return the ids of special tokens, which stand for no text."""
        result = {self.pad}
        for token_id, token in self._tokenizer.get_added_tokens_decoder().items():
            if token.special:
                result.add(token_id)
        return sorted(result)

    def frame(self) -> tuple[Sequence[int], Sequence[int]]:
        """Return the token ids that the tokenizer puts before and after each text."""
        encoding = self._tokenizer.encode(".")
        of_text = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
        if not of_text:
            return [], []
        return encoding.ids[: of_text[0]], encoding.ids[of_text[-1] + 1 :]

    def _ids(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Return the token ids (tokens,) of each text."""
        # A text without any token, such as unknown marks only, becomes the unknown token.
        unknown = self._tokenizer.token_to_id(UNKNOWN) or self.pad
        found = [self._word_ids.of(text) if self._word_ids else None for text in texts]
        left = [row for row, ids in enumerate(found) if ids is None]
        encodings = self._tokenizer.encode_batch_fast([texts[row] for row in left])
        for row, encoding in zip(left, encodings, strict=True):
            found[row] = encoding.ids
        result = []
        for ids in found:
            result.append(np.asarray((ids or [unknown])[: self.max_length], dtype=np.int32))
        return result

    def encode(self, rows: pa.Table) -> pa.Table:
        """Return a table with the columns id, ids (ragged) and target.

        The target is the class index, or -1 for a row without a label.
        """
        index = {name: i for i, name in enumerate(self.targets["classes"])} | {None: -1}
        ids = self._ids(_texts_of_table(rows))
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
        texts = _texts_of_table(rows.take(pa.array(full)))
        left = {}
        for row, text in zip(full.tolist(), texts, strict=True):
            ids = self._word_ids.of(text) if self._word_ids else None
            if ids is None:
                left[row] = text
            else:
                lost[row] = len(ids) - self.max_length
        encodings = self._tokenizer.encode_batch(list(left.values()))
        for row, encoding in zip(left, encodings, strict=True):
            for part in encoding.overflowing:
                lost[row] += len(part.ids) - sum(part.special_tokens_mask)
        return lost

    def describe_cuts(self, summary: Summary) -> str:
        """Return the line about cut texts."""
        return (
            f"{summary.rows_of_all('texts')} cut at {self.max_length:,} tokens "
            f"({summary.share_lost} of their tokens lost): tokenize.max_length"
        )

    def collate(self, rows: Mapping[str, Sequence[NDArray[Any]]]) -> Arrays:
        """Return padded rows: "ids" (n, t) int64 and "mask" (n, t) float32.

        t is the length of the longest row.
        """
        ragged = rows["ids"]
        lengths = np.array([len(row) for row in ragged])
        present = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(present.shape, self.pad, dtype=np.int64)
        ids[present] = np.concatenate(ragged)
        return {"ids": ids, "mask": present.astype(np.float32)}

    def pack(self, rows: Mapping[str, Sequence[NDArray[Any]]]) -> Arrays:
        """Return packed rows: "ids" (all tokens,) int64 and "lengths" (n,) int64."""
        ragged = rows["ids"]
        return {
            "ids": np.concatenate(ragged).astype(np.int64),
            "lengths": np.array([len(row) for row in ragged], dtype=np.int64),
        }

    def rows(self, inputs: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Return "ids" with n ragged rows, normalized as in clean and then encoded.

        Raises:
            Reject: an input is of no use.
        """
        normalized = {}
        for name, values in inputs.items():
            field = self._fields[name]
            normalized[name] = [field.normalize(value) for value in values]
        return {"ids": self._ids(_with_titles(normalized))}

    def elements(
        self, inputs: Mapping[str, Sequence[Any]], contributions: NDArray[np.float64]
    ) -> Sequence[NDArray[np.float64]]:
        """Return the contributions of the characters of each text, without its title.

        Those of a token are shared by its characters.

        Args:
            inputs: normalized texts and titles.
            contributions: (n, t) of the tokens.
        """
        texts = inputs["text"]
        joined = _with_titles(inputs)
        encodings = self._tokenizer.encode_batch(joined)
        result = []
        for text, whole, encoding, row in zip(texts, joined, encodings, contributions, strict=True):
            characters = np.zeros(len(whole))
            for (start, end), contribution in zip(encoding.offsets, row, strict=False):
                # Tokens that stand for no text have no characters.
                if end > start:
                    characters[start:end] += contribution / (end - start)
            result.append(characters[len(whole) - len(text) :])
        return result

    def files(self) -> Mapping[str, bytes]:
        """Return tokenizer.json and encoder.json."""
        return {
            "tokenizer.json": self._json.encode(),
            "encoder.json": to_json(self._metadata).encode(),
        }

    def lengths(self, rows: pa.Table) -> NDArray[np.int64]:
        """Return (n,) the tokens of each row."""
        import pyarrow.compute as pc

        return np.asarray(pc.list_value_length(rows["ids"]), dtype=np.int64)


def _with_titles(inputs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return each text after its title, so that the end of the text is cut if it is too long."""
    titles = inputs.get("title") or [""] * len(inputs["text"])
    return [
        f"{title} {text}" if title else text
        for title, text in zip(titles, inputs["text"], strict=True)
    ]


def _texts_of_table(rows: pa.Table) -> list[str]:
    """Return the text of each row of a table, after its title if the table has titles."""
    names = [name for name in _INPUTS if name in rows.column_names]
    return _with_titles({name: rows[name].to_pylist() for name in names})


class TextEncoding:
    """Facet encode.py."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {"tokenize": TextTokenize}

    def fit(
        self,
        rows: Iterator[pa.RecordBatch],
        targets: TargetInfo,
        options: BaseModel,
        clean: BaseModel,
        inputs: Mapping[str, Any] = NO_INPUTS,  # noqa: ARG002
    ) -> TextEncoder:
        """Train the vocabulary (Sennrich et al. 2016, arXiv:1508.07909).

        The same rows give the same bytes. WordPiece's trainer does not guarantee that,
        because its ids depend on the order of a hash map.
            inputs: not used.
        """
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

        assert isinstance(options, TextTokenize)
        assert isinstance(clean, TextClean)
        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
        # Han characters are separate tokens. From 14,000 reviews, merged words learn worse: a
        # TextCNN's validation macro F1 was 0.777 with them and 0.831 without.
        tokenizer.normalizer = normalizers.BertNormalizer(**NORMALIZER)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        batches = sample(pa.Table.from_batches(rows), _VOCABULARY_ROWS, seed=0).to_batches()
        size = options.vocabulary_size * 3 // 4
        alphabet = _alphabet(_texts_of_batches(batches), tokenizer.normalizer, size)
        trainer = trainers.BpeTrainer(
            vocab_size=options.vocabulary_size,
            min_frequency=options.min_frequency,
            special_tokens=[PAD, UNKNOWN, MASK],
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        tokenizer.train_from_iterator(_texts_of_batches(batches), trainer)
        metadata = {
            "classes": list(targets["classes"]),
            "max_length": options.max_length,
            **clean.normalization(),
        }
        return TextEncoder(tokenizer.to_str(), metadata)

    def pretrained_files(self, options: BaseModel, root: Path) -> Mapping[str, Path]:
        """Return the files of `tokenize.pretrained`.

        Raises:
            GristmillError: files are missing, or their hash is not the one in params.yaml.
        """
        assert isinstance(options, TextTokenize)
        if options.pretrained is None:
            return {}
        files = files_of(options.pretrained, root)
        actual = digest(files)
        if actual != options.pretrained_sha256:
            what = f"is not the SHA-256 of the files in {options.pretrained}"
            remedy = f"if these files are right, write: pretrained_sha256: {actual}"
            if options.pretrained_sha256 is None:
                what = (
                    f"is missing: {options.pretrained} needs the SHA-256 of its files, "
                    "by which DVC sees that the encoder has changed"
                )
                remedy = f"write below tokenize: pretrained_sha256: {actual}"
            raise ParamsError(what, where="tokenize.pretrained_sha256", remedy=remedy)
        return files

    def write_pretrained(
        self,
        files: Mapping[str, Path],
        rows: Iterator[pa.RecordBatch],
        options: BaseModel,
        folder: Path,
    ) -> Mapping[str, Path]:
        """Write the network's files to a folder, and return them by name.

        Raises:
            InputError: the vocabulary is to be cut, and is not of a kind that can be.
        """
        assert isinstance(options, TextTokenize)
        if options.pretrained_vocabulary == "used":
            return write_cut(files, _texts_of_batches(rows), folder)
        for name, path in files.items():
            copy(path, folder / name)
        return {name: folder / name for name in files}

    def load_vocabulary(
        self,
        files: Mapping[str, Path],
        targets: TargetInfo,
        options: BaseModel,
        clean: BaseModel,
    ) -> TextEncoder:
        """Return the encoder with a pretrained network's tokenizer.

        Raises:
            GristmillError: the network takes fewer tokens than the params say, or the
                tokenizer cannot be read.
        """
        assert isinstance(options, TextTokenize)
        assert isinstance(clean, TextClean)
        config = json.loads(files[CONFIG].read_text(encoding="utf-8"))
        network = {name: value for name, value in config.items() if not name.startswith("_")}
        pad = network.get("pad_token_id") or 0
        positions = network.get("max_position_embeddings", options.max_length)
        if pad == 1:
            # RoBERTa and its descendants count positions from after the id of padding.
            positions -= 2
        if options.max_length > positions:
            raise ParamsError(
                f"{options.max_length}: the encoder takes at most {positions} tokens",
                where="tokenize.max_length",
                remedy=f"set it to {positions} or less",
            )
        metadata = {
            "classes": list(targets["classes"]),
            "max_length": options.max_length,
            **clean.normalization(),
            "network": network,
            "pad": pad,
        }
        try:
            return TextEncoder(files[TOKENIZER].read_text(encoding="utf-8"), metadata)
        except Exception as error:
            # The library raises errors of many types for a file that is not a tokenizer.
            raise InputError(
                f"is no tokenizer ({error})",
                where=str(files[TOKENIZER]),
                remedy="download it again",
            ) from None

    def load(self, files: Mapping[str, bytes]) -> TextEncoder:
        """Return the encoder of a bundle or of tokens/.

        Raises:
            ValidationError: encoder.json is invalid.
        """
        metadata = TextEncoderMetadata.model_validate_json(files["encoder.json"])
        return TextEncoder(
            files["tokenizer.json"].decode(), metadata.model_dump(exclude_unset=True)
        )


def _texts_of_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    """Yield the texts of rows, each with its title."""
    for batch in batches:
        names = [name for name in _INPUTS if name in batch.schema.names]
        yield from _with_titles({name: batch.column(name).to_pylist() for name in names})


def _alphabet(texts: Iterable[str], normalizer: Any, size: int) -> list[str]:
    """Return the most frequent characters of normalized texts, at most `size`.

    The trainer itself would cut a large alphabet by frequency too, but the order of ties would
    depend on a hash map.

    Args:
        texts: of the rows.
        normalizer: of the tokenizer. What it makes of a character depends on nothing else.
        size: most characters.
    """
    raw_counts: Counter[str] = Counter()
    for text in texts:
        raw_counts.update(text)
    counts: Counter[str] = Counter()
    for raw, count in raw_counts.items():
        for char in normalizer.normalize_str(raw):
            if not char.isspace():
                counts[char] += count
    return sorted(counts, key=lambda char: (-counts[char], char))[:size]


ENCODING = TextEncoding()
