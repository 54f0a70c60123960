"""Pictures: PNG and JPEG in, one size of PNG out, and nothing else gets in."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from stage_runner import pictures, png

from components.fields import image
from components.fields.base import Reject
from components.fields.image import MAX_PIXELS, Image, decode

RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8) * 4


def similarity(field: Image, a: bytes, b: bytes) -> float:
    """Of one pair."""
    return float(field.similarities([a, b], [(0, 1)])[0])


def test_a_png_of_the_right_size_keeps_its_pixels() -> None:
    assert (decode(Image().normalize(png(GREY)), 1)[:, :, 0] == GREY).all()


def test_normalised_pictures_stay_as_they_are() -> None:
    once = Image(size=8).normalize(png(SMOOTH))
    assert Image(size=8).normalize(once) == once


def test_jpeg_and_other_sizes_are_resampled() -> None:
    pixels = decode(Image(size=16).normalize(png(SMOOTH, "JPEG")), 1)
    assert pixels.shape == (16, 16, 1)
    assert abs(float(pixels.mean()) - float(SMOOTH.mean())) < 2
    assert pixels[0, 0, 0] < 20 < 200 < pixels[-1, -1, 0]


def test_colour_is_kept_or_made_grey() -> None:
    colour = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert (decode(Image(channels=3).normalize(png(colour)), 3) == colour).all()
    assert decode(Image(channels=1).normalize(png(colour)), 1).shape == (8, 8, 1)
    assert (decode(Image(channels=3).normalize(png(GREY)), 3) == GREY[:, :, None]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_a_pixel_become_8_and_not_white(channels: int) -> None:
    deep = RNG.integers(0, 1 << 16, (8, 8)).astype(np.uint16)
    assert (decode(png(deep), channels) == (deep >> 8)[:, :, None]).all()


def huge(width: int, height: int) -> bytes:
    """The head of a PNG that claims a size."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (chunk, data, b"IEND")
    )


@pytest.mark.parametrize("side", [int(MAX_PIXELS**0.5) + 1, 12_000, 60_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    with pytest.raises(Reject) as caught:
        Image().normalize(huge(side, side))
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        b"",
        b"GIF89a",
        b"%PDF-1.4",
        b"RIFF\0\0\0\0WEBPVP8X",
        png(GREY)[:40],
        png(GREY)[:80],
        b"\x89PNG\r\n\x1a\n",
    ],
    ids=repr,
)
def test_what_is_no_picture_is_rejected(value: object) -> None:
    with pytest.raises(Reject) as caught:
        Image().normalize(value)
    assert caught.value.reason == "not_an_image"


def test_broken_pictures_are_rejected_and_never_crash() -> None:
    rng = np.random.default_rng(0)
    sources = [png(GREY), png(SMOOTH, "JPEG")]
    for number in range(600):
        content = bytearray(sources[number % 2])
        for at in rng.integers(len(content), size=3):
            content[at] = int(rng.integers(256))
        try:
            assert decode(
                Image().normalize(bytes(content[: int(rng.integers(1, len(content) + 1))])), 1
            ).shape == (8, 8, 1)
        except Reject as error:
            assert error.reason in ("not_an_image", "too_large")


def test_only_clean_refuses_one_flat_colour() -> None:
    flat = png(np.full((8, 8), 200, np.uint8))
    assert Image().normalize(flat)
    with pytest.raises(Reject) as caught:
        Image().clean(flat)
    assert caught.value.reason == "blank"


def test_equal_pixels_have_one_key_whatever_the_file() -> None:
    field = Image()
    colored = png(np.repeat(GREY[:, :, None], 3, axis=2))
    other = GREY.copy()
    other[0, 0] ^= 1
    first, second, third = field.keys(
        [field.normalize(png(GREY)), field.normalize(colored), png(other)]
    )
    assert first == second != third


