"""Embeddings of inputs: where an input lies among those of training.

An image is placed by its principal components (Pearson 1901). A text is placed by latent semantic
analysis of its words (Deerwester et al. 1990). Axes are learned from one half of the training rows
and described by the other half. Rows lie otherwise in a space that was made from them than new
rows do.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# axes of images, and of texts
COMPONENTS = 8
TOPICS = 4
# buckets of words: the last bits of their hashes
_BUCKETS = 1 << 12
# the axes of images are learned from at most so many rows
_MAX_LEARNING_ROWS = 4000
# fewer rows are too few to learn axes from
_MIN_ROWS = 100
_DIGITS = 3
Point = tuple[float, ...]


def learn(vectors: Sequence[NDArray[np.float32]]) -> tuple[dict[str, Any], list[Point]]:
    """Find the directions in which images of training differ most.

    Args:
        vectors: of each row (d,), d >= COMPONENTS.

    Returns:
        The axes that `Space` takes, and the points of the rows that they were not learned from.
        Both are empty for too few rows, or where all rows are alike.
    """
    if len(vectors) < _MIN_ROWS:
        return {}, []
    learning, described = _halves(len(vectors), _MAX_LEARNING_ROWS)
    matrix = np.stack([vectors[row] for row in learning])
    strength, axes = np.linalg.eigh(np.cov(matrix.T.astype(np.float64)))
    strongest = axes[:, ::-1][:, :COMPONENTS]
    space = _space(strongest, strength[::-1][:COMPONENTS])
    if not space:
        return space, []
    return space, [Space(space).at(vectors[row]) for row in described]


def learn_words(rows: Sequence[NDArray[np.int64]]) -> tuple[dict[str, Any], list[Point]]:
    """Find the directions in which the words of texts go together.

    A word is weighted by its inverse document frequency, which the axes hold.

    Args:
        rows: of each text the hashes of its different words.

    Returns:
        The axes and points, as `learn` returns them.
    """
    if len(rows) < _MIN_ROWS:
        return {}, []
    from scipy.sparse.linalg import svds

    texts = _sparse_words(rows)
    learning, described = _halves(len(rows), len(rows))
    document_counts = (texts[learning] > 0).sum(axis=0)
    weight = np.log((1 + len(learning)) / (1 + document_counts))
    matrix = (texts[learning] * weight).astype(np.float64)
    # no words, or the same words in all texts
    if not np.abs(matrix.data).sum():
        return {}, []
    _, strength, axes = svds(matrix, k=TOPICS, v0=np.ones(min(matrix.shape)))
    space = _space(axes[::-1].T * weight[:, None], strength[::-1])
    if not space:
        return space, []
    return space, [Space(space).at(words(rows[row])) for row in described]


def words(hashes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the vector (_BUCKETS,) of a text.

    Vectors have length one, so that long texts do not lie farther out.

    Args:
        hashes: of the different words of the text.
    """
    counts = np.bincount(hashes % _BUCKETS, minlength=_BUCKETS)
    scaled = counts / max(1.0, len(hashes)) ** 0.5
    vector: NDArray[np.float32] = scaled.astype(np.float32)
    return vector


def _sparse_words(rows: Sequence[NDArray[np.int64]]) -> Any:
    """Return the vectors (n, _BUCKETS) of texts as `words` computes them, without their zeros.

    Returns:
        A `csr_array`.
    """
    from scipy.sparse import csr_array

    columns = []
    values = []
    for hashes in rows:
        vector = words(hashes)
        present = np.flatnonzero(vector)
        columns.append(present)
        values.append(vector[present])
    starts = np.cumsum([0, *map(len, columns)], dtype=np.int32)
    places = np.concatenate(columns).astype(np.int32)
    parts = (np.concatenate(values), places, starts)
    return csr_array(parts, shape=(len(rows), _BUCKETS))


def _halves(rows: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the rows to learn from, and the rows to describe.

    They are drawn at random: rows come in the order of their source, which may be sorted.
    """
    order = np.random.default_rng(7).permutation(rows)
    cut = min(rows // 2, most)
    return order[:cut], order[cut:]


def _space(axes: NDArray[np.float64], strength: NDArray[np.float64]) -> dict[str, Any]:
    """Return the directions (d, k), strongest first, in whole numbers.

    Directions along which nothing differs are left out.
    """
    axes = axes[:, strength > 1e-6 * max(strength[0], 0.0)]
    if not axes.size or strength[0] <= 0:
        return {}
    # with its sign, else the sign of an axis would be chance
    largest = axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])]
    rounded = np.round(axes / largest * 127).astype(np.int8)
    return {
        "size": axes.shape[1],
        "axes": base64.b64encode(rounded.tobytes()).decode(),
    }


class Space:
    """Computes the positions of new inputs.

    Args:
        space: what `learn` or `learn_words` returned.
    """

    def __init__(self, space: Mapping[str, Any]) -> None:
        rounded = np.frombuffer(base64.b64decode(space["axes"]), dtype=np.int8)
        axes = rounded.reshape(-1, space["size"]).astype(np.float32)
        self._axes = axes / np.float32(127)

    def at(self, vector: NDArray[np.float32]) -> Point:
        """Return the position of an input: a number for each direction.

        Args:
            vector: (d,) of the input.
        """
        return tuple(round(float(coordinate), _DIGITS) for coordinate in vector @ self._axes)


def describe_points(points: Sequence[Point]) -> dict[str, Any]:
    """Return the distribution of points: their number, mean and covariance."""
    matrix = np.asarray(points)
    return {
        "kind": "cloud",
        "rows": len(matrix),
        "mean": matrix.mean(0).round(9).tolist(),
        "covariance": np.atleast_2d(np.cov(matrix.T)).round(12).tolist(),
    }
