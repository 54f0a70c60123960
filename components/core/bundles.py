"""Write and read bundles: a model as a folder of files.

Files are verified before they are parsed, and never unpickled.
"""

from __future__ import annotations

import configparser
import hashlib
import importlib.metadata
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from io import BufferedReader
from pathlib import Path
from typing import Any

from components.core.cards import (
    CARD,
    FORMAT,
    MOST_BYTES,
    MOST_CARD_BYTES,
    REMEDY,
    Card,
    CardFile,
    check_card,
    parse_card,
)
from components.core.errors import BundleError
from components.core.escaping import log_line
from components.core.files import to_json, write_atomic

__all__ = [
    "CARD",
    "FORMAT",
    "Card",
    "add_to_profile",
    "bundle_bytes",
    "library_versions",
    "read_bundle",
    "read_card",
    "shown_size",
    "write_bundle",
]


def library_versions(
    names: Sequence[str] = ("torch", "numpy", "tokenizers", "scikit-learn", "onnxruntime"),
) -> dict[str, str]:
    """Return the installed versions of the libraries that a model depends on."""
    return {name: importlib.metadata.version(name) for name in names}


def write_bundle(folder: Path, card: Card, files: Mapping[str, bytes]) -> None:
    """Write a bundle: its files first, the card with their hashes and sizes last.

    Args:
        folder: created.
        card: description of the model.
        files: relative name ("weights.safetensors", "encoder/tokenizer.json") -> bytes.

    Raises:
        BundleError: the card would be refused when it is read.
    """
    tree = asdict(card)
    tree |= tree.pop("targets")
    tree |= {
        "versions": dict(card.versions) or library_versions(),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "sizes": {name: len(content) for name, content in files.items()},
    }
    text = _card_text(tree, folder / CARD)
    for name, content in sorted(files.items()):
        write_atomic(folder / name, content)
    write_atomic(folder / CARD, text)


def add_to_profile(folder: Path, entries: Mapping[str, Any]) -> None:
    """Add to the profile of the model's inputs in a bundle's card. Its files stay as they are.

    Args:
        folder: of the bundle.
        entries: name -> value, added to the profile.

    Raises:
        BundleError: the card is not valid, or would not be.
    """
    card = read_card(folder).tree()
    card["profile"] |= entries
    write_atomic(folder / CARD, _card_text(card, folder / CARD))


def _card_text(card: Mapping[str, Any], where: Path) -> bytes:
    """Return the bytes of a card.

    Raises:
        BundleError: the card would be refused when it is read.
    """
    check_card(card, where)
    text = to_json(card).encode("utf-8")
    if len(text) > MOST_CARD_BYTES:
        what = f"would have {len(text):,} bytes, more than the {MOST_CARD_BYTES:,} that are read"
        raise BundleError(what, where=str(where), remedy="use fewer or shorter names of targets")
    return text


def read_card(folder: Path, registered: str | None = None) -> CardFile:
    """Verify the card of a bundle and return it, without reading the files.

    Args:
        folder: of the bundle.
        registered: SHA-256 of the card in the registry. None: the bundle is not registered.

    Raises:
        BundleError: it is missing, not the registered one, or not valid.
    """
    content = _read(folder, CARD, MOST_CARD_BYTES)
    if registered is not None and hashlib.sha256(content).hexdigest() != registered:
        raise BundleError(
            "is not the card that was registered: its SHA-256 differs",
            where=str(folder / CARD),
            remedy="take another version: gristmill status",
        )
    return parse_card(content, folder / CARD)


def read_bundle(folder: Path, registered: str | None = None) -> tuple[Card, dict[str, bytes]]:
    """Verify a bundle and return its card and the bytes of its files.

    Each file is read once, so that the verified bytes are the ones that are used. They are not
    parsed.

    Args:
        folder: of the bundle.
        registered: SHA-256 of the card in the registry. None: the bundle is not registered.

    Raises:
        BundleError: the card is not valid or not the registered one, or a file is missing, altered,
            too large, not a regular file, or outside the folder.
    """
    card = read_card(folder, registered)
    files: dict[str, bytes] = {}
    remaining = MOST_BYTES
    for name, expected in card.files.items():
        size = None
        most = remaining
        if card.sizes is not None:
            size = card.sizes[name]
            most = size
        files[name] = _read(folder, name, most, expected, size)
        remaining -= len(files[name])
    return card.card, files


