"""Whatever stands in a bundle's folder, reading it gives a card or an `InputError`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import VALUES, as_bytes, changed_bytes, changed_tree

from components.core.bundles import CARD, Card, read_bundle, write_bundle
from components.core.errors import InputError

FILES = {"weights.safetensors": b"\0" * 8, "encoder/words.json": b"{}"}


@contextmanager
def small_bundle() -> Iterator[Path]:
    """A new bundle that is whole."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        card = Card(
            task="text_classification",
            runtime="numpy",
            architecture="classical",
            config={"n": 2},
            targets={"classes": ["负", "正"]},
            seed=7,
            data_hash="ab" * 32,
            params_hash="cd" * 32,
            origin=["train"],
            versions={"numpy": "2"},
        )
        write_bundle(folder, card, FILES)
        yield folder


@cache
def whole_card() -> bytes:
    """The bytes of its card."""
    with small_bundle() as folder:
        return (folder / CARD).read_bytes()


def read(folder: Path) -> None:
    with suppress(InputError):
        card, files = read_bundle(folder)
        assert isinstance(card, Card)
        assert all(isinstance(content, bytes) for content in files.values())


def test_the_bundle_itself_is_read() -> None:
    with small_bundle() as folder:
        assert read_bundle(folder)[1] == FILES


CARDS = [
    b"[" * 200_000,
    b'{"files": ' + b'{"a":' * 100_000,
    b'{"format": ' + b"9" * 100_000 + b"}",
    b'{"format": 1e999}',
    b"\xff" * 10,
    b"null",
]


@pytest.mark.parametrize("content", CARDS, ids=range(len(CARDS)))
def test_cards_that_exhaust_a_parser(content: bytes) -> None:
    with small_bundle() as folder:
        (folder / CARD).write_bytes(content)
        read(folder)


@given(st.data())
def test_a_changed_card(data: st.DataObject) -> None:
    whole = json.loads(whole_card())
    changes = st.one_of(
        changed_tree(whole).map(as_bytes), changed_bytes(whole_card()), VALUES.map(as_bytes)
    )
    with small_bundle() as folder:
        (folder / CARD).write_bytes(data.draw(changes))
        read(folder)


@given(st.sampled_from(sorted(FILES)), st.binary(max_size=64))
def test_a_changed_file(name: str, content: bytes) -> None:
    with small_bundle() as folder:
        (folder / name).write_bytes(content)
        read(folder)
