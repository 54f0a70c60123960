"""Bundles: a model as a folder of files that are verified before a byte of them is parsed, and never unpickled."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from components.core.errors import InputError
from components.core.files import sha256, to_json, write_atomic

FORMAT = 1
CARD = "bundle.json"
Runtime = Literal["torch", "onnx", "numpy"]


@dataclass(frozen=True)
class Card:
    """Content facts of a model: whatever changes with the commit, the clock or the run is an MLflow tag instead."""

    task: str
    runtime: Runtime
    architecture: str  # of the net, or the baseline's name
    config: Mapping[str, Any]
    classes: Sequence[str]
    seed: int
    data_hash: str  # SHA-256 of clean's manifest
    params_hash: str
    origin: Sequence[str]  # the steps that made it, e.g. ["train", "prune"]
    profile: Mapping[str, Any] = field(default_factory=dict)  # what the training inputs looked like
    versions: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def title(self) -> str:
        """What to call it in a table."""
        return f"{self.architecture} ({' + '.join(self.origin)})"

    @property
    def quantized(self) -> bool:
        """Whether it rounds to whole numbers on the way, which makes steps of what differs in the last bit."""
        return "int8" in self.origin


def library_versions(
    names: Sequence[str] = ("torch", "numpy", "tokenizers", "scikit-learn", "onnxruntime"),
) -> dict[str, str]:
    """The installed versions of the libraries that shape a model."""
    return {name: importlib.metadata.version(name) for name in names}


def write_bundle(folder: Path, card: Card, files: Mapping[str, bytes]) -> None:
    """Write a bundle: its files first, the card with their hashes last.

    Args:
        folder: created.
        card: facts of the model.
        files: relative name ("weights.safetensors", "encoder/tokenizer.json") -> bytes.
    """
    hashes = {}
    for name, content in sorted(files.items()):
        write_atomic(folder / _contained(name), content)
        hashes[name] = sha256(folder / name)
    facts = asdict(card) | {"versions": dict(card.versions) or library_versions(), "files": hashes}
    write_atomic(folder / CARD, to_json(facts))


def add_to_profile(folder: Path, facts: Mapping[str, Any]) -> None:
    """Say more in a bundle's card of what the model saw; its files stay as they are."""
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    card["profile"] |= facts
    write_atomic(folder / CARD, to_json(card))


def read_bundle(folder: Path) -> tuple[Card, dict[str, bytes]]:
    """Verify a bundle and return its card and its files' bytes.

    Raises:
        InputError: no bundle, another format, a file missing, altered, or outside the folder.
    """
    remedy = "dvc repro makes it anew; or take another version: gristmill status"
    try:
        facts = json.loads((folder / CARD).read_text(encoding="utf-8"))
        hashes = dict(facts.pop("files"))
        if facts.get("format") != FORMAT:
            raise InputError(
                f"has bundle format {facts.get('format')!r}, this gristmill reads {FORMAT}",
                where=str(folder),
                remedy=remedy,
            )
        card = Card(**facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"is not a bundle: {CARD} cannot be read ({type(error).__name__}: {error})",
            where=str(folder),
            remedy=remedy,
        ) from None
    files = {}
    for name, expected in hashes.items():
        path = folder / _contained(name)
        content = (
            path.read_bytes() if path.is_file() else None
        )  # read once: what is verified is what is used
        if content is None or hashlib.sha256(content).hexdigest() != expected:
            raise InputError(
                "is missing or was altered: its SHA-256 is not the one in the card",
                where=str(path),
                remedy=remedy,
            )
        files[name] = content
    return card, files


def bundle_bytes(folder: Path) -> int:
    """Return the size of a bundle in bytes: of its files without the card, to which evaluate adds facts after it was measured."""
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path != folder / CARD
    )


def shown_size(size: float) -> str:
    """Return bytes for people, in decimal units, the same everywhere: 412000 -> 412 kB, 4_130_000 -> 4.1 MB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        # What rounds to a thousand of the smaller unit is one of this.
        if size >= 0.9995 * scale:
            number = size / scale
            return f"{number:.0f} {unit}" if number >= 99.95 else f"{number:.1f} {unit}"
    return f"{size:.0f} B"


def _contained(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise InputError(
            f"names a file outside the bundle: {name!r}", remedy="do not use this bundle"
        )
    return path
