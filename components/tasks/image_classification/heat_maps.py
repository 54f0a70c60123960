"""Divide pictures into cells, and draw what the cells contribute to an answer."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from components.core.page_templates import environment
from components.fields.image import decode

Pixels = NDArray[np.uint8]
# Red, green and blue of contributions for the answer and against it.
_FOR = np.array([31.0, 111.0, 120.0])
_AGAINST = np.array([194.0, 104.0, 31.0])
# Share of the color of the largest contribution, and of the picture below it.
_STRONGEST = 0.85
_SIDE = 112


def cells(side: tuple[int, int], limit: int) -> int:
    """Return into how many rows and columns a picture is divided.

    Args:
        side: height and width.
        limit: most cells.
    """
    return max(1, min(math.isqrt(limit), *side))


def cell_numbers(side: tuple[int, int], count: int) -> NDArray[np.int64]:
    """Return (height, width) the number of each pixel's cell.

    Args:
        side: height and width.
        count: rows and columns of cells.
    """
    row = np.arange(side[0]) * count // side[0]
    column = np.arange(side[1]) * count // side[1]
    numbers: NDArray[np.int64] = row[:, None] * count + column
    return numbers


def without_cells(image: bytes, count: int, indices: Collection[int]) -> bytes:
    """Return a picture with the mean color of the whole in some cells, as PNG.

    Args:
        image: bytes of a file.
        count: rows and columns of cells.
        indices: of the cells.
    """
    pixels = decode(image, 3).copy()
    mean = pixels.reshape(-1, 3).mean(0).round().astype(np.uint8)
    is_out = np.isin(cell_numbers(pixels.shape[:2], count), list(indices))
    pixels[is_out] = mean
    return _png(pixels)


def heat_map(image: bytes, weights: Sequence[float]) -> str:
    """Return a picture beside a gray one with its cells in color, as HTML.

    Args:
        image: bytes of a file.
        weights: of the cells, row by row.
    """
    pixels = decode(image, 3)
    count = math.isqrt(len(weights))
    numbers = cell_numbers(pixels.shape[:2], count)
    heat = np.array(weights)[numbers]
    heat = heat / (np.abs(heat).max() or 1.0)
    # Colors can be told apart on medium gray.
    gray = np.repeat(64 + pixels.mean(2, keepdims=True) / 2, 3, axis=2)
    strength = _STRONGEST * np.abs(heat)[..., None]
    color = np.where(heat[..., None] > 0, _FOR, _AGAINST)
    blended = gray * (1 - strength) + color * strength
    return _shown(pixels) + _shown(blended.round().astype(np.uint8))


def mean_heat_map(weights: NDArray[np.float64]) -> str:
    """Return the importance of cells as a picture, as HTML.

    Args:
        weights: (count, count), not negative.
    """
    strength = (weights / (weights.max() or 1.0))[..., None]
    color = 255 * (1 - strength) + _FOR * strength
    return _shown(color.round().astype(np.uint8), 2 * _SIDE)


def _shown(pixels: Pixels, side: int = _SIDE) -> str:
    template = environment(Path(__file__).parent).get_template("heat_maps.html.j2")
    data = base64.b64encode(_png(pixels)).decode()
    html: str = cast(Any, template.module).picture(data, side)
    return html


def _png(pixels: Pixels) -> bytes:
    from PIL import Image as Pillow

    picture: Any = Pillow.fromarray(pixels)
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()
