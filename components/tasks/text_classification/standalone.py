"""Read, encode and answer in exported folders, without gristmill. See `orchestration/export`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from components.fields.base import Reject
from components.fields.privacy import Privacy
from components.fields.text import normalized
from components.fields.text_form import form_of
from components.tasks.shared.standalone.classification.class_answers import (
    ANSWER_FIELDS,
    answer_of,
)

__all__ = [
    "ANSWER_FIELDS",
    "QUERY",
    "USAGE",
    "answer_of",
    "open_rows",
    "requirements",
    "unsupported",
]
QUERY = "a text"
USAGE = '"a text"'


def requirements(files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the packages that read, encode and answer.

    Args:
        files: of the encoder, by name.
    """
    form = form_of(json.loads(files["encoder.json"]))
    if form.chinese == "simplified":
        return ("numpy", "tokenizers", "opencc")
    return ("numpy", "tokenizers")


def unsupported(files: Mapping[str, bytes]) -> str:  # noqa: ARG001
    """Return "": a short script can encode every text."""
    return ""


class TextRows:
    """The tokenizer of tokenizer.json.

    Args:
        folder: of the encoder's files.
    """

    def __init__(self, folder: Path) -> None:
        self._settings = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        mode = self._settings.get("private", "ignore")
        self._privacy = Privacy(mode, self._settings.get("private_key"))
        self._form = form_of(self._settings)
        self._form.check_library()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._settings["max_length"])

    def read(self, argument: str) -> dict[str, Any]:
        """Return the query of an argument of the command line, which is the text."""
        return {"text": argument}

    def encode(self, query: Mapping[str, Any] | str) -> dict[str, NDArray[Any]]:
        """Return "ids" (1, tokens) and "mask" (1, tokens).

        Args:
            query: a text, or {"text", "title"}.

        Raises:
            Reject: the text is empty, or is escaped many times over.
        """
        parts = {"text": query} if isinstance(query, str) else query
        text = self._normalized(parts["text"])
        if not text:
            raise Reject("empty")
        title = self._normalized(parts.get("title") or "")
        whole = f"{title} {text}" if title else text
        unknown = self._tokenizer.token_to_id("[UNK]") or self._settings.get("pad", 0)
        ids = np.array([self._tokenizer.encode(whole).ids or [unknown]], dtype=np.int64)
        return {"ids": ids, "mask": np.ones(ids.shape, dtype=np.float32)}

    def _normalized(self, value: str) -> str:
        """Return a text as clean writes it; "" where nothing in it is readable."""
        limit = self._settings["max_characters"]
        return normalized(value, limit, self._privacy, self._form)


open_rows = TextRows
