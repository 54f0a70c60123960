"""Define the field of images: any common format, as PNG bytes of one size."""

from __future__ import annotations

import base64
import hashlib
import io
import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.fields.base import Change, Reject, Summary

if TYPE_CHECKING:
    from PIL import Image as Pillow

Fit = Literal["squeeze", "pad", "crop"]
# Suffixes of files that are read as pictures, in small letters.
SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".webp",
    ".bmp",
    ".dib",
    ".tif",
    ".tiff",
    ".gif",
)
# Photos of the largest cameras. What clients may send is bounded by serve.limits.pixels.
MAX_PIXELS = 100_000_000
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
# Larger JPEGs are decoded at a fraction of their size, which bounds memory and time.
_DRAFT_PIXELS = 1_000_000
_DRAFT_FACTOR = 2
# What a broken file may raise in Pillow's readers.
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    struct.error,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
)
_GRID = 4
_VIEW = 8
_HEAD = 512
_TO_PNG = "convert it to PNG or JPEG, for example with"
_HEIC = (
    f"{_TO_PNG} heif-convert (Debian package libheif-examples): heif-convert photo.heic photo.jpg"
)
_AVIF = f"{_TO_PNG} avifdec (Debian package libavif-bin): avifdec photo.avif photo.png"
_SVG = (
    f"{_TO_PNG} rsvg-convert (Debian package librsvg2-bin): rsvg-convert -o drawing.png drawing.svg"
)
_RAW = f"{_TO_PNG} dcraw and ImageMagick: dcraw -c -w photo.nef | convert - photo.jpg"
_MAGICK = f"{_TO_PNG} ImageMagick: convert picture.xxx picture.png"
_RAW_SUFFIXES = (".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")
_MAGICK_SUFFIXES = (".jp2", ".j2k", ".jxl", ".psd", ".xcf", ".tga", ".ico", ".exr", ".dds")
# Suffix -> name of the format, and how to convert it.
UNREAD_SUFFIXES: Mapping[str, tuple[str, str]] = {
    ".heic": ("HEIC", _HEIC),
    ".heif": ("HEIC", _HEIC),
    ".avif": ("AVIF", _AVIF),
    ".svg": ("SVG", _SVG),
    ".svgz": ("SVG", _SVG),
    **{suffix: (f"a raw photo ({suffix[1:].upper()})", _RAW) for suffix in _RAW_SUFFIXES},
    **{suffix: (suffix[1:].upper(), _MAGICK) for suffix in _MAGICK_SUFFIXES},
}
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


def unread(name: str) -> str | None:
    """Return why an image file is not read and how to convert it, or None. The name decides.

    Args:
        name: of the file, with its suffix.
    """
    suffix = "." + name.lower().rpartition(".")[2]
    if suffix not in UNREAD_SUFFIXES:
        return None
    kind, remedy = UNREAD_SUFFIXES[suffix]
    return f"{kind} is not read: {remedy}"


def declared_size(value: bytes) -> tuple[int, int]:
    """Return the width and height that a picture declares, without decoding it.

    Raises:
        Reject: the bytes are no picture of a format that is read, or the picture is too large.

    Args:
        value: bytes of an image file.
    """
    with _opened(value) as picture:
        return picture.size


# Several calls about one image follow each other.
@lru_cache(maxsize=1)
def decode(value: bytes, channels: int) -> NDArray[np.uint8]:
    """Return all upright pixels (height, width, channels) of an image.

    Transparent pictures are composited on white. Of several frames the first is taken.

    Raises:
        Reject: the bytes are no picture of a format that is read, or the picture is too large.

    Args:
        value: bytes of an image file.
        channels: 1 (gray) or 3 (RGB).
    """
    pixels = np.asarray(_upright(value, channels, None))
    return pixels.reshape(pixels.shape[0], pixels.shape[1], channels)


def _upright(value: bytes, channels: int, size: int | None) -> Pillow.Image:
    """Return a picture in mode L or RGB, turned as its EXIF orientation says.

    Args:
        channels: 1 or 3.
        size: the side in pixels that is needed at least; None: the whole picture. A large
            JPEG is then decoded at a half, a quarter or an eighth of its size.
    """
    with _opened(value) as picture:
        try:
            if size and picture.width * picture.height > _DRAFT_PIXELS:
                picture.draft(None, (_DRAFT_FACTOR * size, _DRAFT_FACTOR * size))
            picture.load()
            upright = _eight_bits(_turned(picture))
            opaque = _on_white(upright)
            mode = "L" if channels == 1 else "RGB"
            # `convert` copies even if the mode is the same: 400 MB for 100 megapixels.
            if opaque.mode != mode:
                opaque = opaque.convert(mode)
            return opaque
        except (*_BROKEN, _library().DecompressionBombError) as error:
            raise Reject("not_an_image", type(error).__name__) from None


