"""Small pictures as PNG or JPEG bytes."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.fields.base import Change, Reject, Summary

_GRID = 4
_VIEW = 8
MAX_PIXELS = 4_000_000


@lru_cache(maxsize=1)  # what is asked about one picture is asked in a row
def decode(value: bytes, channels: int) -> NDArray[np.uint8]:
    """Picture bytes to pixels (height, width, channels). Raises `Reject` for what is no PNG or JPEG, or is too large."""
    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(value), formats=("PNG", "JPEG")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Reject("too_large", f"{picture.width}x{picture.height}")
            deep = picture.mode.startswith("I")  # 16 bits a pixel, which convert() would clip to white
            shallow = Pillow.fromarray((np.asarray(picture) >> 8).astype(np.uint8)) if deep else picture
            pixels = np.asarray(shallow.convert("L" if channels == 1 else "RGB"))
    except Pillow.DecompressionBombError:
        raise Reject("too_large", "more pixels than any picture has") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise Reject("not_an_image", type(error).__name__) from None
    return pixels.reshape(pixels.shape[0], pixels.shape[1], channels)


class Image:
    """A picture.

    Args:
        channels: 1 (grey) or 3 (RGB).
        size: side length in pixels that networks see; other sizes are resampled.
    """

    arrow = pa.binary()

    def __init__(self, channels: int = 1, size: int = 8) -> None:
        self.channels, self.size = channels, size

    def normalise(self, value: Any) -> bytes:
        """A PNG of the right size and channels: equal pictures give equal bytes."""
        from PIL import Image as Pillow

        if not isinstance(value, bytes):
            raise Reject("not_an_image", type(value).__name__)
        pixels = decode(value, self.channels)
        picture = Pillow.fromarray(pixels[:, :, 0] if self.channels == 1 else pixels)
        if picture.size != (self.size, self.size):
            picture = picture.resize((self.size, self.size), Pillow.Resampling.BILINEAR)
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        return stream.getvalue()

    def clean(self, value: Any) -> bytes:
        """`normalise`, and refuse a picture of one flat colour."""
        png = self.normalise(value)
        if np.ptp(decode(png, self.channels)) == 0:
            raise Reject("blank")
        return png

    def changes(self, value: Any, cleaned: Any) -> Mapping[str, Change]:  # noqa: ARG002
        """Return {"shrunk" or "enlarged" in pixels} of a picture of another size, {"gray"} of a color picture made gray."""
        from PIL import Image as Pillow

        with Pillow.open(io.BytesIO(value)) as picture:
            width, height = picture.size
            color = "A" not in picture.mode and len(picture.getbands()) > 1
        found: dict[str, Change] = {}
        if (width, height) != (self.size, self.size):
            pixels, kept = width * height, min(width, self.size) * min(height, self.size)
            found["shrunk" if kept < pixels else "enlarged"] = Change(pixels - kept, pixels, f"{width} x {height}")
        if color and self.channels == 1:
            found["gray"] = Change(2, 3)
        return found

    def tell(self, change: str, summary: Summary) -> str:
        """Return the line of one kind of change."""
        pictures = summary.rows_of_all("pictures")
        if change == "gray":
            return f"{pictures} turned from color to gray: clean.channels"
        sizes = list(summary.details)
        origin = f"from {sizes[0]} " if len(sizes) == 1 else f"from {len(sizes):,} sizes (most often {sizes[0]}) "
        return f"{pictures} {change} {origin}to {self.size} x {self.size}: clean.size"

    def key(self, value: Any) -> str:
        """A hash of the pixels."""
        return hashlib.sha256(decode(value, self.channels).tobytes()).hexdigest()

    def signature(self, value: Any) -> NDArray[np.uint64] | None:
        """One band per picture quarter (4,): the mean-threshold bits of a coarse grid (average hash, by quarters)."""
        pixels = decode(value, self.channels).mean(axis=2)
        cut = self.size // _GRID * _GRID  # a border that does not fill a cell is left out of the coarse view
        cells = pixels[:cut, :cut].reshape(_GRID, cut // _GRID, _GRID, cut // _GRID).mean(axis=(1, 3))
        levels = (cells / 32).astype(np.uint64)
        quarters = levels.reshape(2, 2, 2, 2).transpose(0, 2, 1, 3).reshape(4, 4)
        weights = np.array([1, 16, 256, 4096], dtype=np.uint64)
        bands: NDArray[np.uint64] = (quarters * weights).sum(axis=1) + np.arange(4, dtype=np.uint64) * np.uint64(1 << 32)
        return bands

    def similar(self, a: Any, b: Any) -> float:
        """One minus the mean absolute difference, stretched so that unrelated pictures are near zero."""
        one, two = (decode(value, self.channels).astype(np.float64) for value in (a, b))
        spread = max(float(np.abs(one - one.mean()).mean() + np.abs(two - two.mean()).mean()) / 2, 1.0)
        return max(0.0, 1.0 - float(np.abs(one - two).mean()) / spread)

    def profile(self, value: Any) -> Mapping[str, float | str]:
        """Mean brightness and contrast, 0-255."""
        pixels = decode(value, self.channels)
        return {"brightness": float(pixels.mean()), "contrast": float(pixels.std())}

    def pieces(self, value: Any) -> Sequence[str]:  # noqa: ARG002
        """None."""
        return ()

    def vector(self, value: Any) -> NDArray[np.float32]:
        """Grey levels (64,) of an 8 x 8 view, 0-1."""
        from PIL import Image as Pillow

        grey = decode(value, self.channels).mean(axis=2).astype(np.uint8)
        view = grey if grey.shape == (_VIEW, _VIEW) else np.asarray(Pillow.fromarray(grey).resize((_VIEW, _VIEW), Pillow.Resampling.BOX))
        return (view.ravel() / 255).astype(np.float32)

    def show(self, value: Any) -> str:
        """An <img> with inline data."""
        return f'<img class="tiny" alt="" src="data:image/png;base64,{base64.b64encode(value).decode()}">'
