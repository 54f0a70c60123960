"""Evaluate text classification: the query is a text, the answer a class."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from components.fields.scripts import SIGNS
from components.fields.text import Text, Title
from components.tasks.base import Case, PartImportance
from components.tasks.shared.evaluator.classification.evaluator import ClassificationEvaluator
from components.tasks.shared.evaluator.explained_parts import importance_table, weighted_parts
from components.tasks.text_classification.typing_noise import TYPING_NOISE

# Han, kana, Hangul.
_SINGLE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af\U00020000-\U0003ffff"
# A text that begins with marks begins with a piece of them.
_PIECE = re.compile(rf"(?:[{_SINGLE}]|(?:[^\W{_SINGLE}]|[{SIGNS}])+|^)\W*")

# Spaces and marks around a word.
_AROUND = re.compile(r"^\W+|\W+$")


def _encodable(text: str) -> str:
    """Return a text that can be encoded as UTF-8.

    Raises:
        ValueError: it holds a lone surrogate.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("the text holds a lone surrogate, which is no character") from None
    return text


class Query(BaseModel):
    """A text to classify, and the title above it if it has one."""

    model_config = ConfigDict(extra="forbid", strict=True)
    text: Annotated[str, Field(min_length=1, max_length=100_000), AfterValidator(_encodable)]
    title: Annotated[str, Field(max_length=100_000), AfterValidator(_encodable)] = ""


class TextEvaluator(ClassificationEvaluator):
    """Facet evaluator.py."""

    Query = Query
    query_changes = TYPING_NOISE

    def query(self, row: Mapping[str, Any]) -> BaseModel:
        """Return the query of a row: its text and title."""
        return Query(text=row["text"], title=row["title"])

    def slices(self, row: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the slices of a row by length and script.

        Args:
            row: of the clean table.

        Returns:
            {"length": range of characters, "script": name}.
        """
        profile = Text().profile(row["text"])
        length = float(profile["length"])
        if length <= 30:
            length_slice = "up to 30"
        elif length <= 100:
            length_slice = "31 to 100"
        else:
            length_slice = "over 100"
        return {"length": length_slice, "script": str(profile["script"])}

    def read(self, argument: str) -> BaseModel:
        """Return the query of an argument, which is the text."""
        return Query(text=argument)

    def columns(self, queries: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
        """Return the texts and titles of queries."""
        return {
            "text": [query.text for query in queries],
            "title": [query.title for query in queries],
        }

    def parts(self, query: Any, limit: int) -> Sequence[str]:
        """Return the text in pieces, at most `limit`.

        Pieces are characters of scripts without spaces and words of other scripts, each with
        the spaces and marks after it. Neighbors are joined where there are too many.

        Args:
            query: with a text.
            limit: most pieces.
        """
        pieces = _PIECE.findall(query.text)
        size = -(-len(pieces) // limit)
        return ["".join(pieces[start : start + size]) for start in range(0, len(pieces), size)]

    def without(self, query: Any, parts: Sequence[str], index: int) -> BaseModel:
        """Return the query without the piece at an index.

        Args:
            query: with a text.
            parts: all pieces of the text.
            index: of the piece that is left out.
        """
        text = "".join([*parts[:index], *parts[index + 1 :]])
        return cast(BaseModel, query.model_copy(update={"text": text}))

    def report_parts(self, query: Any, limit: int) -> Sequence[str]:
        """Return the text in pieces, see `parts`."""
        return self.parts(query, limit)

    def without_parts(
        self, query: Any, parts: Sequence[str], indices: Collection[int]
    ) -> BaseModel:
        """Return the query without the pieces at some indices."""
        rest = [part for index, part in enumerate(parts) if index not in indices]
        return cast(BaseModel, query.model_copy(update={"text": "".join(rest)}))

    def part_weights(
        self,
        query: Any,  # noqa: ARG002
        parts: Sequence[str],
        elements: NDArray[np.float64],
    ) -> Sequence[float]:
        """Return the sum of the contributions of each piece's characters.

        Args:
            query: not used.
            parts: all pieces of the text.
            elements: (characters,) of the text.
        """
        ends = np.cumsum([len(part) for part in parts])
        sums = np.concatenate([[0.0], np.cumsum(elements)])
        weights: list[float] = np.diff(sums[np.concatenate([[0], ends])]).tolist()
        return weights

    def part_names(self, query: Any, parts: Sequence[str]) -> Sequence[str]:  # noqa: ARG002
        """Return the words and characters, without the spaces and marks around them."""
        return [_AROUND.sub("", part.lower()) or part.strip() for part in parts]

    def show_parts(self, case: Case[Any], parts: Sequence[str], weights: Sequence[float]) -> str:
        """Return the text with colored pieces below its title, as HTML."""
        above = f"<b>{Title().show(case.query.title)}</b><br>" if case.query.title else ""
        return above + weighted_parts(parts, weights)

    def show_importance(self, importances: Sequence[PartImportance]) -> str:
        """Return the words and characters as a table."""
        return importance_table(importances, "piece of text", "文字")

    def show(self, case: Case[Any]) -> str:
        """Return the escaped text below its title, as HTML."""
        above = f"<b>{Title().show(case.query.title)}</b><br>" if case.query.title else ""
        return above + Text().show(case.query.text)


EVALUATOR = TextEvaluator()
