"""Comments of the shipped params.yaml files, from the descriptions of the params.

A comment is behind a short line, from column 30 on. It is above a long line, above a section at the
left edge, and above a mapping on one line, whose keys it describes too. Comment lines at the top of
the file, up to the first blank line, are written by hand.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node

from components.orchestration.creation.yaml_scalars import scalar
from components.orchestration.params_reference.model_walk import Param, Section

WIDTH = 100
# Column of a comment behind a line.
COLUMN = 30


@dataclass(frozen=True)
class Comment:
    """What is said of a key.

    Attributes:
        description: a sentence.
        choices: the allowed values, where they are listed.
    """

    description: str
    choices: str = ""

    def lines(self, width: int, prefix: str = "") -> list[str]:
        """Return the comment without `#`, the choices on the first line if they fit.

        Args:
            width: of a line.
            prefix: in front of the first line.
        """
        text = prefix + self.description.removesuffix(".")
        if not self.choices:
            return _wrap(text, width)
        line = f"{text}: {self.choices}"
        if len(line) <= width:
            return [line]
        return [*_wrap(f"{text}:", width), *_wrap(self.choices, width)]


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)


def comments_of(sections: Sequence[Section], tree: Mapping[str, Any]) -> dict[str, Comment]:
    """Return the comment of each key by its dotted path.

    Args:
        sections: of the task.
        tree: of the file, which chooses between sections of several kinds.
    """
    comments: dict[str, Comment] = {}
    for section in sections:
        if section.kind and section.kind != _value_at(tree, f"{section.path}.kind"):
            continue
        if section.description:
            comments.setdefault(section.path, Comment(section.description))
        for param in section.params:
            comments[param.path] = Comment(param.description, _choices(param))
    return comments


def _choices(param: Param) -> str:
    return " | ".join(scalar(choice) for choice in param.choices)


def _value_at(tree: Mapping[str, Any], path: str) -> Any:
    node: Any = tree
    for key in path.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


@dataclass(frozen=True)
class _Entry:
    """A key of a block mapping.

    Attributes:
        path: dotted path in the tree.
        first: number of its line.
        last: number of the line on which its code ends.
        end: column behind its code on that line.
        flow_keys: paths of the keys inside a mapping on one line.
    """

    path: str
    first: int
    last: int
    end: int
    flow_keys: list[str]


def with_comments(text: str, comments: Mapping[str, Comment]) -> str:
    """Return a YAML text with its comments replaced; keys, values and blank lines stay.

    Args:
        text: of the file.
        comments: by dotted path.
    """
    node = YAML(typ="safe", pure=True).compose(text)
    entries = {entry.first: entry for entry in _entries(node, "")}
    source = text.splitlines()
    lines = _header(source)
    number = len(lines)
    while number < len(source):
        entry = entries.get(number)
        if entry is None:
            if not source[number].lstrip().startswith("#"):
                lines.append(source[number].rstrip())
            number += 1
            continue
        code = [*source[number : entry.last], source[entry.last][: entry.end]]
        lines += _with_comment(code, entry, comments)
        number = entry.last + 1
    return "\n".join(lines) + "\n"


def _header(lines: Sequence[str]) -> list[str]:
    """Return the comment at the top, with the blank line below it."""
    header: list[str] = []
    for line in lines:
        if line and not line.startswith("#"):
            return []
        header.append(line)
        if not line:
            break
    return header


def _entries(node: Node, path: str) -> Iterator[_Entry]:
    """Yield the keys of a block mapping and of those below it."""
    if not isinstance(node, MappingNode) or node.flow_style:
        return
    for key, value in node.value:
        below = f"{path}.{key.value}" if path else key.value
        mark = value.end_mark
        if value.start_mark.line > key.start_mark.line:
            # The value is on the lines below: the code of this line ends with the colon.
            yield _Entry(
                below,
                key.start_mark.line,
                key.end_mark.line,
                key.end_mark.column + 1,
                [],
            )
            yield from _entries(value, below)
        else:
            flow_keys = list(_flow_keys(value, below))
            yield _Entry(below, key.start_mark.line, mark.line, mark.column, flow_keys)


def _flow_keys(node: Node, path: str) -> Iterator[str]:
    """Yield the paths of the keys inside a mapping on one line."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            below = f"{path}.{key.value}"
            yield below
            yield from _flow_keys(value, below)


def _with_comment(code: list[str], entry: _Entry, comments: Mapping[str, Comment]) -> list[str]:
    """Return the lines of a key with its comment."""
    comment = comments.get(entry.path)
    if comment is None:
        return code
    line = code[0]
    indent = " " * (len(line) - len(line.lstrip()))
    flow_keys = [path for path in entry.flow_keys if path in comments]
    if indent and not flow_keys and len(code) == 1:
        column = COLUMN if len(line) < COLUMN else len(line) + 2
        behind = comment.lines(WIDTH - column - 2)
        if column == COLUMN or len(behind) == 1:
            return _behind(line, behind, column)
    above = comment.lines(WIDTH - len(indent) - 2)
    for path in flow_keys:
        key = path.removeprefix(f"{entry.path}.")
        first, *others = comments[path].lines(WIDTH - len(indent) - 6, f"{key}: ")
        above += [f"  {first}", *(f"    {part}" for part in others)]
    return [*(f"{indent}# {part}" for part in above), *code]


def _behind(line: str, comment: Sequence[str], column: int) -> list[str]:
    """Return a line with a comment behind it, which goes on below where it is long."""
    first, *others = comment
    margin = " " * column
    return [f"{line.ljust(column)}# {first}", *(f"{margin}# {part}" for part in others)]
