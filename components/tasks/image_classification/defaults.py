"""What is measured on somebody's pictures, and the params that follow."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from components.fields.base import Reject
from components.fields.image import MAX_PIXELS, declared_size
from components.tasks.base import Setting
from components.tasks.classification.defaults import (
    ClassCounts,
    check_classes,
    describe_classes,
    effort_settings,
)
from components.tasks.image_classification.budget import Network, largest_side, training_settings

# Pixels are looked at in so many pictures, evenly spread. The sizes of all are read.
_DECODED = 500
# A difference between channels that JPEG makes of gray.
_GRAY = 8
# Pictures of up to this side keep their size; of larger ones the budget decides.
_AS_IT_IS = 64
_SMALLEST = 8
# Between the aspect ratios of nine tenths of the pictures.
_ALIKE = 1.3
# Of the pictures that are recognized as they are, so many are recognized mirrored.
_KEPT = 0.9
_VIEW = 16
# The default of serve.limits.pixels.
_SERVED_PIXELS = 4_000_000


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
    # whether mirrored pictures keep their class, and why
    flips: tuple[bool, str]

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
        views, labels = list[NDArray[np.float32]](), list[str]()
        stride = max(1, total // _DECODED)
        for number, row in enumerate(rows):
            classes.add(row.get("label"))
            try:
                sizes[declared_size(row["image"])] += 1
                if number % stride == 0 and decoded < _DECODED:
                    with Pillow.open(io.BytesIO(row["image"])) as picture:
                        has_color, has_alpha = _channels(picture)
                        view = _view(picture)
                    decoded += 1
                    colored += has_color
                    transparent += has_alpha
                    if row.get("label") is not None:
                        views.append(view)
                        labels.append(row["label"])
            except (Reject, OSError, ValueError, SyntaxError, Pillow.DecompressionBombError):
                unreadable += 1
        return ImageMeasurements(
            total=total,
            classes=classes,
            sizes=sizes,
            decoded=decoded,
            colored=colored,
            transparent=transparent,
            unreadable=unreadable,
            flips=mirror_test(views, labels),
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
        effort = effort_settings(measured.labelled)
        return [*_pixels(measured), *_network(measured), *_limits(measured), *effort]

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
            becomes = {"squeeze": "squeezed", "pad": "padded", "crop": "cropped"}
            how = becomes[params["clean"]["fit"]]
            lines.append(f"{stretched:,} of {number:,} pictures are not square: {how} (clean.fit)")
        if measured.colored and params["clean"]["channels"] == 1:
            share = f"{measured.colored:,} of {measured.decoded:,} pictures looked at"
            lines.append(f"{share} lose their color: clean.channels")
        return lines


def _pixels(measured: ImageMeasurements) -> list[Setting]:
    """Return the settings of clean: size, channels, fit, duplicates."""
    rows = _train_rows(measured)
    colors = 3 if measured.colored else 1
    side = max(measured.side(50), _SMALLEST)
    reason = f"half of the pictures are up to {side} pixels wide or high"
    if measured.one_size:
        reason = "all pictures are {} x {}".format(*measured.one_size)
    size = side if side <= _AS_IT_IS else largest_side(side, colors, rows)
    if size != side:
        reason += f"; shrunk to {size} x {size}, what a fit of about 20 CPU-minutes allows"
    why = "no picture looked at has color"
    if colors == 3:
        why = f"{measured.colored:,} of {measured.decoded:,} pictures have color"
    return [
        Setting("clean.size", size, reason),
        Setting("clean.channels", colors, why),
        Setting("clean.fit", *_fit(measured)),
        Setting("clean.boilerplate", 0, "equal pictures are duplicates"),
        Setting("clean.near_duplicates", 0.9, "small pictures of one class are much alike"),
    ]


def _fit(measured: ImageMeasurements) -> tuple[str, str]:
    """Return how pictures become squares, and why."""
    aspects = [width / height for width, height in measured.sizes]
    spread = np.repeat(aspects, list(measured.sizes.values()))
    low, high = np.percentile(spread, (10, 90)) if len(spread) else (1.0, 1.0)
    if high / low <= _ALIKE:
        return "squeeze", "nearly all pictures have one aspect ratio: all of the picture is seen"
    return "pad", f"widths are {low:.2g} to {high:.2g} times the heights: shapes are kept"


def _train_rows(measured: ImageMeasurements) -> int:
    """Return about how many rows are for training: without test and validation."""
    return max(1, round(measured.labelled * 0.8))


def _network(measured: ImageMeasurements) -> list[Setting]:
    """Return the network, epochs, transforms, the search and the compression."""
    chosen = {setting.path: setting.value for setting in _pixels(measured)}
    network = Network(chosen["clean.size"], chosen["clean.channels"])
    return list(training_settings(network, _train_rows(measured), measured.flips))


def _limits(measured: ImageMeasurements) -> list[Setting]:
    """Return what a client may send: pictures like those of training."""
    pixels = max((width * height for width, height in measured.sizes), default=0)
    settings = [Setting("serve.limits.characters", 1_000_000, "of a picture's base64")]
    if pixels > _SERVED_PIXELS:
        bounded = min(pixels, MAX_PIXELS)
        why = f"pictures of the data have up to {pixels:,} pixels"
        settings = [
            Setting("serve.limits.characters", 10_000_000, "base64 of a photo of 7 MB"),
            Setting("serve.limits.pixels", bounded, why),
            Setting("serve.limits.body_bytes", 12_000_000, "one photo at a time"),
        ]
    return settings


def mirror_test(views: Sequence[NDArray[np.float32]], labels: Sequence[str]) -> tuple[bool, str]:
    """Return whether mirrored pictures keep their class, and why.

    Pictures of one half are told apart by the nearest mean of the other half, as they are and
    mirrored. Letters and digits are recognized much worse when they are mirrored.

    Args:
        views: gray pictures (16, 16), 0-1.
        labels: their classes.
    """
    plain, mirrored = 0, 0
    for part in (0, 1):
        means = _means(views, labels, part)
        for view, label in list(zip(views, labels, strict=True))[1 - part :: 2]:
            plain += _nearest(view, means) == label
            mirrored += _nearest(view[:, ::-1], means) == label
    count = max(len(views), 1)
    most = max(Counter(labels).values(), default=0)
    if plain < 1.3 * most + 10:
        return False, "whether mirrored pictures keep their class cannot be told: --set augment.online.flip=true"
    figures = f"{plain / count:.0%} of pictures and {mirrored / count:.0%} of mirrored ones"
    kept = mirrored >= _KEPT * plain
    return kept, f"the nearest mean finds the class of {figures}"


def _means(
    views: Sequence[NDArray[np.float32]], labels: Sequence[str], part: int
) -> dict[str, NDArray[np.float32]]:
    """Return the mean picture of each class over every other picture."""
    members: dict[str, list[NDArray[np.float32]]] = {}
    for view, label in list(zip(views, labels, strict=True))[part::2]:
        members.setdefault(label, []).append(view)
    return {label: np.mean(some, axis=0) for label, some in members.items()}


def _nearest(view: NDArray[np.float32], means: Mapping[str, NDArray[np.float32]]) -> str | None:
    """Return the class whose mean is nearest."""
    return min(means, key=lambda label: float(((view - means[label]) ** 2).sum()), default=None)


def _view(picture: Pillow.Image) -> NDArray[np.float32]:
    """Return a small gray picture (16, 16), 0-1, white where it is transparent."""
    small = picture.convert("RGBA").resize((_VIEW, _VIEW))
    white = Pillow.new("RGBA", small.size, "white")
    gray = Pillow.alpha_composite(white, small).convert("L")
    return np.asarray(gray, dtype=np.float32) / np.float32(255)


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
