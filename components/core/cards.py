"""Cards: the `bundle.json` of a bundle, parsed strictly before anything that it names is opened."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, Field, ValidationError, model_validator

from components.core.errors import BundleError
from components.core.escaping import brief, log_line
from components.core.params import Strict

FORMAT = 1
CARD = "bundle.json"
# Bytes of a card. With 100,000 classes it has about two million.
MOST_CARD_BYTES = 8 << 20
# Bytes of all files together. The parts of a network are in memory more than once while it loads.
MOST_BYTES = 2 << 30
REMEDY = "dvc repro makes it anew; or take another version: gristmill status"
_MOST_FILES = 64
_DEEPEST = 16
Runtime = Literal["torch", "onnx", "numpy"]
_Name = Annotated[str, Field(pattern=r"^[\w.+ -]{1,64}$")]
_Hash = Annotated[str, Field(pattern=r"^[0-9a-z]{0,64}$")]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Class = Annotated[str, Field(min_length=1, max_length=10_000)]
_NAME_OF_FILE = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*")


@dataclass(frozen=True)
class Card:
    """Describe the content of a model.

    Whatever changes with the commit, the clock or the run is an MLflow tag instead.
    """

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
        """Return what to call it in a table."""
        return f"{self.architecture} ({' + '.join(self.origin)})"

    @property
    def quantized(self) -> bool:
        """Return whether it computes in whole numbers, which makes steps of what hardly differs."""
        return "int8" in self.origin


def contained(name: str) -> str:
    """Return the name of a file of a bundle, unchanged.

    Raises:
        ValueError: it leaves the bundle.
    """
    if len(name) > 200 or not _NAME_OF_FILE.fullmatch(name):
        raise ValueError(f"names a file outside the bundle: {name[:200]!r}")
    return name


class CardFile(Strict):
    """What stands in a card's file."""

    format: int
    task: _Name
    runtime: Runtime
    architecture: _Name
    config: dict[str, Any]
    classes: Annotated[list[_Class], Field(min_length=1, max_length=1_000_000)]
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    data_hash: _Hash
    params_hash: _Hash
    origin: Annotated[list[_Name], Field(min_length=1, max_length=64)]
    profile: dict[str, Any] = {}
    versions: dict[_Name, _Name] = {}
    # SHA-256 by file name.
    files: Annotated[
        dict[Annotated[str, AfterValidator(contained)], _Sha256],
        Field(min_length=1, max_length=_MOST_FILES),
    ]
    # Bytes by file name. Bundles from before sizes have none.
    sizes: dict[str, Annotated[int, Field(ge=0)]] | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> CardFile:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("a class stands twice in classes")
        if CARD in self.files:
            raise ValueError(f"{CARD} cannot be one of its own files")
        if self.sizes is not None and self.sizes.keys() != self.files.keys():
            raise ValueError("sizes and files name different files")
        if self.sizes is not None and sum(self.sizes.values()) > MOST_BYTES:
            raise ValueError(f"the files have more than {MOST_BYTES:,} bytes together")
        return self

    @property
    def card(self) -> Card:
        """Return what it says of the model."""
        return Card(**self.model_dump(exclude={"files", "sizes"}))


def parse_card(content: bytes, where: Path) -> CardFile:
    """Return a valid card from the bytes of its file.

    Args:
        content: at most `MOST_CARD_BYTES`.
        where: the file, for messages.

    Raises:
        BundleError: it is no JSON, holds a key twice or a number that is none, is nested too
            deeply, is of another format, or does not follow the schema.
    """
    try:
        tree = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_number,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"cannot be read: {brief(error)}", where=str(where), remedy=REMEDY
        ) from None
    return check_card(tree, where)


def check_card(tree: Any, where: Path) -> CardFile:
    """Return a valid card from its tree.

    Raises:
        BundleError: another format, nested too deeply, or not the schema.
    """
    found = tree.get("format") if isinstance(tree, dict) else None
    if isinstance(tree, dict) and (type(found) is not int or found != FORMAT):
        raise BundleError(
            f"has bundle format {found!r:.40}, this gristmill reads {FORMAT}",
            where=str(where),
            remedy=REMEDY,
        )
    try:
        _check_tree(tree, 0)
        return CardFile.model_validate(tree)
    except ValidationError as error:
        what = f"is not a valid card: {first_mistake(error)}"
    except ValueError as error:
        what = f"is not a valid card: {error}"
    raise BundleError(what, where=str(where), remedy=REMEDY)


def first_mistake(error: ValidationError) -> str:
    """Return where the first mistake stands and what it is, in one line."""
    mistake = error.errors(include_url=False)[0]
    position = ".".join(log_line(str(part)[:100]) for part in mistake["loc"])
    return f"{position or 'all of it'}: {log_line(mistake['msg'])}"


def _check_tree(value: Any, depth: int) -> None:
    """Refuse what is nested too deeply, or holds a text that cannot be written."""
    if depth > _DEEPEST:
        raise ValueError(f"it is nested more than {_DEEPEST} deep")
    if isinstance(value, str):
        value.encode("utf-8")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_tree(key, depth + 1)
            _check_tree(item, depth + 1)
    elif isinstance(value, Sequence):
        for item in value:
            _check_tree(item, depth + 1)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {key[:100]!r} stands twice")
    return tree


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _no_number(text[:40])
    return number
