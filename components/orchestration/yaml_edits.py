"""Edits of single values in the text of a YAML file. All other bytes and comments stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node


def at_path(tree: Any, path: str) -> Any:
    """Return the value at a dotted path of a tree; None where there is none."""
    node = tree
    for key in path.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def set_values(text: str, values: Mapping[str, str]) -> str:
    """Return a text with other values at dotted paths, of which none is below another.

    Args:
        text: a mapping in YAML.
        values: path -> YAML on one line. Keys of a path may be missing; those above them are
            mappings.
    """
    root = _compose(text)
    edits = []
    missing = []
    for path, value in values.items():
        span = _span(root, path)
        if span is None:
            missing.append(path)
        else:
            edits.append((*span, value))
    # An edit moves what is behind it, so the last place is the first.
    for start, end, value in sorted(edits, reverse=True):
        # The first key of a block is on a later line than the key above it.
        space = " " if text[start - 1] == ":" else ""
        text = f"{text[:start]}{space}{value}{text[end:]}"
    for path in missing:
        text = _insert(text, path.split("."), values[path])
    return text


def replace_section(text: str, key: str, section: str) -> str:
    """Return a text with another section of a key at the top, at the end of the file.

    Args:
        text: a mapping in YAML.
        key: at the top.
        section: its text with the key; "": it is left out.
    """
    entry = _entry(_compose(text), key)
    if entry is not None:
        key_node, node = entry
        start = key_node.start_mark.index
        end = text.find("\n", _end(node))
        after = text[end + 1 :] if end >= 0 else ""
        text = text[:start].removesuffix("\n") + after
    return f"{text}\n{section}" if section else text


@lru_cache(maxsize=8)
def _compose(text: str) -> Node:
    """Return the nodes of a text. They are shared: nobody may change them."""
    node: Node = YAML(pure=True).compose(text)
    return node


def _entry(node: Node, key: str) -> tuple[Node, Node] | None:
    if not isinstance(node, MappingNode):
        return None
    return next((pair for pair in node.value if pair[0].value == key), None)


def _span(root: Node, path: str) -> tuple[int, int] | None:
    """Return where the value at a path starts and ends; None where there is none."""
    node = root
    for key in path.split("."):
        entry = _entry(node, key)
        if entry is None:
            return None
        key_node, node = entry
    start = key_node.end_mark.index + 1 if _is_block(node) else node.start_mark.index
    return start, _end(node)


def _is_block(node: Node) -> bool:
    return isinstance(node, CollectionNode) and not node.flow_style


def _end(node: Node) -> int:
    """Return where a value ends. The mark of a block is only at the next token."""
    if not _is_block(node):
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _insert(text: str, keys: Sequence[str], value: str) -> str:
    """Return a text with a value at a path, of which some key is missing.

    The first missing key becomes the first of its mapping.
    """
    parent = _compose(text)
    entry = _entry(parent, keys[0])
    while entry is not None:
        parent = entry[1]
        keys = keys[1:]
        entry = _entry(parent, keys[0])
    for key in reversed(keys[1:]):
        value = f"{{{key}: {value}}}"
    added = f"{keys[0]}: {value}"
    if not _is_block(parent):
        start = parent.start_mark.index + 1
        separator = ", " if parent.value else ""
        return f"{text[:start]}{added}{separator}{text[start:]}"
    first = parent.value[0][0].start_mark
    start = first.index - first.column
    return f"{text[:start]}{' ' * first.column}{added}\n{text[start:]}"