@lru_cache(maxsize=1)
def _library() -> Any:
    """Return Pillow's module with the limit of pixels set to `MAX_PIXELS`."""
    from PIL import Image as Pillow

    # Pillow warns from this number on and raises from twice as many on.
    Pillow.MAX_IMAGE_PIXELS = MAX_PIXELS
    warnings.filterwarnings("ignore", category=Pillow.DecompressionBombWarning)
    # A broken orientation is ignored: the image is taken as it is.
    warnings.filterwarnings("ignore", message="Corrupt EXIF data", category=UserWarning)
    return Pillow


def _opened(value: bytes) -> Pillow.Image:
    """Return an image of which only the header was read.

    Raises:
        Reject: the bytes are no image of a format that is read, or the image is too large.
    """
    library = _library()
    try:
        _check_webp(value)
        picture: Pillow.Image = library.open(io.BytesIO(value), formats=_FORMATS)
    except (library.DecompressionBombError, library.DecompressionBombWarning):
        raise Reject("too_large", "more pixels than any picture has") from None
    except _BROKEN as error:
        raise _unread_content(value) or Reject("not_an_image", type(error).__name__) from None
    if picture.width * picture.height > MAX_PIXELS:
        raise Reject("too_large", f"{picture.width}x{picture.height}")
    return picture


def _check_webp(value: bytes) -> None:
    """Refuse a large WebP by its header: Pillow reserves memory for all pixels on opening one."""
    if value[:4] != b"RIFF" or value[8:12] != b"WEBP" or value[12:16] != b"VP8X":
        return
    width = int.from_bytes(value[24:27], "little") + 1
    height = int.from_bytes(value[27:30], "little") + 1
    if width * height > MAX_PIXELS:
        raise Reject("too_large", f"{width}x{height}")


def _unread_content(value: bytes) -> Reject | None:
    """Return a refusal that names the format, where it is a known one that is not read."""
    head = value[:_HEAD]
    if head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS:
        return Reject("unsupported_avif", f"AVIF is not read: {_AVIF}")
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return Reject("unsupported_heic", f"HEIC is not read: {_HEIC}")
    if b"<svg" in head:
        return Reject("unsupported_svg", f"SVG is not read: {_SVG}")
    return None


def _turned(picture: Pillow.Image) -> Pillow.Image:
    """Return an image rotated by its EXIF orientation (1 to 8). A broken one is ignored."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        # 0x0112 is the tag of the orientation.
        turn = turns.get(picture.getexif().get(0x0112, 1))
    except _BROKEN:
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _eight_bits(picture: Pillow.Image) -> Pillow.Image:
    """Return a picture with at most 8 bits a channel; `convert` would clip to white instead."""
    if not picture.mode.startswith("I") and picture.mode != "F":
        return picture
    levels: NDArray[Any] = np.asarray(picture)
    deep = picture.mode.startswith("I;16")
    gray = levels >> 8 if deep else _by_range(levels.astype(np.float64))
    return _library().fromarray(gray.astype(np.uint8))  # type: ignore[no-any-return]


def _by_range(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return levels 0-255. The range of the values decides: 0-1, 8 bits, 16 bits or others.

    Args:
        levels: of any shape and range; may hold NaN and infinities.
    """
    levels = np.nan_to_num(levels, posinf=0.0, neginf=0.0)
    low = float(levels.min())
    high = float(levels.max())
    if low >= 0:
        whole = bool((levels == np.floor(levels)).all())
        if high <= 1 and not whole:
            return levels * 255
        if high <= 255:
            return levels
        if high <= 65_535:
            return levels / 256
    return (levels - low) * (255 / max(high - low, 1e-12))


def _on_white(picture: Pillow.Image) -> Pillow.Image:
    """Return an opaque picture."""
    if not picture.has_transparency_data:
        return picture
    library = _library()
    layer = picture.convert("RGBA")
    white = library.new("RGBA", layer.size, "white")
    opaque: Pillow.Image = library.alpha_composite(white, layer)
    return opaque