def _read(
    folder: Path, name: str, most: int, expected: str | None = None, size: int | None = None
) -> bytes:
    """Return the bytes of one file of a bundle.

    Args:
        folder: of the bundle.
        name: of the file, below the folder.
        most: bytes that are read at most.
        expected: SHA-256 of the file. None: unknown.
        size: exact number of bytes. None: unknown.

    Raises:
        BundleError: see `read_bundle`.
    """
    path = folder / name
    try:
        # A FIFO would wait for a writer without O_NONBLOCK.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(_real(folder, path), flags), "rb") as stream:
            return _read_verified(stream, most, expected, size)
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
    except (ValueError, RuntimeError) as error:
        what = log_line(str(error))
    raise BundleError(what, where=str(path), remedy=REMEDY)


def _read_verified(
    stream: BufferedReader, most: int, expected: str | None, size: int | None
) -> bytes:
    """Return the content of an open file. The arguments are those of `_read`.

    Raises:
        ValueError: the content is not the expected one.
    """
    status = os.fstat(stream.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is not a regular file")
    if size is not None and status.st_size != size:
        raise ValueError(f"was altered: it has {status.st_size:,} bytes, its card says {size:,}")
    if status.st_size > most:
        raise ValueError(f"has {status.st_size:,} bytes, more than the {most:,} that are read")
    altered = "was altered: its SHA-256 is not the one in the card"
    # Without a stated size, a file is hashed in small parts before it is held whole.
    if size is None and expected and hashlib.file_digest(stream, "sha256").hexdigest() != expected:
        raise ValueError(altered)
    stream.seek(0)
    content = stream.read(status.st_size + 1)
    if len(content) != status.st_size:
        raise ValueError("was changed while it was read")
    if expected and hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(altered)
    return content


def _real(folder: Path, path: Path) -> Path:
    """Return the real path of a bundle's file: in its folder, or in DVC's cache, where DVC links.

    Raises:
        OSError: it is missing.
        RuntimeError: its links form a circle.
        ValueError: it is elsewhere.
    """
    real = path.resolve(strict=True)
    home = folder.resolve()
    if real.is_relative_to(home):
        return real
    if any(real.is_relative_to(cache) for cache in _dvc_caches(home)):
        return real
    raise ValueError("is a link that leads out of the bundle")


def _dvc_caches(folder: Path) -> list[Path]:
    """Return the folders of DVC's cache, for the project that a folder is in."""
    for parent in folder.parents:
        settings = parent / ".dvc"
        if (settings / "config").is_file():
            config = configparser.ConfigParser(interpolation=None, strict=False)
            with suppress(configparser.Error, ValueError):
                config.read([settings / "config", settings / "config.local"], encoding="utf-8")
            cache = config.get("cache", "dir", fallback="cache")
            return [(settings / cache).resolve()]
    return []


def bundle_bytes(folder: Path) -> int:
    """Return the size of a bundle's files in bytes, without the card.

    evaluate adds to the card after the size was measured.
    """
    size = 0
    for path in folder.rglob("*"):
        if path.is_file() and path != folder / CARD:
            size += path.stat().st_size
    return size


def shown_size(size: float) -> str:
    """Return bytes for people, in decimal units: 412000 -> 412 kB, 4_130_000 -> 4.1 MB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        # A size that rounds to a thousand of the smaller unit is one of this unit.
        if size < 0.9995 * scale:
            continue
        number = size / scale
        if number >= 99.95:
            return f"{number:.0f} {unit}"
        return f"{number:.1f} {unit}"
    return f"{size:.0f} B"
