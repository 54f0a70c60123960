"""Bundles: verified before a byte is parsed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.core.bundles import (
    CARD,
    Card,
    add_to_profile,
    bundle_bytes,
    read_bundle,
    shown_size,
    write_bundle,
)
from components.core.errors import InputError

MODEL = Card(
    "some_task",
    "numpy",
    "classical",
    {"width": 8, "kernels": [1, 2]},
    {"classes": ["差评", "好评"]},
    7,
    "d" * 64,
    "p" * 64,
    ["train", "prune"],
    {"text.length": {"quantiles": [1.0]}},
)
FILES = {"arrays.safetensors": b"\x00\x01weights", "encoder/tokenizer.json": '{"好": 1}'.encode()}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A whole bundle."""
    write_bundle(tmp_path / "bundle", MODEL, FILES)
    return tmp_path / "bundle"


def change(bundle: Path, **facts: Any) -> None:
    """Edit the card."""
    card = json.loads((bundle / CARD).read_text())
    (bundle / CARD).write_text(json.dumps(card | facts))


def test_what_was_written_is_read(bundle: Path) -> None:
    card, files = read_bundle(bundle)
    assert files == FILES
    assert replace(card, versions={}) == MODEL
    assert card.versions["torch"]
    assert card.title == "classical (train + prune)"


def test_the_same_model_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "again", MODEL, dict(reversed(FILES.items())))
    assert (bundle / CARD).read_bytes() == (tmp_path / "again" / CARD).read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_an_altered_or_missing_file_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(FILES[name][:-1] + b"!")
    with pytest.raises(InputError, match="altered") as caught:
        read_bundle(bundle)
    assert name in caught.value.where
    (bundle / name).unlink()
    with pytest.raises(InputError, match="missing"):
        read_bundle(bundle)


def test_a_file_that_the_card_does_not_know_is_never_read(bundle: Path) -> None:
    (bundle / "encoder" / "evil.json").write_text("{}")
    (bundle / "evil.pkl").write_bytes(b"cos\nsystem\n")
    assert read_bundle(bundle)[1] == FILES


@pytest.mark.parametrize(
    "name",
    ["../outside", "encoder/../../outside", "/etc/hostname", "..\\outside", "encoder/\\..\\x"],
)
def test_names_that_leave_the_folder_are_refused(bundle: Path, name: str) -> None:
    (bundle.parent / "outside").write_bytes(b"")
    change(bundle, files={name: "0" * 64})
    with pytest.raises(InputError, match="outside the bundle"):
        read_bundle(bundle)
    with pytest.raises(InputError, match="outside the bundle"):
        write_bundle(bundle.parent / "other", MODEL, {name: b""})
    assert (bundle.parent / "outside").read_bytes() == b""


def test_another_format_says_so(bundle: Path) -> None:
    change(bundle, format=2)
    with pytest.raises(InputError, match="bundle format 2, this gristmill reads 1"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\xff",
        b"[]",
        b"null",
        b'"x"',
        b"3",
        b"{}",
        b'{"files": {}}',
        b'{"format": 1, "files": {}, "odd": 1}',
    ],
    ids=repr,
)
def test_what_is_no_card_is_an_input_error(bundle: Path, content: bytes | None) -> None:
    (bundle / CARD).unlink()
    if content is not None:
        (bundle / CARD).write_bytes(content)
    with pytest.raises(InputError):
        read_bundle(bundle)


@pytest.mark.parametrize("files", [None, "x", [1], {"arrays.safetensors": None}])
def test_a_card_with_odd_files_is_an_input_error(bundle: Path, files: Any) -> None:
    change(bundle, files=files)
    with pytest.raises(InputError):
        read_bundle(bundle)


def test_a_bundle_has_one_size_whatever_its_card_tells(bundle: Path) -> None:
    before = bundle_bytes(bundle)
    assert before == sum(len(content) for content in read_bundle(bundle)[1].values())
    add_to_profile(bundle, {"abstention": list(range(1000))})
    assert bundle_bytes(bundle) == before


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_940, "99.9 kB"),
        (99_960, "100 kB"),
        (999_400, "999 kB"),
        (999_600, "1.0 MB"),
        (4_130_000, "4.1 MB"),
        (2.5e9, "2.5 GB"),
        (3e12, "3000 GB"),
    ],
)
def test_sizes_are_shown_in_three_digits(size: float, shown: str) -> None:
    assert shown_size(size) == shown