def test_similar_is_symmetric_and_tells_noise_from_another_picture() -> None:
    field = Image()
    images = [row["image"] for row in pictures(12)]
    for one, two in pairwise(images):
        assert similarity(field, one, two) < 0.5
    paler = png((decode(images[0], 1)[:, :, 0] * 0.7).astype(np.uint8))
    assert 0.1 < similarity(field, images[0], paler) < 0.9
    assert similarity(field, images[0], paler) == pytest.approx(similarity(field, paler, images[0]))
    noisy = png(
        np.clip(
            decode(images[0], 1)[:, :, 0].astype(int) + RNG.integers(-3, 4, (8, 8)), 0, 255
        ).astype(np.uint8)
    )
    assert similarity(field, images[0], images[0]) == 1
    assert similarity(field, images[0], noisy) > 0.85


def test_near_duplicates_share_a_band() -> None:
    field, rng, shared = Image(), np.random.default_rng(1), 0
    for row in pictures(200):
        pixels = decode(row["image"], 1)[:, :, 0].astype(int)
        noisy = png(np.clip(pixels + rng.integers(-3, 4, (8, 8)), 0, 255).astype(np.uint8))
        one, other = np.asarray(field.lsh_bands([row["image"], noisy]))
        shared += bool((one == other).any())
    assert shared >= 198


@pytest.mark.parametrize("size", [8, 9, 31])
def test_any_size_has_a_signature(size: int) -> None:
    field = Image(size=size)
    assert len(np.unique(np.asarray(field.lsh_bands([field.normalize(png(GREY))])))) == 4


