"""What is measured on somebody's pictures, and the params that follow."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as Pillow

from components.tasks.base import Setting
from components.tasks.classification.defaults import (
    ClassCounts,
    check_classes,
    describe_classes,
    effort_settings,
)

# Pixels are looked at in so many pictures, evenly spread. The sizes of all are read.
_DECODED = 500
# A difference between channels that JPEG makes of gray.
_GRAY = 8


@dataclass(frozen=True)
class ImageMeasurements:
    """What the choices for pictures depend on."""

    # of the whole source, or of its first 100,000 rows times the share that was read
    total: int
    classes: ClassCounts
    # (width, height) -> pictures
    sizes: Mapping[tuple[int, int], int]
    # pictures whose pixels were looked at, and how many of them have color and transparency
    decoded: int
    colored: int
    transparent: int
    # pictures that cannot be opened
    unreadable: int

    @property
    def labelled(self) -> int:
        """Return the estimated number of rows with a label."""
        seen = max(self.classes.rows, 1)
        return round(self.total * (1 - self.classes.unlabelled / seen))

    @property
    def one_size(self) -> tuple[int, int] | None:
        """Return the size of all pictures, if there is one."""
        return next(iter(self.sizes)) if len(self.sizes) == 1 else None

    def side(self, percentile: float) -> int:
        """Return a percentile of the longer sides, in pixels."""
        sides = np.repeat([max(size) for size in self.sizes], list(self.sizes.values()))
        return int(np.percentile(sides, percentile)) if len(sides) else 0


class ImageDefaults:
    """Facet defaults.py."""

    def measure(self, rows: Iterable[Mapping[str, Any]], total: int) -> ImageMeasurements:
        """Return sizes, channels and classes."""
        classes, sizes = ClassCounts(), Counter[tuple[int, int]]()
        unreadable, decoded, colored, transparent = 0, 0, 0, 0
        stride = max(1, total // _DECODED)
        for number, row in enumerate(rows):
            classes.add(row.get("label"))
            try:
                with Pillow.open(io.BytesIO(row["image"])) as picture:
                    sizes[picture.size] += 1
                    if number % stride == 0 and decoded < _DECODED:
                        has_color, has_alpha = _channels(picture)
                        decoded += 1
                        colored += has_color
                        transparent += has_alpha
            except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError):
                unreadable += 1
        return ImageMeasurements(
            total=total,
            classes=classes,
            sizes=sizes,
            decoded=decoded,
            colored=colored,
            transparent=transparent,
            unreadable=unreadable,
        )

    def describe(self, measured: ImageMeasurements) -> Sequence[tuple[str, str]]:
        """Return sizes, channels and classes for a person."""
        lines = [("sizes", _sizes(measured)), ("colors", _colors(measured))]
        if measured.transparent:
            share = f"{measured.transparent:,} of {measured.decoded:,} looked at"
            lines.append(("with transparency", f"{share}; composited on white"))
        if measured.unreadable:
            lines.append(("cannot be opened", f"{measured.unreadable:,}"))
        return [*lines, *describe_classes(measured.classes)]

    def check(self, measured: ImageMeasurements) -> None:
        """Refuse targets that are no classes."""
        check_classes(measured.classes)

    def settings(self, measured: ImageMeasurements) -> Sequence[Setting]:
        """Return size, channels, network and effort for these pictures."""
        return [*_pixels(measured), *_network(measured), *effort_settings(measured.labelled)]

    def losses(self, measured: ImageMeasurements, params: Mapping[str, Any]) -> Sequence[str]:
        """Return how many pictures lose pixels or color."""
        lines = []
        size, number = params["clean"]["size"], sum(measured.sizes.values())
        larger = sum(n for sides, n in measured.sizes.items() if max(sides) > size)
        if larger:
            target = f"{size} x {size}"
            lines.append(f"{larger:,} of {number:,} pictures are shrunk to {target}: clean.size")
        stretched = sum(n for (width, height), n in measured.sizes.items() if width != height)
        if stretched:
            lines.append(f"{stretched:,} of {number:,} pictures are not square and are stretched")
        if measured.colored and params["clean"]["channels"] == 1:
            share = f"{measured.colored:,} of {measured.decoded:,} pictures looked at"
            lines.append(f"{share} lose their color: clean.channels")
        return lines


def _pixels(measured: ImageMeasurements) -> list[Setting]:
    """Return clean.size and clean.channels."""
    size = measured.side(50)
    reason = f"half of the pictures are up to {size} pixels wide or high"
    if measured.one_size:
        reason = "all pictures are {} x {}".format(*measured.one_size)
    # 8 and 64: what a network of two convolutions on two cores is good for.
    bounded = min(max(size, 8), 64)
    if bounded != size:
        reason += f"; resampled to {bounded} x {bounded}"
    channels, why = 1, "no picture looked at has color"
    if measured.colored:
        channels, why = 3, f"{measured.colored:,} of {measured.decoded:,} pictures have color"
    return [Setting("clean.size", bounded, reason), Setting("clean.channels", channels, why)]


def _network(measured: ImageMeasurements) -> list[Setting]:  # noqa: ARG001
    """Return the sizes of the network, epochs, transforms, the search space and the student."""
    return []


def _channels(picture: Pillow.Image) -> tuple[bool, bool]:
    """Return whether a picture has color, judged by its pixels, and whether it is transparent."""
    # A photo of many megapixels is decoded at a fraction of its size.
    picture.draft("RGB", (256, 256))
    picture.thumbnail((256, 256))
    alpha = picture.has_transparency_data
    if picture.mode in ("1", "L", "LA", "F") or picture.mode.startswith("I"):
        return False, alpha
    rgba = np.asarray(picture.convert("RGBA")).astype(np.int16)
    colors, opacity = rgba[:, :, :3], rgba[:, :, 3]
    spread = colors.max(axis=2) - colors.min(axis=2)
    return bool((spread[opacity > 0] > _GRAY).any()), alpha and bool((opacity < 255).any())


def _sizes(measured: ImageMeasurements) -> str:
    if not measured.sizes:
        return "no picture could be opened"
    if measured.one_size:
        return "all {} x {}".format(*measured.one_size)
    widths = [width for width, _ in measured.sizes]
    heights = [height for _, height in measured.sizes]
    smallest = f"{min(widths):,} x {min(heights):,}"
    largest = f"{max(widths):,} x {max(heights):,}"
    return f"{len(measured.sizes):,} sizes, from {smallest} to {largest}"


def _colors(measured: ImageMeasurements) -> str:
    gray = measured.decoded - measured.colored
    if not measured.colored:
        return f"gray (by the pixels of {measured.decoded:,} pictures)"
    if not gray:
        return f"color (by the pixels of {measured.decoded:,} pictures)"
    return f"{measured.colored:,} with color and {gray:,} gray, of {measured.decoded:,} looked at"


DEFAULTS = ImageDefaults()