def _squeezed(picture: Pillow.Image, size: int) -> Pillow.Image:
    """Return an image of size x size. Its aspect is lost, and shrinking is antialiased.

    Args:
        picture: of any size.
        size: side length in pixels.
    """
    if picture.size == (size, size):
        return picture
    return picture.resize((size, size), _library().Resampling.BILINEAR)


def _padded(picture: Pillow.Image, size: int) -> Pillow.Image:
    """Return a whole picture in the middle of size x size, on the median color of its border.

    Args:
        picture: of any size.
        size: side length in pixels.
    """
    if picture.width == picture.height:
        return _squeezed(picture, size)
    longer = max(picture.size)
    width = max(1, round(picture.width * size / longer))
    height = max(1, round(picture.height * size / longer))
    inner = picture.resize((width, height), _library().Resampling.BILINEAR)
    pixels = np.asarray(inner).reshape(height, width, -1)
    rows = [pixels[0], pixels[-1]]
    columns = [pixels[:, 0], pixels[:, -1]]
    border = np.concatenate([*rows, *columns])
    color = tuple(int(level) for level in np.median(border, axis=0))
    canvas: Pillow.Image = _library().new(picture.mode, (size, size), color)
    left = (size - width) // 2
    top = (size - height) // 2
    canvas.paste(inner, (left, top))
    return canvas


def _cropped(picture: Pillow.Image, size: int) -> Pillow.Image:
    """Return the middle square of a picture as size x size.

    Args:
        picture: of any size.
        size: side length in pixels.
    """
    side = min(picture.size)
    left = (picture.width - side) // 2
    top = (picture.height - side) // 2
    if picture.width != picture.height:
        picture = picture.crop((left, top, left + side, top + side))
    return _squeezed(picture, size)


_FITS: Mapping[Fit, Callable[[Pillow.Image, int], Pillow.Image]] = {
    "squeeze": _squeezed,
    "pad": _padded,
    "crop": _cropped,
}


# Pairs of near-duplicates come in the order of their rows.
@lru_cache(maxsize=512)
def _levels(value: bytes, channels: int) -> tuple[NDArray[np.float32], float]:
    """Return the pixels of a picture and their mean distance from their mean.

    Args:
        value: PNG bytes of a clean image.
        channels: 1 or 3.

    Returns:
        (size, size, channels) pixels; their mean absolute deviation, in levels.
    """
    pixels = decode(value, channels).astype(np.float32)
    deviations = np.abs(pixels - pixels.mean())
    return pixels, float(deviations.mean())


