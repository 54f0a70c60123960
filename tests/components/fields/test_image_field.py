"""Pictures: PNG and JPEG in, one size of PNG out, and nothing else gets in."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise

import numpy as np
import pytest
from mill import pictures, png

from components.fields.base import Reject
from components.fields.image import MAX_PIXELS, Image, decode

RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8) * 4


def test_a_png_of_the_right_size_keeps_its_pixels() -> None:
    assert (decode(Image().normalise(png(GREY)), 1)[:, :, 0] == GREY).all()


def test_normalised_pictures_stay_as_they_are() -> None:
    once = Image(size=8).normalise(png(SMOOTH))
    assert Image(size=8).normalise(once) == once


def test_jpeg_and_other_sizes_are_resampled() -> None:
    pixels = decode(Image(size=16).normalise(png(SMOOTH, "JPEG")), 1)
    assert pixels.shape == (16, 16, 1)
    assert abs(float(pixels.mean()) - float(SMOOTH.mean())) < 2
    assert pixels[0, 0, 0] < 20 < 200 < pixels[-1, -1, 0]


def test_colour_is_kept_or_made_grey() -> None:
    colour = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert (decode(Image(channels=3).normalise(png(colour)), 3) == colour).all()
    assert decode(Image(channels=1).normalise(png(colour)), 1).shape == (8, 8, 1)
    assert (decode(Image(channels=3).normalise(png(GREY)), 3) == GREY[:, :, None]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_a_pixel_become_8_and_not_white(channels: int) -> None:
    deep = RNG.integers(0, 1 << 16, (8, 8)).astype(np.uint16)
    assert (decode(png(deep), channels) == (deep >> 8)[:, :, None]).all()


def huge(width: int, height: int) -> bytes:
    """The head of a PNG that claims a size."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (chunk, data, b"IEND"))


@pytest.mark.parametrize("side", [int(MAX_PIXELS**0.5) + 1, 12_000, 60_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    with pytest.raises(Reject) as caught:
        Image().normalise(huge(side, side))
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("value", [None, "text", b"", b"GIF89a", b"%PDF-1.4", png(GREY)[:40], png(GREY)[:80], b"\x89PNG\r\n\x1a\n"], ids=repr)
def test_what_is_no_picture_is_rejected(value: object) -> None:
    with pytest.raises(Reject) as caught:
        Image().normalise(value)
    assert caught.value.reason == "not_an_image"


def test_broken_pictures_are_rejected_and_never_crash() -> None:
    rng = np.random.default_rng(0)
    sources = [png(GREY), png(SMOOTH, "JPEG")]
    for number in range(600):
        content = bytearray(sources[number % 2])
        for at in rng.integers(len(content), size=3):
            content[at] = int(rng.integers(256))
        try:
            assert decode(Image().normalise(bytes(content[: int(rng.integers(1, len(content) + 1))])), 1).shape == (8, 8, 1)
        except Reject as error:
            assert error.reason in ("not_an_image", "too_large")


def test_only_clean_refuses_one_flat_colour() -> None:
    flat = png(np.full((8, 8), 200, np.uint8))
    assert Image().normalise(flat)
    with pytest.raises(Reject) as caught:
        Image().clean(flat)
    assert caught.value.reason == "blank"


def test_equal_pixels_have_one_key_whatever_the_file() -> None:
    field = Image()
    assert field.key(field.normalise(png(GREY))) == field.key(field.normalise(png(np.repeat(GREY[:, :, None], 3, axis=2))))
    other = GREY.copy()
    other[0, 0] ^= 1
    assert field.key(png(GREY)) != field.key(png(other))


def test_similar_is_symmetric_and_tells_noise_from_another_picture() -> None:
    field = Image()
    images = [row["image"] for row in pictures(12)]
    for one, two in pairwise(images):
        assert field.similar(one, two) < 0.5
    paler = png((decode(images[0], 1)[:, :, 0] * 0.7).astype(np.uint8))
    assert 0.1 < field.similar(images[0], paler) < 0.9
    assert field.similar(images[0], paler) == pytest.approx(field.similar(paler, images[0]))
    noisy = png(np.clip(decode(images[0], 1)[:, :, 0].astype(int) + RNG.integers(-3, 4, (8, 8)), 0, 255).astype(np.uint8))
    assert field.similar(images[0], images[0]) == 1
    assert field.similar(images[0], noisy) > 0.85


def test_near_duplicates_share_a_band() -> None:
    field, rng, shared = Image(), np.random.default_rng(1), 0
    for row in pictures(200):
        pixels = decode(row["image"], 1)[:, :, 0].astype(int)
        noisy = png(np.clip(pixels + rng.integers(-3, 4, (8, 8)), 0, 255).astype(np.uint8))
        shared += bool((np.asarray(field.signature(row["image"])) == np.asarray(field.signature(noisy))).any())
    assert shared >= 198


@pytest.mark.parametrize("size", [8, 9, 31])
def test_any_size_has_a_signature(size: int) -> None:
    field = Image(size=size)
    assert len(np.unique(np.asarray(field.signature(field.normalise(png(GREY)))))) == 4
