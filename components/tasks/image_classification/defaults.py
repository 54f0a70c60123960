"""Measure a user's images and derive the params from the measurements."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from components.fields.base import Reject
from components.fields.image import MAX_PIXELS, declared_size
from components.tasks.base import Fit, Setting, SourceStats
from components.tasks.shared.defaults.classification.defaults import (
    ClassCounts,
    ClassDefaults,
    check_classes,
    describe_classes,
)
from components.tasks.shared.defaults.preset_values import (
    Presets,
    with_ensemble,
    with_search,
    without_search,
)

# Images whose pixels are read, evenly distributed. The sizes of all images are read.
_DECODED = 500
# A difference between channels that JPEG makes of gray.
_GRAY = 8
# Pictures of up to this side keep their size; of larger ones the budget decides.
_AS_IT_IS = 64
_SMALLEST = 8
# Largest ratio between the aspect ratios of nine tenths of the images.
_ALIKE = 1.3
# Share of the recognized images that must be recognized mirrored, too.
_KEPT = 0.9
_VIEW = 16
# The default of serve.limits.pixels.
_SERVED_PIXELS = 4_000_000
# CPU-seconds that the fit of the first network may take, of the 30 CPU-minutes of a whole run.
FIT_SECONDS = 1_300.0
# Above this, search and distillation would take longer than the fit is worth.
SEARCH_SECONDS = 60.0
# With fewer train rows neither search nor a smaller network can be told from chance.
_FEW_ROWS = 1_000
PRUNE_SECONDS = 400.0
# Multiplications of a forward pass that a core trained through in a second, in fp32: 541 pictures
# of 28 x 28 with the network of three blocks below, on an AMD EPYC with AVX-512.
_MULTIPLICATIONS_PER_SECOND = 11e9
# Rows -> epochs: few rows need many passes.
_EPOCHS = ((500, 60), (2_000, 40), (5_000, 30), (20_000, 20), (math.inf, 12))
_LEAST_EPOCHS = 6
# Rows of the linear model in a fast run.
_FAST_ROWS = 4_000
_MANY_ROWS = 20_000
# Sides that photos are shrunk to, the largest first.
_SIDES = (128, 96, 64)
# Blocks -> channels and convolutions of each block; each block but the last halves the picture.
_BLOCKS: dict[int, tuple[list[int], list[int]]] = {
    2: ([32, 64], [2, 2]),
    3: ([32, 64, 128], [1, 2, 2]),
    4: ([32, 64, 128, 128], [1, 1, 1, 2]),
    5: ([16, 32, 64, 128, 128], [1, 1, 1, 1, 2]),
}
# The side that the last block should see.
_LAST_SIDE = 7


@dataclass(frozen=True)
class ConvNetShape:
    """A ConvNet for pictures of one size.

    Args:
        size: side of a picture in pixels.
        colors: channels of a picture.
    """

    size: int
    colors: int

    @property
    def blocks(self) -> int:
        """Return the number of blocks, so that the last one sees about 7 x 7 positions."""
        halvings = round(math.log2(self.size / _LAST_SIDE))
        wanted = max(1 + halvings, 2)
        return min(wanted, max(_BLOCKS))

    @property
    def config(self) -> dict[str, Any]:
        """Return the config of the ConvNet."""
        channels, depths = _BLOCKS[self.blocks]
        small = self.size < 2 * _LAST_SIDE
        return {
            "channels": channels,
            "depths": [1] * len(channels) if small else depths,
            # With so few positions, each carries information.
            "pooling": "none" if small else "average",
            "hidden": 64 if small else 0,
            "dropout": 0.2,
        }

    @property
    def multiplications(self) -> int:
        """Return the multiplications of the convolutions for one picture."""
        total = 0
        side = self.size
        width = self.colors
        for channels, depth in zip(self.config["channels"], self.config["depths"], strict=True):
            for _ in range(depth):
                total += side * side * 9 * width * channels
                width = channels
            side //= 2
        return total

    def seconds(self, rows: int, epochs: int) -> float:
        """Return the CPU-seconds of a fit, in fp32."""
        return rows * epochs * self.multiplications / _MULTIPLICATIONS_PER_SECOND


def epochs_for(network: ConvNetShape, rows: int) -> int:
    """Return the epochs that a number of train rows needs, or as many as the budget allows."""
    wanted = next(epochs for limit, epochs in _EPOCHS if rows <= limit)
    epoch_seconds = max(network.seconds(rows, 1), 1e-9)
    allowed = int(FIT_SECONDS / epoch_seconds)
    return max(_LEAST_EPOCHS, min(wanted, allowed))


def largest_side(side: int, colors: int, rows: int) -> int:
    """Return the side to which photos are shrunk: the largest one that the budget allows.

    Args:
        side: of the pictures as they are.
        colors: channels of a picture.
        rows: of train.
    """
    for candidate in _SIDES:
        network = ConvNetShape(candidate, colors)
        wanted = next(epochs for limit, epochs in _EPOCHS if rows <= limit)
        if candidate <= side and network.seconds(rows, wanted) <= FIT_SECONDS:
            return candidate
    return min(side, _SIDES[-1])


def training_settings(
    network: ConvNetShape, rows: int, flips: tuple[bool, str]
) -> Sequence[Setting]:
    """Return how a network is trained, searched and compressed.

    Args:
        network: the first one.
        rows: of train.
        flips: whether pictures are mirrored, and why.
    """
    epochs = epochs_for(network, rows)
    seconds = network.seconds(rows, epochs)
    return [
        *_augment(network, rows, flips),
        *_training(network, rows, epochs),
        *_search(rows, epochs, seconds),
        *_compress(network, rows, epochs, seconds),
    ]


def _augment(network: ConvNetShape, rows: int, flips: tuple[bool, str]) -> list[Setting]:
    shift = round(network.size / 14, 1)
    degrees = 8.0
    zoom = 0.1
    why = "a little: 6 and 9 must stay apart"
    if rows > _MANY_ROWS:
        # The few epochs of a large data set are too few to learn from strong transforms.
        shift = round(network.size / 28, 1)
        degrees = 4.0
        zoom = 0.0
        why = f"{rows:,} train rows differ enough by themselves"
    return [
        Setting("augment.rate", 0.0, "pictures are transformed on the fly: no row is added"),
        Setting("augment.online.rotate_degrees", degrees, why),
        Setting("augment.online.shift_pixels", shift, "in proportion to the size"),
        Setting("augment.online.zoom", zoom, "0.1: enlarged or shrunk by up to a tenth"),
        Setting("augment.online.flip", *flips),
    ]


def _training(network: ConvNetShape, rows: int, epochs: int) -> list[Setting]:
    # Steps must be many enough: a small data set has small batches.
    batch = 32
    rate = 2e-3
    if rows > 1_000:
        batch = 64
        rate = 3e-3
    if rows > 10_000:
        batch = 128
        rate = 4e-3
    elements = batch * network.size**2 * network.colors
    seconds = network.seconds(rows, epochs)
    cost = f"about {seconds:,.0f} CPU-seconds in fp32, of a budget of {FIT_SECONDS:,.0f}"
    blocks = f"{network.blocks} blocks for pictures of {network.size} x {network.size}"
    settings = [
        Setting("train.epochs", epochs, f"for {rows:,} train rows: {cost}"),
        Setting("train.batch_size", batch, f"for {rows:,} train rows"),
        Setting("train.micro_batch_tokens", max(16_384, elements), "a whole batch at once"),
        Setting("train.learning_rate", rate, f"the peak of one cycle, at {batch} rows a step"),
        Setting("train.schedule", "one_cycle", "reaches its best in the last epochs"),
        Setting("train.warmup_share", 0.2, "of one cycle"),
        Setting("train.weight_decay", 0.05, "for networks with batch norm"),
        Setting("train.label_smoothing", 0.05, "against overconfidence"),
        Setting("train.patience", epochs, "one cycle is never stopped early"),
    ]
    for name, value in network.config.items():
        settings.append(Setting(f"train.nets.convnet.{name}", value, blocks))
    return settings


def _search(rows: int, epochs: int, seconds: float) -> list[Setting]:
    space = {
        "learning_rate": {"loguniform": [1e-3, 1e-2]},
        "nets.convnet.dropout": {"uniform": [0.0, 0.4]},
    }
    trials = 4
    why = f"a fit takes about {seconds:,.0f} CPU-seconds"
    if seconds > SEARCH_SECONDS:
        trials = 0
        why += ": a search costs more than it gains; --set tune.trials=4 searches"
    if rows < _FEW_ROWS:
        trials = 0
        why = f"{rows:,} train rows are too few to tell trials apart; --set tune.trials=4 searches"
    return [
        Setting("tune.trials", trials, why),
        Setting("tune.epochs", max(1, epochs // 2), "half of a fit"),
        Setting("tune.grace_epochs", max(1, epochs // 8), "before a trial may be stopped"),
        Setting("tune.space", space, "what matters most for this network"),
    ]


def _compress(
    network: ConvNetShape,
    rows: int,
    epochs: int,
    seconds: float,
) -> list[Setting]:
    if rows < _FEW_ROWS:
        why = f"{rows:,} train rows: the network is small and quick already"
        recipes = ("prune", "quantize", "distill")
        return [Setting(f"compress.{recipe}", None, why) for recipe in recipes]
    settings = []
    if seconds > PRUNE_SECONDS:
        why = f"it would cost a part of {seconds:,.0f} CPU-seconds again; int8 is kept"
        settings.append(Setting("compress.prune", None, why))
    else:
        few = max(1, epochs // 4)
        settings.append(Setting("compress.prune.epochs", few, "a quarter of a fit"))
        settings.append(Setting("compress.prune.learning_rate", 1e-3, "half of the fit's or less"))
    if seconds > SEARCH_SECONDS:
        why = f"a fit takes about {seconds:,.0f} CPU-seconds; int8 is small already"
        return [*settings, Setting("compress.distill", None, why)]
    config = network.config
    narrow = [max(8, width // 2) for width in config["channels"]]
    student = {
        "architecture": "convnet",
        "nets": {"convnet": {**config, "channels": narrow}},
        "epochs": epochs,
        "learning_rate": 4e-3,
        "temperature": 2.0,
        "weight": 0.7,
    }
    return [*settings, Setting("compress.distill", student, "half as wide")]


@dataclass(frozen=True)
class ImageMeasurements:
    """Measurements of images that the choice of params depends on."""

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
        longer_sides = [max(size) for size in self.sizes]
        counts = list(self.sizes.values())
        sides = np.repeat(longer_sides, counts)
        if not len(sides):
            return 0
        return int(np.percentile(sides, percentile))


class ImageDefaults(ClassDefaults):
    """Facet defaults.py."""

    @property
    def presets(self) -> Presets:
        """Return the presets."""
        return {"fast": _fast, "best": _best}

    def fit(self, source: SourceStats, target: str | None) -> Fit:  # noqa: ARG002
        """Return whether the source holds pictures."""
        for name, column in source.columns.items():
            if column.is_picture:
                what = f"{name!r} holds pictures" if source.is_table else "the files are pictures"
                return Fit(0.95, what)
        return Fit(0.0, "there are no pictures")

    def measure(self, rows: Iterable[Mapping[str, Any]], total: int) -> ImageMeasurements:
        """Return sizes, channels and classes."""
        classes = ClassCounts()
        sizes = Counter[tuple[int, int]]()
        unreadable = 0
        decoded = 0
        colored = 0
        transparent = 0
        views: list[NDArray[np.float32]] = []
        labels: list[str] = []
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
        return [*_pixels(measured), *_network(measured), *_limits(measured)]

    def losses(self, measured: ImageMeasurements, params: Mapping[str, Any]) -> Sequence[str]:
        """Return how many pictures lose pixels or color."""
        lines = []
        size = params["clean"]["size"]
        number = sum(measured.sizes.values())
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


def _fast(params: Mapping[str, Any]) -> list[Setting]:
    """Return the settings of one short fit, and of a linear model on few rows."""
    rows = min(params["train"]["classical"]["rows"], _FAST_ROWS)
    return [
        *without_search(params, epochs=3),
        Setting("train.classical.rows", rows, "rows of the linear model"),
    ]


def _best(params: Mapping[str, Any]) -> list[Setting]:
    """Return the settings of a wide search, and of an ensemble of networks."""
    return [*with_search(params), with_ensemble(params)]


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
    all_aspects = np.repeat(aspects, list(measured.sizes.values()))
    low = 1.0
    high = 1.0
    if len(all_aspects):
        low, high = np.percentile(all_aspects, (10, 90))
    if high / low <= _ALIKE:
        return "squeeze", "nearly all pictures have one aspect ratio: all of the picture is seen"
    return "pad", f"widths are {low:.2g} to {high:.2g} times the heights: shapes are kept"


def _train_rows(measured: ImageMeasurements) -> int:
    """Return about how many rows are for training: without test and validation."""
    return max(1, round(measured.labelled * 0.8))


def _network(measured: ImageMeasurements) -> list[Setting]:
    """Return the network, epochs, transforms, the search and the compression."""
    chosen = {setting.path: setting.value for setting in _pixels(measured)}
    network = ConvNetShape(chosen["clean.size"], chosen["clean.channels"])
    return list(training_settings(network, _train_rows(measured), measured.flips))


def _limits(measured: ImageMeasurements) -> list[Setting]:
    """Return the limits of a client's images, which must fit images like the training data."""
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

    Images of one half are classified by the nearest mean of the other half, unchanged and
    mirrored. Letters and digits are recognized much worse when they are mirrored.

    Args:
        views: gray pictures (16, 16), 0-1.
        labels: their classes.
    """
    # Rows are often sorted by class, or alternate.
    order = np.random.default_rng(0).permutation(len(views))
    plain = 0
    mirrored = 0
    for part in (0, 1):
        means = _means([(views[i], labels[i]) for i in order[part::2]])
        for i in order[1 - part :: 2]:
            view = views[i]
            plain += _nearest(view, means) == labels[i]
            mirrored += _nearest(view[:, ::-1], means) == labels[i]
    count = max(len(views), 1)
    most = max(Counter(labels).values(), default=0)
    if plain < 1.3 * most + 10:
        return (
            False,
            "whether mirrored pictures keep their class cannot be told: --set "
            "augment.online.flip=true",
        )
    shares = f"{plain / count:.0%} of pictures and {mirrored / count:.0%} of mirrored ones"
    keeps_class = mirrored >= _KEPT * plain
    return keeps_class, f"the nearest mean finds the class of {shares}"


def _means(
    labelled: Sequence[tuple[NDArray[np.float32], str]],
) -> dict[str, NDArray[np.float32]]:
    """Return the mean picture of each class."""
    members: dict[str, list[NDArray[np.float32]]] = {}
    for view, label in labelled:
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
    colors = rgba[:, :, :3]
    opacity = rgba[:, :, 3]
    differences = colors.max(axis=2) - colors.min(axis=2)
    has_color = bool((differences[opacity > 0] > _GRAY).any())
    return has_color, alpha and bool((opacity < 255).any())


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
