"""Which network pictures get, and how long it is trained, within a stated number of CPU-minutes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.tasks.base import Setting

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
class Network:
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
        return min(max(1 + round(math.log2(self.size / _LAST_SIDE)), 2), max(_BLOCKS))

    @property
    def config(self) -> dict[str, Any]:
        """Return the config of the ConvNet."""
        channels, depths = _BLOCKS[self.blocks]
        small = self.size < 2 * _LAST_SIDE
        return {
            "channels": channels,
            "depths": [1] * len(channels) if small else depths,
            # So few positions each mean something.
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


def epochs_for(network: Network, rows: int) -> int:
    """Return the epochs that so many train rows need, or as many as the budget allows."""
    wanted = next(epochs for limit, epochs in _EPOCHS if rows <= limit)
    allowed = int(FIT_SECONDS / max(network.seconds(rows, 1), 1e-9))
    return max(_LEAST_EPOCHS, min(wanted, allowed))


def largest_side(side: int, colors: int, rows: int) -> int:
    """Return the side to which photos are shrunk: the largest one that the budget allows.

    Args:
        side: of the pictures as they are.
        colors: channels of a picture.
        rows: of train.
    """
    for candidate in _SIDES:
        network = Network(candidate, colors)
        wanted = next(epochs for limit, epochs in _EPOCHS if rows <= limit)
        if candidate <= side and network.seconds(rows, wanted) <= FIT_SECONDS:
            return candidate
    return min(side, _SIDES[-1])


def training_settings(network: Network, rows: int, flips: tuple[bool, str]) -> Sequence[Setting]:
    """Return how a network is trained, searched and compressed.

    Args:
        network: the first one.
        rows: of train.
        flips: whether pictures are mirrored, and why.
    """
    epochs = epochs_for(network, rows)
    seconds = network.seconds(rows, epochs)
    return [
        *_augment(network, flips),
        *_fit(network, rows, epochs),
        *_search(rows, epochs, seconds),
        *_compress(network, rows, epochs, seconds),
    ]


def _augment(network: Network, flips: tuple[bool, str]) -> list[Setting]:
    shift = round(network.size / 14, 1)
    return [
        Setting("augment.rate", 0.0, "pictures are transformed on the fly: no row is added"),
        Setting("augment.online.rotate_degrees", 8.0, "a little: 6 and 9 must stay apart"),
        Setting("augment.online.shift_pixels", shift, "a fourteenth of the size"),
        Setting("augment.online.zoom", 0.1, "enlarged or shrunk by up to a tenth"),
        Setting("augment.online.flip", *flips),
    ]


def _fit(network: Network, rows: int, epochs: int) -> list[Setting]:
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


def _compress(network: Network, rows: int, epochs: int, seconds: float) -> list[Setting]:
    if rows < _FEW_ROWS:
        why = f"{rows:,} train rows: the network is small and quick already"
        return [Setting("compress.prune", None, why), Setting("compress.distill", None, why)]
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
