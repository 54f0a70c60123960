"""Change a picture as another camera would: shift, rotation and noise."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.fields.image import decode
from components.tasks.base import QueryChange

# Share of a side by which a picture is shifted, by one pixel at least.
_SHIFT = 1 / 32
_DEGREES = 10
# Standard deviation of the noise, in levels of 255.
_NOISE = 8.0

Pixels = NDArray[np.uint8]
# Pixels (height, width, 3) -> the same shape.
Change = Callable[[Pixels, np.random.Generator], Pixels]


def shifted(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a picture shifted to one of four sides. Its edge is repeated."""
    axis = int(rng.integers(2))
    size = pixels.shape[axis]
    step = max(1, round(_SHIFT * size)) * int(rng.choice([-1, 1]))
    sources = np.clip(np.arange(size) - step, 0, size - 1)
    moved: Pixels = np.take(pixels, sources, axis)
    return moved


def rotated(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a picture turned by 10 degrees. Corners get the median color of the edge."""
    from PIL import Image

    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    fill = tuple(int(level) for level in np.median(edge, axis=0))
    angle = _DEGREES * int(rng.choice([-1, 1]))
    turned = Image.fromarray(pixels).rotate(angle, Image.Resampling.BILINEAR, fillcolor=fill)
    return np.asarray(turned)


def noisy(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a picture with normal noise, the same in all channels."""
    noise = rng.normal(0.0, _NOISE, pixels.shape[:2])[:, :, None]
    levels = np.clip(np.rint(pixels + noise), 0, 255)
    return levels.astype(np.uint8)


def _change(name: str, zh: str, change: Change) -> QueryChange:
    """Return a change of pixels as a change of queries."""

    def apply(query: Any, rng: np.random.Generator) -> Any:
        """Return the query with the changed picture, as a PNG."""
        from PIL import Image

        pixels = change(decode(base64.b64decode(query.image), 3), rng)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        return query.model_copy(update={"image": base64.b64encode(stream.getvalue()).decode()})

    return QueryChange(name, zh, apply)


PICTURE_NOISE = (
    _change("shifted", "平移", shifted),
    _change("rotated by 10 degrees", "旋转 10 度", rotated),
    _change("with noise", "加噪声", noisy),
)
