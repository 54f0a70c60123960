"""Compute features of images for a linear model, in numpy.

They are histograms of gradients (Dalal and Triggs 2005) and responses of patches to filters. The
filters are whitened random patches with soft thresholds, pooled over quarters of the image
(Coates and Ng 2011).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float32]
# Larger images are shrunk to this side, because their patches would cost more than a network.
LARGEST_SIDE = 32
_FILTERS = 150
_DRAWN = 20_000
_BINS = 9
_GRID = 2
_THRESHOLD = 0.25
# Of levels 0-255: patches with less contrast are flat, and _LIFT is added to variances.
_FLAT = 8.0
_LIFT = 10.0
_WHITENING = 0.1
_CLIP = 0.25
_ROWS_AT_A_TIME = 100


@dataclass(frozen=True)
class FilterBank:
    """Filters over patches: the response of a patch x, normalized, is x @ weights - bias."""

    # (side of the patch squared * channels, filters)
    weights: Floats
    # (filters,)
    bias: Floats

    def arrays(self) -> dict[str, Floats]:
        """Return the filters as arrays of a bundle."""
        return {"filter_weights": self.weights, "filter_bias": self.bias}

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> FilterBank:
        """Return the filters of a bundle."""
        return cls(np.asarray(arrays["filter_weights"]), np.asarray(arrays["filter_bias"]))


def draw_filters(pixels: Floats, rng: np.random.Generator) -> FilterBank:
    """Return whitened patches of some pictures as filters.

    Args:
        pixels: levels 0-255, (pictures, side, side, channels).
        rng: chooses the patches.

    Returns:
        At most `_FILTERS` filters of unit length, whitened (Coates and Ng 2011).
    """
    width = _patch_width(pixels.shape[1])
    positions = pixels.shape[1] - width + 1
    pictures = rng.integers(0, len(pixels), _DRAWN)
    rows = rng.integers(0, positions, _DRAWN)
    columns = rng.integers(0, positions, _DRAWN)
    corners = zip(pictures, rows, columns, strict=True)
    flat_patches = []
    for number, row, column in corners:
        patch = _flat_patch(pixels[number], row, column, width)
        flat_patches.append(patch)
    drawn = np.stack(flat_patches)
    textured = drawn[drawn.std(axis=1) > _FLAT]
    # A covariance needs two patches.
    if len(textured) > 1:
        drawn = textured
    patches = _normalized(drawn).astype(np.float64)
    mean = patches.mean(axis=0)
    covariance = np.cov(patches - mean, rowvar=False)
    values, vectors = np.linalg.eigh(covariance)
    scales = np.sqrt(np.maximum(values, 0) + _WHITENING)
    whitening = (vectors / scales) @ vectors.T
    centered = patches[:_FILTERS] - mean
    chosen = (centered @ whitening).T
    norms = np.linalg.norm(chosen, axis=0)
    filters = chosen / np.maximum(norms, 1e-9)
    weights = whitening @ filters
    bias = mean @ weights
    return FilterBank(weights.astype(np.float32), bias.astype(np.float32))


def features(pixels: Floats, bank: FilterBank) -> Floats:
    """Return the features (pictures, features) of pictures.

    Args:
        pixels: levels 0-255, (pictures, side, side, channels).
        bank: filters that fit the channels.
    """
    parts = []
    for batch in _batches(pixels):
        both = [_gradients(batch), _responses(batch, bank)]
        parts.append(np.concatenate(both, axis=1))
    return np.concatenate(parts).astype(np.float32)


def _batches(pixels: Floats) -> Iterator[Floats]:
    """Yield consecutive batches of pictures, which bound the memory of the patches."""
    for start in range(0, len(pixels), _ROWS_AT_A_TIME):
        yield pixels[start : start + _ROWS_AT_A_TIME]


def _patch_width(side: int) -> int:
    """Return the side of a patch in pixels."""
    return 6 if side >= 16 else 5


def _cell_width(side: int) -> int:
    """Return the side of a cell of the gradient histograms in pixels."""
    return 4 if side >= 16 else 2


def _flat_patch(picture: Floats, row: int, column: int, width: int) -> Floats:
    """Return a patch in the layout of `_responses`: channels first."""
    patch = picture[row : row + width, column : column + width]
    return patch.transpose(2, 0, 1).ravel()


def _normalized(patches: Floats) -> Floats:
    """Return patches (..., elements) of mean 0 and variance 1. Flat ones have less variance."""
    centered = patches - patches.mean(axis=-1, keepdims=True)
    scale = np.sqrt((centered**2).mean(axis=-1, keepdims=True) + _LIFT)
    normalized: Floats = centered / scale
    return normalized


def _responses(pixels: Floats, bank: FilterBank) -> Floats:
    """Return the mean responses of each quarter to each filter, of both signs.

    Args:
        pixels: (pictures, side, side, channels).
        bank: the filters.

    Returns:
        (pictures, 2 * quarters * filters).
    """
    width = _patch_width(pixels.shape[1])
    windows = sliding_window_view(pixels, (width, width), axis=(1, 2))
    # (pictures, positions, positions, channels * width * width)
    patches = windows.reshape(*windows.shape[:3], -1)
    responses = _normalized(patches) @ bank.weights - bank.bias
    edges = np.linspace(0, responses.shape[1], _GRID + 1).astype(int)
    pooled = []
    for signed in (responses, -responses):
        strong = np.maximum(signed - _THRESHOLD, 0)
        for top, bottom in pairwise(edges):
            band = strong[:, top:bottom]
            for left, right in pairwise(edges):
                quarter = band[:, :, left:right]
                pooled.append(quarter.mean(axis=(1, 2)))
    return np.concatenate(pooled, axis=1)


def _gradients(pixels: Floats) -> Floats:
    """Return histograms of the directions of gradients, normalized over 2 x 2 cells.

    Args:
        pixels: (pictures, side, side, channels).

    Returns:
        (pictures, blocks * 4 * bins), clipped at `_CLIP` (Dalal and Triggs 2005).
    """
    gray = pixels.mean(axis=3)
    down, right = np.gradient(gray, axis=(1, 2))
    strength = np.hypot(right, down)
    angle = np.arctan2(down, right) % (2 * np.pi)
    position = angle / (2 * np.pi) * _BINS
    lower = np.floor(position)
    share = position - lower
    histogram = np.zeros((*gray.shape, _BINS), np.float32)
    index = np.indices(gray.shape)
    below = lower.astype(int) % _BINS
    above = (below + 1) % _BINS
    # A gradient counts in the two bins next to its angle, in proportion to its nearness.
    histogram[(*index, below)] += strength * (1 - share)
    histogram[(*index, above)] += strength * share
    cells = _summed_cells(histogram, _cell_width(gray.shape[1]))
    blocks = sliding_window_view(cells, (2, 2), axis=(1, 2))
    blocks = blocks.reshape(*blocks.shape[:3], -1)
    norm = np.sqrt((blocks**2).sum(axis=3, keepdims=True) + _LIFT**2)
    clipped: Floats = np.minimum(blocks / norm, _CLIP)
    return clipped.reshape(len(pixels), -1)


def _summed_cells(histogram: Floats, width: int) -> Floats:
    """Return sums over cells. A border that fills no cell is left out.

    Args:
        histogram: (pictures, side, side, bins).
        width: side of a cell in pixels.

    Returns:
        (pictures, cells, cells, bins).
    """
    count, side, _, bins = histogram.shape
    cells = side // width
    inner = histogram[:, : cells * width, : cells * width]
    summed: Floats = inner.reshape(count, cells, width, cells, width, bins).sum(axis=(2, 4))
    return summed
