"""Strategies for what strangers write: bytes, JSON, and small changes of what is whole."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

# Escapes, bidi marks, NUL, lone surrogates, path parts, markup, and a formula of a spreadsheet.
WORDS = st.sampled_from(
    [
        "",
        " ",
        "\0",
        "\x1b[2J",
        "\x1b]52;c;eA==\x07",
        "\u202e",
        "\u200b",
        "\ud800",
        "../../..",
        "/etc/passwd",
        "[urgent]",
        "[/nope]",
        "<script>",
        "|",
        "=1+1",
        "nan",
        "-1",
        "1e999",
        "null",
        "[" * 5000,
        "字" * 3000,
    ]
)
TEXTS = st.one_of(WORDS, st.text(max_size=40))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(2**70),
    st.floats(),
    TEXTS,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)


def as_bytes(value: Any) -> bytes:
    """JSON as a careless program writes it: NaN and lone surrogates stand in it."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


@st.composite
def changed_bytes(draw: DrawFn, whole: bytes) -> bytes:
    """Bytes of which some are cut out, put in, or replaced."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 40))
        content[start : start + length] = draw(st.binary(max_size=40))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


@st.composite
def changed_tree(draw: DrawFn, whole: Any) -> Any:
    """A tree of JSON values with one value, key or entry changed, somewhere."""
    if isinstance(whole, dict) and whole and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(whole)))
        changed = dict(whole)
        action = draw(st.sampled_from(["inside", "inside", "inside", "remove", "rename", "add"]))
        if action == "inside":
            changed[key] = draw(changed_tree(whole[key]))
        elif action == "remove":
            del changed[key]
        elif action == "rename":
            changed[draw(TEXTS)] = changed.pop(key)
        else:
            changed[draw(TEXTS)] = draw(VALUES)
        return changed
    if isinstance(whole, list) and whole and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(whole) - 1))
        return [*whole[:place], draw(changed_tree(whole[place])), *whole[place + 1 :]]
    return draw(VALUES)


def changed_json(whole: Any) -> SearchStrategy[bytes]:
    """The bytes of a tree that was changed, as JSON or within the JSON."""
    return st.one_of(changed_tree(whole).map(as_bytes), changed_bytes(as_bytes(whole)))
