"""What `gristmill new` chooses for pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stage_runner import IMAGE, pictures, png

from components.tasks import base
from components.tasks.image_classification.defaults import ConvNetShape, epochs_for, largest_side

RNG = np.random.default_rng(0)
FACET = base.defaults(IMAGE)


def rows(count: int, height: int, width: int, colors: bool = False) -> list[dict[str, Any]]:
    shape = (height, width, 3) if colors else (height, width)
    return [
        {"image": png(RNG.integers(0, 256, shape, dtype=np.uint8)), "label": "ab"[i % 2]}
        for i in range(count)
    ]


def chosen(data: list[dict[str, Any]], total: int | None = None) -> dict[str, Any]:
    measured = FACET.measure(data, total or len(data))
    return {setting.path: setting.value for setting in FACET.settings(measured)}


def test_pictures_keep_their_size_and_color() -> None:
    gray = chosen(rows(40, 28, 28))
    assert gray["clean.size"] == 28
    assert gray["clean.channels"] == 1
    assert gray["augment.online.shift_pixels"] == 2.0
    color = chosen(rows(40, 32, 32, colors=True))
    assert color["clean.channels"] == 3
    assert color["clean.size"] == 32


def test_photos_are_shrunk_within_the_budget() -> None:
    assert chosen(rows(20, 300, 300))["clean.size"] == 128
    assert largest_side(300, 3, 200_000) == 64
    assert largest_side(300, 1, 500) == 128
    # One picture in six rows: to compress so much noise takes half a second.
    large = rows(1, 2200, 2000, colors=True)[0]
    two_classes = [{**large, "label": "ab"[number % 2]} for number in range(6)]
    assert chosen(two_classes)["serve.limits.pixels"] == 4_400_000


@pytest.mark.parametrize(("height", "width", "fit"), [(20, 40, "squeeze"), (30, 30, "squeeze")])
def test_one_aspect_ratio_is_squeezed(height: int, width: int, fit: str) -> None:
    assert chosen(rows(20, height, width))["clean.fit"] == fit


def test_several_aspect_ratios_are_padded() -> None:
    assert chosen([*rows(20, 20, 40), *rows(20, 40, 20)])["clean.fit"] == "pad"


@pytest.mark.parametrize("size", [8, 13, 16, 25, 28, 32, 48, 64, 96, 128, 512])
def test_the_network_fits_any_size(size: int) -> None:
    network = ConvNetShape(size, 3)
    config = base.models(IMAGE).architectures["convnet"].Config.model_validate(network.config)
    assert network.multiplications > 0
    assert size // 2 ** (len(network.config["channels"]) - 1) >= 3
    assert config.model_dump()["channels"] == network.config["channels"]


def test_epochs_follow_rows_within_the_budget() -> None:
    network = ConvNetShape(28, 1)
    epochs = [epochs_for(network, rows) for rows in (100, 1_000, 8_000, 54_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert network.seconds(54_000, epochs[-1]) <= 1_300
    assert epochs[-1] >= 9


def test_few_rows_are_not_searched_or_compressed() -> None:
    few = chosen(rows(60, 28, 28))
    assert few["tune.trials"] == 0
    assert few["compress.prune"] is None
    assert few["compress.distill"] is None


def test_the_settings_are_valid_params() -> None:
    from components.orchestration.pipeline_params import section_model

    tree: dict[str, Any] = {}
    for path, value in chosen(rows(30, 28, 28), total=9_000).items():
        section, *names = path.split(".")
        place = tree.setdefault(section, {})
        for name in names[:-1]:
            place = place.setdefault(name, {})
        place[names[-1]] = value
    for section in ("clean", "augment", "train"):
        section_model(section, IMAGE).model_validate(
            {**tree[section], **({"architecture": "convnet"} if section == "train" else {})}
        )


def test_letters_are_never_mirrored_and_symmetric_pictures_are() -> None:
    """A bar at the left edge is one class, at the right edge the other: mirrored they change
    places.
    """
    sided = []
    for number in range(120):
        pixels = RNG.integers(0, 60, (16, 16))
        pixels[:, slice(1, 4) if number % 2 else slice(12, 15)] += 150
        sided.append({"image": png(pixels.astype(np.uint8)), "label": "lr"[number % 2]})
    assert chosen(sided)["augment.online.flip"] is False
    assert chosen(pictures(120))["augment.online.flip"] in (True, False)
    bars = []
    for number in range(120):
        pixels = RNG.integers(0, 60, (16, 16))
        pixels[(slice(None), slice(7, 9)) if number % 2 else (slice(7, 9), slice(None))] += 150
        bars.append({"image": png(pixels.astype(np.uint8)), "label": "sl"[number % 2]})
    assert chosen(bars)["augment.online.flip"] is True


def test_what_is_lost_is_named_with_its_knob() -> None:
    measured = FACET.measure(rows(10, 40, 80), 10)
    lines = " ".join(FACET.losses(measured, {"clean": {"size": 64, "channels": 1, "fit": "pad"}}))
    assert "10 of 10 pictures are shrunk to 64 x 64: clean.size" in lines
    assert "padded (clean.fit)" in lines
