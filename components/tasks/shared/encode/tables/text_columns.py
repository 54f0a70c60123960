"""Turn texts of a table into a few numbers each: n-grams, their TF-IDF, and its main axes.

N-grams are identified by hashes (`components.fields.gram_counts`). The axes are those of a
truncated singular value decomposition (Deerwester et al. 1990), by the randomized algorithm of
Halko, Martinsson and Tropp (2011) with a fixed seed. All is fitted on train rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.core.params import Strict
from components.fields.gram_counts import (
    LONGEST,
    Analyzer,
    GramBlock,
    blocks_for,
    document_frequencies,
    gram_counts,
)
from components.tasks.shared.schema.tables.kinds import TextInput

Floats = NDArray[np.float64]

# Train rows and characters that the axes are fitted on, evenly spaced.
_MOST_ROWS = 50_000
_MOST_CHARACTERS = 5_000_000
# Rows in which the letters of scripts without spaces are counted.
_SCRIPT_ROWS = 2_000
# Texts that are encoded at once.
_CHUNK = 1_000
# Passes over the matrix beyond the first: the axes of texts fall off slowly.
_PASSES = 4


class TextBlock(Strict):
    """N-grams of one kind."""

    analyzer: Analyzer
    shortest: Annotated[int, Field(ge=1, le=LONGEST)]
    longest: Annotated[int, Field(ge=1, le=LONGEST)]


class FreeTextColumn(Strict):
    """A column of texts: its n-grams, and the shape of the arrays that encode them."""

    kind: Literal["text"] = "text"
    blocks: Annotated[list[TextBlock], Field(min_length=1, max_length=4)]
    grams: Annotated[int, Field(ge=0, le=1 << 18)]
    components: Annotated[int, Field(ge=0, le=256)]

    def names(self) -> list[str]:
        """Return the names of the numbers that stand for a text."""
        return ["characters", *(f"axis_{number}" for number in range(1, self.components + 1))]


@dataclass(frozen=True)
class TextAxes:
    """The n-grams of a column, and the axes of their TF-IDF.

    Args:
        keys: (g,) of the n-grams, ascending.
        idf: (g,) float32.
        axes: (g, d) float32.
    """

    keys: NDArray[np.int64]
    idf: NDArray[np.float32]
    axes: NDArray[np.float32]

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, for a bundle.

        Args:
            prefix: of the names.
        """
        return {prefix + name: array for name, array in vars(self).items()}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], prefix: str, column: FreeTextColumn
    ) -> TextAxes:
        """Return the axes in the arrays of a bundle.

        Args:
            arrays: name -> array.
            prefix: of the names.
            column: they belong to.

        Raises:
            ValueError: an array is missing, or does not fit the others.
        """
        shapes: Mapping[str, tuple[type[np.generic], tuple[int, ...]]] = {
            "keys": (np.int64, (column.grams,)),
            "idf": (np.float32, (column.grams,)),
            "axes": (np.float32, (column.grams, column.components)),
        }
        checked = {}
        for name, (kind, shape) in shapes.items():
            array = arrays.get(prefix + name)
            if array is None or array.dtype != kind or array.shape != shape:
                raise ValueError(f"there is no usable array {prefix + name}")
            if not np.isfinite(array).all():
                raise ValueError(f"a number of {prefix + name} is not finite")
            checked[name] = array
        if not (np.diff(checked["keys"]) > 0).all():
            raise ValueError(f"{prefix}keys must ascend")
        return cls(**checked)


