"""Parse cards: the `bundle.json` of a bundle.

A card is checked strictly before a file that it names is opened.
"""

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
# Bytes of a card. With 100,000 names of targets it has about two million.
MOST_CARD_BYTES = 8 << 20
# Bytes of all files together. The parts of a network are in memory more than once while it loads.
MOST_BYTES = 2 << 30
REMEDY = "dvc repro makes it anew; or take another version: gristmill status"
# Steps of an origin after which a model computes in integers.
_INTEGERS = frozenset({"int8", "int8-weights", "int4-weights"})
_MOST_FILES = 64
_DEEPEST = 16
Runtime = Literal["torch", "onnx", "numpy"]
_Name = Annotated[str, Field(pattern=r"^[\w.+ -]{1,64}$")]
_Hash = Annotated[str, Field(pattern=r"^[0-9a-z]{0,64}$")]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Target = Annotated[str, Field(min_length=1, max_length=10_000)] | float
_Targets = Annotated[list[_Target], Field(min_length=1, max_length=1_000_000)]
_NAME_OF_FILE = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*")


@dataclass(frozen=True)
class Card:
    """Description of a model's content.

    Values that change with the commit, the clock or the run are MLflow tags instead.

    Args:
        task: name of the task.
        runtime: of the model.
        architecture: of the network, or the baseline's name.
        config: of the network.
        targets: what the model must know of the target column, by the rules of its task. The
            file has these entries beside its own keys.
        seed: of every random choice.
        data_hash: SHA-256 of clean's manifest.
        params_hash: hash of the params.
        origin: the steps that produced it, e.g. ["train", "prune"].
        profile: statistics of the training inputs.
        versions: of libraries.
        format: of the card.
    """

    task: str
    runtime: Runtime
    architecture: str
    config: Mapping[str, Any]
    targets: Mapping[str, Any]
    seed: int
    data_hash: str
    params_hash: str
    origin: Sequence[str]
    profile: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def title(self) -> str:
        """Return the model's name in tables."""
        return f"{self.architecture} ({' + '.join(self.origin)})"

    @property
    def quantized(self) -> bool:
        """Return whether the model computes in integers, so that small differences become steps."""
        return not _INTEGERS.isdisjoint(self.origin)


def contained(name: str) -> str:
    """Return the name of a file of a bundle, unchanged.

    Raises:
        ValueError: the file is outside the bundle.
    """
    if len(name) > 200 or not _NAME_OF_FILE.fullmatch(name):
        raise ValueError(f"names a file outside the bundle: {name[:200]!r}")
    return name


class CardFile(Strict):
    """Content of a card's file."""

    format: int
    task: _Name
    runtime: Runtime
    architecture: _Name
    config: dict[str, Any]
    # The keys that are not of a card: entries of the task, which validates them.
    targets: Annotated[dict[_Name, _Targets], Field(min_length=1, max_length=8)]
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

    @model_validator(mode="before")
    @classmethod
    def _collect_targets(cls, tree: Any) -> Any:
        """Return the tree with the keys that are not of a card below `targets`."""
        if not isinstance(tree, Mapping):
            return tree
        own = cls.model_fields.keys() - {"targets"}
        targets = {name: value for name, value in tree.items() if name not in own}
        entries = {name: value for name, value in tree.items() if name in own}
        return {"targets": targets, **entries}

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> CardFile:
        for name, values in self.targets.items():
            if len(set(values)) < len(values):
                raise ValueError(f"a value stands twice in {name}")
        if CARD in self.files:
            raise ValueError(f"{CARD} cannot be one of its own files")
        if self.sizes is not None and self.sizes.keys() != self.files.keys():
            raise ValueError("sizes and files name different files")
        if self.sizes is not None and sum(self.sizes.values()) > MOST_BYTES:
            raise ValueError(f"the files have more than {MOST_BYTES:,} bytes together")
        return self

    @property
    def card(self) -> Card:
        """Return the description of the model."""
        return Card(**self.model_dump(exclude={"files", "sizes"}))

    def tree(self) -> dict[str, Any]:
        """Return the content of the file."""
        tree = self.model_dump()
        if tree["sizes"] is None:
            del tree["sizes"]
        targets: dict[str, Any] = tree.pop("targets")
        return targets | tree


def parse_card(content: bytes, where: Path) -> CardFile:
    """Return a valid card from the bytes of its file.

    Args:
        content: at most `MOST_CARD_BYTES`.
        where: the file, for messages.

    Raises:
        BundleError: it is no JSON, holds a key twice or NaN, is nested too deeply, is of another
            format, or does not follow the schema.
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
        BundleError: it is of another format, is nested too deeply, or does not follow the schema.
    """
    if isinstance(tree, dict):
        card_format = tree.get("format")
        if type(card_format) is not int or card_format != FORMAT:
            raise BundleError(
                f"has bundle format {card_format!r:.40}, this gristmill reads {FORMAT}",
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
    """Return the position of the first mistake and its message, in one line."""
    mistake = error.errors(include_url=False)[0]
    position = ".".join(log_line(str(part)[:100]) for part in mistake["loc"])
    return f"{position or 'all of it'}: {log_line(mistake['msg'])}"


def _check_tree(value: Any, depth: int) -> None:
    """Refuse a tree that is nested too deeply, or holds a text that cannot be encoded."""
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
