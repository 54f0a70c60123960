"""A text is asked, a class is answered."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from components.fields.scripts import SIGNS
from components.fields.text import Text, Title
from components.tasks.base import Case
from components.tasks.classification.evaluator import ClassificationEvaluator

_SINGLE = (
    "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af\U00020000-\U0003ffff"  # Han, kana, Hangul
)
_PIECE = re.compile(
    rf"(?:[{_SINGLE}]|(?:[^\W{_SINGLE}]|[{SIGNS}])+|^)\W*"
)  # a text that begins with marks begins with a piece of them


def _encodable(text: str) -> str:
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

    def query(self, row: Mapping[str, Any]) -> BaseModel:
        """Text and title of a row."""
        return Query(text=row["text"], title=row["title"])

    def slices(self, row: Mapping[str, Any]) -> Mapping[str, str]:
        """By length and script."""
        facts = Text().profile(row["text"])
        length = float(facts["length"])
        return {
            "length": "up to 30" if length <= 30 else "31 to 100" if length <= 100 else "over 100",
            "script": str(facts["script"]),
        }

    def read(self, argument: str) -> BaseModel:
        """The argument is the text."""
        return Query(text=argument)

    def columns(self, queries: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
        """Texts and titles."""
        return {
            "text": [query.text for query in queries],
            "title": [query.title for query in queries],
        }

    def parts(self, query: Any, limit: int) -> Sequence[str]:
        """Characters of scripts without spaces, words of the others, each with the spaces and marks behind it; so many neighbors together that there are few enough."""
        found = _PIECE.findall(query.text)
        each = -(-len(found) // limit)
        return ["".join(found[start : start + each]) for start in range(0, len(found), each)]

    def without(self, query: Any, parts: Sequence[str], place: int) -> BaseModel:
        """The text without a piece."""
        return cast(
            BaseModel,
            query.model_copy(update={"text": "".join([*parts[:place], *parts[place + 1 :]])}),
        )

    def show(self, case: Case[Any]) -> str:
        """The text, escaped, below its title."""
        above = f"<b>{Title().show(case.query.title)}</b><br>" if case.query.title else ""
        return above + Text().show(case.query.text)


EVALUATOR = TextEvaluator()