class TextAxesEncoder:
    """Encodes texts by fitted axes.

    Args:
        column: the n-grams.
        fitted: their weights and axes.
    """

    def __init__(self, column: FreeTextColumn, fitted: TextAxes) -> None:
        self.fitted = fitted
        self._blocks = [
            GramBlock(block.analyzer, block.shortest, block.longest) for block in column.blocks
        ]
        self._idf = fitted.idf.astype(np.float64)
        self._axes = fitted.axes.astype(np.float64)

    def numbers(self, texts: Sequence[str | None]) -> Iterator[Floats]:
        """Yield the numbers (n,) of texts (n,) in the order of `FreeTextColumn.names`.

        A missing text has no number of characters, and is at 0 on all axes.
        """
        lengths = [np.nan if text is None else len(text) for text in texts]
        yield np.array(lengths, dtype=np.float64)
        values = np.zeros((len(texts), self._axes.shape[1]))
        for start in range(0, len(texts), _CHUNK):
            chunk = [text or "" for text in texts[start : start + _CHUNK]]
            weights = _tfidf(chunk, self._blocks, self.fitted.keys, self._idf)
            values[start : start + len(chunk)] = weights @ self._axes
        yield from values.T


def fit_texts(
    values: Sequence[str | None], params: TextInput
) -> tuple[FreeTextColumn, TextAxesEncoder]:
    """Return the column of train values, and its encoder.

    Args:
        values: (n,) texts of train rows, None where one is missing.
        params: n-grams, and number of axes.
    """
    texts = _evenly([text for text in values if text])
    step = max(1, len(texts) // _SCRIPT_ROWS)
    blocks = blocks_for("auto", texts[::step], params.ngrams)
    keys, documents = document_frequencies(texts, blocks)
    # An n-gram of one row is on no axis of others.
    repeated = np.flatnonzero(documents > 1)
    ranked = repeated[np.lexsort((keys[repeated], -documents[repeated]))]
    chosen = np.sort(ranked[: params.width])
    keys = keys[chosen]
    idf = (np.log((1 + len(texts)) / (1 + documents[chosen])) + 1).astype(np.float32)
    axes = _main_axes(
        _tfidf(
            texts,
            blocks,
            keys,
            idf.astype(np.float64),
        ),
        params.components,
    )
    column = FreeTextColumn(
        blocks=[TextBlock(**vars(block)) for block in blocks],
        grams=len(keys),
        components=axes.shape[1],
    )
    return column, TextAxesEncoder(column, TextAxes(keys, idf, axes))


def _evenly(texts: Sequence[str]) -> Sequence[str]:
    """Return as many texts, evenly spaced, as the axes are fitted on."""
    characters = sum(map(len, texts))
    step = max(1, -(-len(texts) // _MOST_ROWS), -(-characters // _MOST_CHARACTERS))
    return texts[::step]


def _tfidf(
    texts: Sequence[str], blocks: Sequence[GramBlock], keys: NDArray[np.int64], idf: Floats
) -> Any:
    """Return the sublinear TF-IDF of texts as a sparse matrix (n, g) of rows of length 1.

    Args:
        texts: n texts.
        blocks: kinds of the n-grams.
        keys: (g,) of the n-grams, ascending.
        idf: (g,) their weights.
    """
    from scipy.sparse import csr_array

    columns, counts, offsets = gram_counts(texts, blocks, keys)
    values = (1 + np.log(counts)) * idf[columns]
    rows = np.repeat(np.arange(len(texts)), np.diff(offsets))
    squares = np.bincount(rows, values**2, len(texts))
    lengths = np.sqrt(np.where(squares > 0, squares, 1.0))
    shape = (len(texts), len(keys))
    return csr_array((values / lengths[rows], columns, offsets), shape=shape)


def _main_axes(matrix: Any, components: int) -> NDArray[np.float32]:
    """Return the axes (g, d) of the largest singular values, the largest first.

    Args:
        matrix: (n, g) sparse.
        components: most axes.
    """
    from sklearn.utils.extmath import randomized_svd

    count = min(components, *matrix.shape)
    if not count:
        return np.zeros((matrix.shape[1], 0), np.float32)
    _, sizes, axes = randomized_svd(matrix, count, n_iter=_PASSES, random_state=0)
    # Of few different texts the last axes are noise.
    is_used = sizes > 1e-6 * sizes[0]
    return np.ascontiguousarray(axes[is_used].T, dtype=np.float32)
