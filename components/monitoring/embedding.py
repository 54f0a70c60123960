"""Where an input lies among those of training: a picture by its principal components (Pearson 1901), a text by latent semantic analysis of its words (Deerwester et al. 1990).
Axes are learned from one half of the training rows and described by the other, for rows lie otherwise in a space that was made from them than new ones do."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

COMPONENTS, TOPICS = 8, 4  # axes of pictures, of texts
_BUCKETS = 1 << 12  # of words: the hash's last bits
_LEARNT = 4000  # rows at most from which the axes are learned
_FEW = 100  # rows from which there is anything to learn
_DIGITS = 3
Point = tuple[float, ...]


def learn(vectors: Sequence[NDArray[np.float32]]) -> tuple[dict[str, Any], list[Point]]:
    """Find the directions in which pictures of training differ most.

    Args:
        vectors: of each row (d,), d >= COMPONENTS.

    Returns:
        What `Space` takes, and points of rows that had no part in it; nothing of too few rows, or where all are alike.
    """
    if len(vectors) < _FEW:
        return {}, []
    learnt, described = _halves(len(vectors), _LEARNT)
    strength, axes = np.linalg.eigh(
        np.cov(np.stack([vectors[row] for row in learnt]).T.astype(np.float64))
    )
    told = _space(axes[:, ::-1][:, :COMPONENTS], strength[::-1][:COMPONENTS])
    return told, [Space(told).at(vectors[row]) for row in described] if told else []


def learn_words(rows: Sequence[NDArray[np.int64]]) -> tuple[dict[str, Any], list[Point]]:
    """Find the directions in which the words of texts go together; a word weighs by its inverse document frequency, which the axes hold.

    Args:
        rows: of each text the hashes of its different words.

    Returns:
        As of `learn`.
    """
    if len(rows) < _FEW:
        return {}, []
    from scipy.sparse import csr_array, vstack
    from scipy.sparse.linalg import svds

    texts = vstack([csr_array(words(each)) for each in rows], format="csr")
    learnt, described = _halves(len(rows), len(rows))
    weight = np.log((1 + len(learnt)) / (1 + (texts[learnt] > 0).sum(axis=0)))
    matrix = (texts[learnt] * weight).astype(np.float64)
    if not np.abs(matrix.data).sum():  # no words, or the same in all
        return {}, []
    _, strength, axes = svds(matrix, k=TOPICS, v0=np.ones(min(matrix.shape)))
    told = _space(axes[::-1].T * weight[:, None], strength[::-1])
    return told, [Space(told).at(words(rows[row])) for row in described] if told else []


def words(places: NDArray[np.int64]) -> NDArray[np.float32]:
    """The vector (_BUCKETS,) of a text, from the hashes of its different words: of length one, so that long texts lie no farther out."""
    counts = np.bincount(places % _BUCKETS, minlength=_BUCKETS)
    vector: NDArray[np.float32] = (counts / max(1.0, len(places)) ** 0.5).astype(np.float32)
    return vector


def _halves(rows: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to learn from, and those to describe: drawn, for rows stand in the order of their source, which may be by class."""
    order = np.random.default_rng(7).permutation(rows)
    cut = min(rows // 2, most)
    return order[:cut], order[cut:]


def _space(axes: NDArray[np.float64], strength: NDArray[np.float64]) -> dict[str, Any]:
    """Directions (d, k), strongest first, in whole numbers; without those along which nothing differs."""
    axes = axes[:, strength > 1e-6 * max(strength[0], 0.0)]
    if not axes.size or strength[0] <= 0:
        return {}
    largest = axes[
        np.abs(axes).argmax(0), np.arange(axes.shape[1])
    ]  # signed, else a sign would be chance
    return {
        "size": axes.shape[1],
        "axes": base64.b64encode(np.round(axes / largest * 127).astype(np.int8).tobytes()).decode(),
    }


class Space:
    """Places of new inputs.

    Args:
        told: what `learn` found.
    """

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._axes = np.frombuffer(base64.b64decode(told["axes"]), dtype=np.int8).reshape(
            -1, told["size"]
        ).astype(np.float32) / np.float32(127)

    def at(self, vector: NDArray[np.float32]) -> Point:
        """Where it lies: a number for each direction."""
        return tuple(round(float(each), _DIGITS) for each in vector @ self._axes)


def cloud(points: Sequence[Point]) -> dict[str, Any]:
    """A distribution of points: their number, mean and covariance."""
    given = np.asarray(points)
    return {
        "kind": "cloud",
        "rows": len(given),
        "mean": given.mean(0).round(9).tolist(),
        "covariance": np.atleast_2d(np.cov(given.T)).round(12).tolist(),
    }