class Image:
    """An image.

    Args:
        channels: 1 (gray) or 3 (RGB).
        size: side length in pixels that networks see. Other sizes are resampled.
        fit: how an image that is not square is made square.
    """

    arrow = pa.binary()
    equality = "equal in every pixel"
    knobs: Mapping[str, str] = {}

    def __init__(self, channels: int = 1, size: int = 8, fit: Fit = "squeeze") -> None:
        self.channels = channels
        self.size = size
        self.fit: Fit = fit

    def normalize(self, value: Any) -> bytes:
        """Return a PNG of the right size and channels. Equal images give equal bytes.

        Raises:
            Reject: the value is no image that can be read.
        """
        if not isinstance(value, bytes):
            raise Reject("not_an_image", type(value).__name__)
        picture = _FITS[self.fit](_upright(value, self.channels, self.size), self.size)
        stream = io.BytesIO()
        # Rebuilt from the pixels, so that no metadata of the file remains.
        _library().fromarray(np.asarray(picture)).save(stream, "PNG")
        return stream.getvalue()

    def clean(self, value: Any) -> bytes:
        """Return the normalized image.

        Raises:
            Reject: as `normalize`, or the image has a single color.
        """
        png = self.normalize(value)
        if np.ptp(decode(png, self.channels)) == 0:
            raise Reject("blank")
        return png

    def changes(self, value: Any, cleaned: Any) -> Mapping[str, Change]:  # noqa: ARG002
        """Return the changes "shrunk" or "enlarged" (in pixels) and "gray" (in channels).

        Args:
            value: the raw bytes.
            cleaned: the clean bytes.
        """
        with _opened(value) as picture:
            width, height = picture.size
            is_color = len([band for band in picture.getbands() if band != "A"]) > 1
        result: dict[str, Change] = {}
        if (width, height) != (self.size, self.size):
            pixels = width * height
            remaining = min(width, self.size) * min(height, self.size)
            change = "shrunk" if remaining < pixels else "enlarged"
            result[change] = Change(pixels - remaining, pixels, f"{width} x {height}")
        if is_color and self.channels == 1:
            result["gray"] = Change(2, 3)
        return result

    def describe_change(self, change: str, summary: Summary) -> str:
        """Return the line of one kind of change."""
        pictures = summary.rows_of_all("pictures")
        if change == "gray":
            return f"{pictures} with 3 channels or more made gray: clean.channels"
        sizes = list(summary.details)
        origin = f"from {len(sizes):,} sizes (most often {sizes[0]}) "
        if len(sizes) == 1:
            origin = f"from {sizes[0]} "
        return f"{pictures} {change} {origin}to {self.size} x {self.size}: clean.size"

    def keys(self, values: Sequence[Any]) -> list[str]:
        """Return a hash of the pixels of each image."""
        pixels = (decode(value, self.channels) for value in values)
        return [hashlib.sha256(each.tobytes()).hexdigest() for each in pixels]

    def lsh_bands(self, values: Sequence[Any]) -> NDArray[np.uint64] | None:
        """Return bands (n, 4), one per quarter of an image: its coarse gray levels.

        Args:
            values: PNG bytes of n clean images.
        """
        bands = np.empty((len(values), 4), dtype=np.uint64)
        for row, value in enumerate(values):
            bands[row] = self._quarters(value)
        return bands

    def _quarters(self, value: bytes) -> NDArray[np.uint64]:
        """Return the bands (4,) of one image."""
        pixels = decode(value, self.channels).mean(axis=2)
        # A border that does not fill a cell is not part of the coarse view.
        cut = self.size // _GRID * _GRID
        width = cut // _GRID
        inner = pixels[:cut, :cut]
        cells = inner.reshape(_GRID, width, _GRID, width).mean(axis=(1, 3))
        levels = (cells / 32).astype(np.uint64)
        quarters = levels.reshape(2, 2, 2, 2).transpose(0, 2, 1, 3).reshape(4, 4)
        weights = np.array([1, 16, 256, 4096], dtype=np.uint64)
        numbers = np.arange(4, dtype=np.uint64) * np.uint64(1 << 32)
        bands: NDArray[np.uint64] = (quarters * weights).sum(axis=1) + numbers
        return bands

    def similarities(
        self, values: Sequence[Any], pairs: Sequence[tuple[int, int]]
    ) -> NDArray[np.float64]:
        """Return one minus the mean absolute difference, in units of the images' contrast.

        So unrelated images are near zero, and equal pixels give 1.

        Args:
            values: PNG bytes of clean images of one size.
            pairs: positions in `values`.

        Returns:
            (pairs,) numbers 0-1.
        """
        return np.array([self._similarity(values[one], values[other]) for one, other in pairs])

    def _similarity(self, a: bytes, b: bytes) -> float:
        """Return the similarity of two images."""
        first, first_contrast = _levels(a, self.channels)
        second, second_contrast = _levels(b, self.channels)
        scale = max((first_contrast + second_contrast) / 2, 1.0)
        difference = float(np.abs(first - second).mean())
        return max(0.0, 1.0 - difference / scale)

    def profile(self, value: Any) -> Mapping[str, float | str]:
        """Return the mean brightness and the contrast, 0-255."""
        pixels = decode(value, self.channels)
        return {"brightness": float(pixels.mean()), "contrast": float(pixels.std())}

    def pieces(self, value: Any) -> Sequence[str]:  # noqa: ARG002
        """Return no parts: an image has none."""
        return ()

    def vector(self, value: Any) -> NDArray[np.float32]:
        """Return the gray levels (64,) of an 8 x 8 view, 0-1."""
        from PIL import Image as Pillow

        view = decode(value, self.channels).mean(axis=2).astype(np.uint8)
        if view.shape != (_VIEW, _VIEW):
            gray = Pillow.fromarray(view)
            view = np.asarray(gray.resize((_VIEW, _VIEW), Pillow.Resampling.BOX))
        vector: NDArray[np.float32] = (view.ravel() / 255).astype(np.float32)
        return vector

    def show(self, value: Any) -> str:
        """Return an <img> with inline data."""
        data = base64.b64encode(value).decode()
        return f'<img class="tiny" alt="" src="data:image/png;base64,{data}">'
