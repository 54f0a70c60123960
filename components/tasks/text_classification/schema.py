"""Define the rows of text classification, their cleaning and their augmentation."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, Field, model_validator

from components.core.params import Strict
from components.fields.base import Field as Kind
from components.fields.languages import Languages
from components.fields.privacy import KEY_VARIABLE, Mode, Privacy, fingerprint, key_of
from components.fields.quality import TextQuality
from components.fields.scripts import SIGNS
from components.fields.text import Text, Title
from components.fields.text_form import Chinese, TextForm, Width
from components.tasks.base import Augmenter, FixedInputs, Role, SplitRule
from components.tasks.shared.schema.classification.class_name import ClassName
from components.tasks.shared.schema.classification.rules import ClassTargets

# A special token of the vocabulary.
MASK = "[MASK]"
Edit = Callable[[list[str], np.random.Generator], list[str]]
# A Han character, a word, a mark, or spaces.
_UNIT = re.compile(
    rf"[\u3400-\u9fff\uf900-\ufaff]|(?:[^\W\u3400-\u9fff\uf900-\ufaff]|[{SIGNS}])+|\S|\s+"
)


class TextClean(Strict):
    """Params of `clean`."""

    min_characters: int = Field(
        2, ge=1, description="Fewest letters, digits or emoji of a text that is used."
    )
    max_characters: int = Field(
        2000, ge=8, le=1_000_000, description="Characters after which a longer text is cut."
    )
    # Params without the following ones have the hash that they had before.
    private: Mode = Field(
        "ignore",
        exclude_if=lambda mode: mode == "ignore",
        description=(
            "Personal data (report: counted; mask, hash: replaced; drop: with their rows)."
        ),
    )
    private_key: str | None = Field(
        None,
        pattern="^[0-9a-f]{16}$",
        exclude_if=lambda key: key is None,
        description="Fingerprint of the key in GRISTMILL_PRIVACY_KEY, for private: hash.",
    )
    width: Width = Field(
        "half",
        exclude_if=lambda width: width == "half",
        description="Characters of full width (half: as plain ones, ① as 1; keep: as they are).",
    )
    max_repeats: int | None = Field(
        None,
        ge=2,
        le=1000,
        exclude_if=lambda repeats: repeats is None,
        description="Length to which runs of a character are cut, digits excepted (null: never).",
    )
    chinese: Chinese = Field(
        "keep",
        exclude_if=lambda chinese: chinese == "keep",
        description="Chinese characters (simplified: traditional ones are replaced).",
    )
    quality: TextQuality | None = Field(
        None,
        exclude_if=lambda quality: quality is None,
        description="Limits by which texts of poor quality are filtered (null: none are).",
    )
    languages: Languages | None = Field(
        None,
        exclude_if=lambda languages: languages is None,
        description="Identification of the languages of texts, with a filter (null: none).",
    )

    @model_validator(mode="after")
    def _check_max_length(self) -> TextClean:
        longest = self.quality and self.quality.max_length
        if longest and longest >= self.max_characters:
            raise ValueError(
                f"quality.max_length: {longest} filters no text, for texts are cut at "
                f"max_characters, which is {self.max_characters}: raise max_characters above it"
            )
        return self

    @model_validator(mode="after")
    def _check_private_key(self) -> TextClean:
        if self.private != "hash" or self.private_key is not None:
            return self
        key = os.environ.get(KEY_VARIABLE)
        if key:
            raise ValueError(f"private: hash needs private_key: write {fingerprint(key)}")
        raise ValueError(
            f"private: hash needs private_key: set {KEY_VARIABLE} to 32 or more random characters, "
            "and the same command prints what to write"
        )

    @property
    def privacy(self) -> Privacy:
        """Return the treatment of personal data."""
        return Privacy(self.private, self.private_key)

    @property
    def form(self) -> TextForm:
        """Return the form of the characters."""
        return TextForm(self.width, self.max_repeats, self.chinese)

    def normalization(self) -> dict[str, Any]:
        """Return what a bundle needs to normalize texts as clean does."""
        names = {"max_characters", "width", "max_repeats", "chinese"}
        settings = self.model_dump(include=names)
        if self.privacy.replaces:
            settings["private"] = self.private
        if self.private == "hash":
            settings["private_key"] = self.private_key
        return settings


class TextNormalization(Strict):
    """The content of `TextClean.normalization` in a bundle."""

    max_characters: int = Field(ge=1, le=100_000_000)
    private: Literal["mask", "hash"] | None = None
    private_key: str | None = Field(None, pattern="^[0-9a-f]{16}$")
    width: Width = "half"
    max_repeats: int | None = Field(None, ge=2, le=1000)
    chinese: Chinese = "keep"

    @model_validator(mode="after")
    def _check_private_key(self) -> TextNormalization:
        if (self.private == "hash") != (self.private_key is not None):
            raise ValueError("private_key belongs to private: hash")
        return self

    def fields(self) -> dict[str, Text]:
        """Return the fields text and title.

        Raises:
            EnvironmentFault: hashes have no key in this process, or another one, or the form of
                the characters needs a library that is not installed.
        """
        if self.private_key is not None:
            key_of(self.private_key)
        form = TextForm(self.width, self.max_repeats, self.chinese)
        form.check_library()
        privacy = Privacy(self.private or "ignore", self.private_key)
        limit = self.max_characters
        return {
            "text": Text(max_characters=limit, privacy=privacy, form=form),
            "title": Title(max_characters=limit, privacy=privacy, form=form),
        }


def text_normalization(metadata: Mapping[str, Any]) -> TextNormalization:
    """Return how the texts of a bundle are normalized.

    Args:
        metadata: of its encoder, with `TextClean.normalization` among it.

    Raises:
        ValidationError: the metadata are invalid.
    """
    names = TextNormalization.model_fields
    return TextNormalization(**{name: metadata[name] for name in names if name in metadata})


class Online(Strict):
    """Nothing is transformed on the fly."""


class TextAugment(Strict):
    """Params of `augment`."""

    methods: list[Literal["delete", "swap", "mask"]] = Field(
        ["delete", "swap", "mask"], description="Edits of which each added row has one."
    )
    strength: float = Field(
        0.1, gt=0, le=0.5, description="Share of the characters or words that an edit changes."
    )
    online: Online = Field(Online(), description="Texts have no transforms on the fly.")


class TextSchema(FixedInputs):
    """Facet schema.py."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {
        "clean": TextClean,
        "augment": TextAugment,
    }
    roles = (
        Role("text", Text(), "input"),
        Role("title", Title(), "input", required=False),
        Role("label", ClassName(), "target"),
    )
    targets = ClassTargets()
    split = SplitRule("stratified", near_duplicates=True)

    def fields(self, options: BaseModel) -> Mapping[str, Kind]:
        """Return the fields text, title and label, with the limits of `clean`."""
        assert isinstance(options, TextClean)
        return {
            "text": Text(
                min_characters=options.min_characters,
                max_characters=options.max_characters,
                privacy=options.privacy,
                form=options.form,
                quality=options.quality,
                languages=options.languages,
            ),
            "title": Title(
                max_characters=options.max_characters,
                privacy=options.privacy,
                form=options.form,
            ),
            "label": ClassName(),
        }

    def augmenters(self, options: BaseModel) -> Mapping[str, Augmenter]:
        """Return the methods of easy data augmentation (Wei and Zou 2019, arXiv:1901.11196).

        They edit characters of Chinese and words of other scripts.
        """
        assert isinstance(options, TextAugment)
        edits: Mapping[str, Edit] = {
            "delete": lambda units, _: [""] * len(units),
            "swap": lambda units, rng: [units[i] for i in rng.permutation(len(units))],
            "mask": lambda units, _: [MASK] * len(units),
        }
        augmenters: dict[str, Augmenter] = {}
        for name in options.methods:
            least = 2 if name == "swap" else 1
            augmenters[name] = _editor(edits[name], options.strength, least)
        return augmenters


def _editor(edit: Edit, strength: float, least: int) -> Augmenter:
    """Return an augmenter that edits a random share of a row's units.

    It returns None where the text would not change, or too much of it would.

    Args:
        edit: the edit.
        strength: share of the units.
        least: units that are edited at least.
    """

    def augment(row: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Any] | None:
        """Return an edited row; None where it would not change, or has too few units.

        Args:
            row: of the clean table.
            rng: source of the random draws.
        """
        units = _UNIT.findall(row["text"])
        # Indices of the units that are not spaces or marks.
        words = [i for i, unit in enumerate(units) if unit.strip() and unit[0].isalnum()]
        count = max(least, round(len(words) * strength))
        if len(words) < max(4, 2 * count):
            return None
        chosen = sorted(rng.choice(words, size=count, replace=False).tolist())
        edited = edit([units[i] for i in chosen], rng)
        for i, unit in zip(chosen, edited, strict=True):
            units[i] = unit
        text = "".join(units).strip()
        return {**row, "text": text} if text != row["text"] else None

    return augment


SCHEMA = TextSchema()
