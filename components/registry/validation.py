"""Validation of values from MLflow: anybody who reaches the registry can edit them.

A tag, name, source or description becomes part of a path, a filter or a decision only through
these functions. tests/structure/test_untrusted_values.py looks for those that do not.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from components.core.errors import InputError

T = TypeVar("T")
PREFIX = 12
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_TAG = 100_000  # characters, as MLflow has it
_DEEPEST = 32
_SHOWN = 60
_REMEDY = "take another version: gristmill status"


def sha256_digest(value: object, where: str) -> str:
    """Return a SHA-256 in hexadecimal, which is safe as the name of a file.

    Args:
        value: a tag, or None where there is no such tag.
        where: the version and the tag, for the message.

    Raises:
        InputError: it is none.
    """
    if isinstance(value, str) and _SHA256.fullmatch(value):
        return value
    raise InputError(f"is {quoted(value)}, not a SHA-256", where=where, remedy=_REMEDY)


def bundle_source(source: object, digest: str, where: str) -> str:
    """Return the folder or URI of a bundle, if it is one that registering a bundle makes.

    Args:
        source: of a model version.
        digest: the SHA-256 of the bundle's card, whose first digits are the folder's name.
        where: the version, for the message.

    Raises:
        InputError: it is another one, so that nothing below it may be read.
    """
    text = source if isinstance(source, str) else ""
    ending = f"/bundles/{digest[:PREFIX]}"
    parts = unquote(text).replace("\\", "/").split("/")
    if not text.endswith(ending) or ".." in parts or "\0" in text:
        raise InputError(
            f"has the source {quoted(source)}, which does not end in {ending!r}",
            where=where,
            remedy=_REMEDY,
        )
    # A URI of a folder of this machine is read like the folder.
    return unquote(urlsplit(text).path) if text.startswith("file:") else text


def json_value(text: object, kind: type[T], where: str) -> T:
    """Parse the JSON of a tag.

    Args:
        text: of the tag.
        kind: `dict` or `list`.
        where: the version and the tag, for the message.

    Raises:
        InputError: it is no JSON, of another kind, too long, or too deeply nested.
    """
    try:
        if not isinstance(text, str) or len(text) > _LONGEST_TAG:
            raise ValueError
        value = json.loads(text, parse_constant=_refuse_constant)
        if not isinstance(value, kind) or not _is_shallow(value, _DEEPEST):
            raise ValueError
        # Lone surrogates cannot be written as UTF-8.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise InputError(
            f"is {quoted(text)}, which is not a {kind.__name__} in JSON of at most "
            f"{_LONGEST_TAG:,} characters and {_DEEPEST} levels",
            where=where,
            remedy=_REMEDY,
        ) from None
    return value


def examples(text: object, where: str) -> list[dict[str, Any]]:
    """Parse the example queries of a version.

    Args:
        text: of the tag.
        where: the version and the tag, for the message.

    Raises:
        InputError: they are no list of objects in JSON.
    """
    queries = json_value(text, list, where)
    if not all(isinstance(query, dict) for query in queries):
        raise InputError(
            f"is {quoted(text)}, not a list of objects in JSON", where=where, remedy=_REMEDY
        )
    return queries


def storable(text: str, longest: int = 1000) -> str:
    """Return a text as every store and log takes it: valid UTF-8 without NUL, not too long."""
    return (
        text[:longest]
        .replace("\0", "\N{REPLACEMENT CHARACTER}")
        .encode("utf-8", "replace")
        .decode()
    )


def quoted(value: object) -> str:
    """Return the start of a value for a message, in ASCII, so that nothing in it acts."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _is_shallow(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        return levels > 0 and all(_is_shallow(each, levels - 1) for each in value.values())
    if isinstance(value, list):
        return levels > 0 and all(_is_shallow(each, levels - 1) for each in value)
    return True