def encoded(picture: Pillow.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def gradient(side: int = 24) -> Pillow.Image:
    """A picture that is dark at its top left, so that each way of turning it can be told."""
    ramp = np.add.outer(2 * np.arange(side), np.arange(side))
    return Pillow.fromarray((ramp * (255 / ramp.max())).astype(np.uint8)).convert("RGB")


# How a camera stores an upright picture, by the orientation that it states.
STORED = {
    1: None,
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_90,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_pictures_stand_upright(orientation: int, kind: str) -> None:
    upright = gradient()
    turn = STORED[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    pixels = decode(encoded(stored, kind, exif=exif), 1)[:, :, 0]
    expected = np.asarray(upright.convert("L"))
    assert np.abs(pixels.astype(int) - expected).max() < 20


def test_a_broken_orientation_leaves_the_picture_as_it_is() -> None:
    content = encoded(gradient(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert decode(content, 1).shape == (24, 24, 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_white(mode: str) -> None:
    """A black square in the middle of nothing, whatever color the nothing has."""
    layer = Pillow.new("RGBA", (16, 16), (200, 10, 10, 0))
    layer.paste((0, 0, 0, 255), (4, 4, 12, 12))
    stored = layer.quantize(8) if mode == "P" else layer.convert(mode)
    pixels = decode(encoded(stored, "PNG"), 1)[:, :, 0]
    assert pixels[0, 0] > 240
    assert pixels[8, 8] < 15


def test_a_transparent_color_of_a_palette_is_white() -> None:
    picture = Pillow.fromarray(np.eye(8, dtype=np.uint8), "P")
    picture.putpalette([0, 0, 0, 90, 90, 90])
    pixels = decode(encoded(picture, "PNG", transparency=0), 1)[:, :, 0]
    assert pixels[0, 1] == 255
    assert pixels[0, 0] == 90


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("RGB", "BMP"),
        ("RGB", "WEBP"),
        ("RGB", "TIFF"),
        ("L", "TIFF"),
    ],
)
def test_usual_formats_and_modes_are_read(mode: str, kind: str) -> None:
    upright = gradient()
    pixels = decode(encoded(upright.convert(mode), kind), 3)
    assert pixels.shape == (24, 24, 3)
    assert np.abs(pixels.astype(int) - np.asarray(upright)).mean() < 20


def test_one_bit_a_pixel_is_black_and_white() -> None:
    bits = np.eye(8, dtype=bool)
    pixels = decode(encoded(Pillow.fromarray(bits), "PNG"), 1)[:, :, 0]
    assert (pixels == bits * 255).all()


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (np.linspace(0, 1, 64, dtype=np.float32), np.linspace(0, 255, 64)),
        (np.linspace(0, 200, 64, dtype=np.float32), np.linspace(0, 200, 64)),
        (np.linspace(0, 65_535, 64).astype(np.int32), np.linspace(0, 255, 64)),
        (np.linspace(-5, 5, 64, dtype=np.float32), np.linspace(0, 255, 64)),
    ],
)
def test_levels_of_other_ranges_are_read_by_their_range(
    levels: np.ndarray, expected: np.ndarray
) -> None:
    content = encoded(Pillow.fromarray(levels.reshape(8, 8)), "TIFF")
    assert np.abs(decode(content, 1)[:, :, 0].ravel() - expected).max() <= 1.5


def test_the_first_of_several_frames_is_read() -> None:
    frames = [Pillow.new("L", (8, 8), level) for level in (10, 200)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(content, 1).max() == 10


def test_photos_are_decoded_at_a_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 megapixels take the memory of 0.2: libjpeg shrinks while it decodes."""
    photo = gradient(64).resize((4000, 3000))
    content = encoded(photo, "JPEG", quality=90)
    sizes = []
    plain = image._turned

    def noted(picture: Pillow.Image) -> Pillow.Image:
        sizes.append(picture.size)
        return plain(picture)

    monkeypatch.setattr(image, "_turned", noted)
    pixels = decode(Image(channels=3, size=64).normalize(content), 3)
    assert sizes[0] == (500, 375)
    expected = np.asarray(photo.resize((64, 64), Pillow.Resampling.BILINEAR))
    assert np.abs(pixels.astype(int) - expected).mean() < 4


def test_more_than_100_megapixels_are_refused_by_the_header() -> None:
    head = b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0" * 4
    wide = head + (16_383).to_bytes(3, "little") * 2 + b"\0" * 8
    with pytest.raises(Reject) as caught:
        decode(wide, 1)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "unsupported_heic"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "unsupported_avif"),
        (b"<?xml version='1.0'?><svg xmlns='x'></svg>", "unsupported_svg"),
    ],
)
def test_formats_that_are_not_read_are_named_with_the_way_out(content: bytes, reason: str) -> None:
    with pytest.raises(Reject) as caught:
        Image().normalize(content)
    assert caught.value.reason == reason
    assert "convert it to PNG or JPEG" in caught.value.detail
    assert image.unread(f"IMG_1.{reason.removeprefix('unsupported_').upper()}")


@pytest.mark.parametrize("name", ["a.png", "b.JPG", "c.jfif", "d"])
def test_other_names_are_not_refused(name: str) -> None:
    assert image.unread(name) is None


def test_fit_keeps_squeezes_or_cuts() -> None:
    wide = Pillow.new("L", (40, 20), 200)
    wide.paste(0, (0, 0, 10, 20))
    content = encoded(wide, "PNG")
    by_fit = {
        fit: decode(Image(size=20, fit=fit).normalize(content), 1)[:, :, 0]
        for fit in ("squeeze", "pad", "crop")
    }
    # A quarter is dark when all is squeezed, the middle square has none of it.
    assert (by_fit["squeeze"] < 100).mean() == pytest.approx(0.25, abs=0.05)
    assert by_fit["crop"][:, 2:].min() == 200
    # Padded: the picture in the middle rows, the color of its border around.
    assert (by_fit["pad"][:5] == 200).all()
    assert (by_fit["pad"][6:14, :4] < 50).all()


_PEAK = """
import io, resource, sys
from PIL import Image as Pillow
from components.fields.image import Image
Pillow.new("RGB", (8, 8)).resize((4, 4))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
field = Image(3, 64)
for name in sys.argv[1:]:
    with open(name, "rb") as stream:
        field.normalize(stream.read())
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize(("suffix", "most"), [("jpg", 40), ("png", 260)])
def test_large_pictures_one_after_another_take_the_memory_of_one(
    tmp_path: Path,
    suffix: str,
    most: float,
) -> None:
    """36 megapixels are 144 MB in Pillow; of a JPEG an eighth of each side is decoded."""
    small = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    picture = Pillow.fromarray(small).resize((6000, 6000), Pillow.Resampling.NEAREST)
    picture.save(tmp_path / f"a.{suffix}", compress_level=1)
    names = [str(tmp_path / f"a.{suffix}")] * 3
    command = [sys.executable, "-c", _PEAK, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < most
