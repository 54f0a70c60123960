"""Where a picture lies among those of training: its principal components (Pearson 1901), learnt from one half of the training rows and described by the other, for rows lie
otherwise in a space that was made from them than new ones do."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

COMPONENTS = 8
_LEARNT = 4000  # rows at most from which the axes are learnt
_FEW = 100  # rows from which there is anything to learn
_DIGITS = 3
Point = tuple[float, ...]


def learn(vectors: Sequence[NDArray[np.float32]]) -> tuple[dict[str, Any], list[Point]]:
    """Find the directions in which training rows differ most.

    Args:
        vectors: of each row (d,), d >= COMPONENTS.

    Returns:
        What `Space` takes, and points of rows that had no part in it; nothing of too few rows, or where all are alike.
    """
    if len(vectors) < _FEW:
        return {}, []
    order = np.random.default_rng(7).permutation(len(vectors))  # rows stand in the order of their source, which may be by class
    cut = min(len(vectors) // 2, _LEARNT)
    strength, axes = np.linalg.eigh(np.cov(np.stack([vectors[row] for row in order[:cut]]).T.astype(np.float64)))
    axes = axes[:, ::-1][:, :COMPONENTS][:, strength[::-1][:COMPONENTS] > 1e-6 * strength[-1]]
    if not axes.size or strength[-1] <= 0:
        return {}, []
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])  # else a sign would be chance
    told = {"size": axes.shape[1], "axes": base64.b64encode(np.round(axes * 127).astype(np.int8).tobytes()).decode()}
    space = Space(told)
    return told, [space.at(vectors[row]) for row in order[cut:]]


class Space:
    """Places of new pictures.

    Args:
        told: what `learn` found.
    """

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._axes = np.frombuffer(base64.b64decode(told["axes"]), dtype=np.int8).reshape(-1, told["size"]).astype(np.float32) / np.float32(127)

    def at(self, vector: NDArray[np.float32]) -> Point:
        """Where a picture lies: a number for each direction."""
        return tuple(round(float(each), _DIGITS) for each in vector @ self._axes)


def cloud(points: Sequence[Point]) -> dict[str, Any]:
    """A distribution of points: their number, mean and covariance."""
    given = np.asarray(points)
    return {"kind": "cloud", "rows": len(given), "mean": given.mean(0).round(9).tolist(), "covariance": np.atleast_2d(np.cov(given.T)).round(12).tolist()}
