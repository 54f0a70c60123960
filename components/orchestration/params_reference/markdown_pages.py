"""The reference pages of the params, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.orchestration.params_reference.model_walk import (
    ANY_KEY,
    JsonSchema,
    Param,
    Section,
)

# Bounds of a JSON schema and how they are shown.
_BOUNDS = {
    "minimum": "≥ {:,}",
    "exclusiveMinimum": "> {:,}",
    "maximum": "≤ {:,}",
    "exclusiveMaximum": "< {:,}",
}


@dataclass(frozen=True)
class Language:
    """The words of a page.

    Attributes:
        title: of the page.
        introduction: text below the title.
        columns: headers of a table: key, values, default, bounds, description, tasks.
        words: terms of types and bounds.
        headings: titles of the sections at the top of params.yaml.
        descriptions: by path; a path that is missing has the sentence of the model.
    """

    title: str
    introduction: str
    columns: Sequence[str]
    words: Mapping[str, str]
    headings: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)


ENGLISH = Language(
    title="Params",
    introduction="""\
This page lists every key of `params.yaml`. `gristmill run` checks all of them before anything runs.
A key that a file leaves out has the default. The shipped files state other values for some keys.

A value for one run is set on the command line:

```sh
dvc exp run -S train.epochs=2
```

This page and the comments of the shipped `params.yaml` files are generated from the models, by
`python -m components.orchestration.params_reference`.""",
    columns=("Key", "Values", "Default", "Bounds", "Description", "Tasks"),
    words={
        "top level": "Top level",
        "integer": "integer",
        "number": "number",
        "boolean": "true or false",
        "string": "text",
        "null": "null",
        "any": "any value",
        "list": "list ({})",
        "mapping": "mapping of text to {}",
        "section": "mapping",
        "like": "mapping as in {}",
        "or": " or ",
        "required": "required",
        "below": "see below",
        "entries at least": "≥ {:,} entries",
        "entries at most": "≤ {:,} entries",
        "entries exactly": "{:,} entries",
        "not empty": "not empty",
        "multiple": "multiple of {:,}",
        "pattern": "pattern `{}`",
        "all tasks": "all",
    },
)


@dataclass(frozen=True)
class _Row:
    """A line of a table."""

    param: Param
    tasks: list[str]


def render_page(
    sections: Mapping[str, Sequence[Section]], order: Sequence[str], language: Language
) -> str:
    """Return the page of all params.

    Args:
        sections: by task.
        order: keys at the top of params.yaml.
        language: of the page.
    """
    lines = [f"# {language.title}", "", language.introduction.strip(), ""]
    top_level = None
    for group in _merged(sections, order):
        name = group[0].path.partition(".")[0]
        if name != top_level:
            lines += [_heading(name, language), ""]
            top_level = name
        lines += _render_section(group, sections, language)
    return "\n".join(lines).rstrip() + "\n"


def _heading(name: str, language: Language) -> str:
    """Return the heading of a key at the top of params.yaml, or of those without a section."""
    if not name:
        return f"## {language.words['top level']}"
    return f"## `{name}` {language.headings.get(name, '')}".rstrip()


def _merged(sections: Mapping[str, Sequence[Section]], order: Sequence[str]) -> list[list[Section]]:
    """Return the sections of all tasks, grouped by name, those below a section behind it."""
    groups: dict[str, list[Section]] = {}
    ranks: dict[str, int] = {name: number for number, name in enumerate(order)}
    for task_sections in sections.values():
        for section in task_sections:
            groups.setdefault(section.name, []).append(section)
            ranks.setdefault(section.path, len(ranks))
    # Keys without a section come first.
    ranks[""] = -1

    def position(group: Sequence[Section]) -> list[int]:
        keys = group[0].path.split(".")
        prefixes = (".".join(keys[: length + 1]) for length in range(len(keys)))
        return [ranks.get(prefix, 0) for prefix in prefixes]

    return sorted(groups.values(), key=position)


def _render_section(
    group: Sequence[Section], sections: Mapping[str, Sequence[Section]], language: Language
) -> Iterator[str]:
    """Yield the heading, the sentence and the table of a section."""
    section = group[0]
    if "." in section.path:
        suffix = f", `kind: {section.kind}`" if section.kind else ""
        yield f"### `{section.path}`{suffix}"
        yield ""
    text = _introduction(group, language)
    if text:
        yield text
        yield ""
    rows = _rows(section.name, sections)
    if rows:
        yield _table_line(language.columns)
        yield _table_line("---" for _ in language.columns)
        for row in rows:
            yield _table_line(_cells(row, section, len(sections), language))
        yield ""


def _introduction(group: Sequence[Section], language: Language) -> str:
    """Return the sentence of a section. That of a kind, or of any key, is in the table above."""
    section = group[0]
    if section.kind or section.path.endswith(ANY_KEY):
        return ""
    descriptions = dict.fromkeys(other.description for other in group if other.description)
    return language.descriptions.get(section.path, " ".join(descriptions))


def _rows(name: str, sections: Mapping[str, Sequence[Section]]) -> list[_Row]:
    """Return the params of a section in all tasks; equal ones are one row."""
    rows: list[_Row] = []
    for task, task_sections in sections.items():
        for section in task_sections:
            if section.name == name:
                for param in section.params:
                    _add(rows, param, task)
    return rows


def _add(rows: list[_Row], param: Param, task: str) -> None:
    for row in rows:
        if row.param == param:
            row.tasks.append(task)
            return
    rows.append(_Row(param, [task]))


def _cells(
    row: _Row,
    section: Section,
    tasks: int,
    language: Language,
) -> Iterator[str]:
    """Yield the cells of a row."""
    param = row.param
    yield f"`{param.path}`"
    yield _values(param.schema, param, language)
    yield _default(param, language)
    yield ", ".join(_bounds(param.schema, language))
    name = f"{section.name}{param.path.removeprefix(section.path)}"
    yield language.descriptions.get(name, param.description)
    yield language.words["all tasks"] if len(row.tasks) == tasks else ", ".join(row.tasks)


def _table_line(cells: Iterable[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _values(schema: JsonSchema, param: Param, language: Language) -> str:
    """Return the types or the listed values of a schema."""
    words = language.words
    if "enum" in schema:
        return ", ".join(f"`{_json(value)}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{_json(schema['const'])}`"
    if "$ref" in schema or "discriminator" in schema:
        return words["like"].format(f"`{param.same_as}`") if param.same_as else words["section"]
    if "anyOf" in schema:
        members = [_values(member, param, language) for member in schema["anyOf"]]
        return words["or"].join(members)
    kind = schema.get("type", "any")
    if kind == "array":
        items = schema.get("items") or schema.get("prefixItems", [{}])[0]
        return words["list"].format(_values(items, param, language))
    if kind == "object":
        return words["mapping"].format(_mapped(schema, param, language))
    return words[kind]


def _mapped(schema: JsonSchema, param: Param, language: Language) -> str:
    """Return the types of the values in a mapping."""
    values = schema.get("additionalProperties", True)
    return _values({} if values is True else values, param, language)


def _default(param: Param, language: Language) -> str:
    if param.required:
        return language.words["required"]
    # A section that may be null has the defaults of its own table.
    if isinstance(param.default, Mapping) and param.default:
        return language.words["below"]
    return f"`{_json(param.default)}`"


def _json(value: Any) -> str:
    """Return a value as it may stand in a params.yaml, text without quotes."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _bounds(schema: JsonSchema, language: Language) -> Iterator[str]:
    """Yield the bounds of a value, those of the members of a union too."""
    words = language.words
    for name, template in _BOUNDS.items():
        if name in schema:
            yield template.format(schema[name])
    if "multipleOf" in schema:
        yield words["multiple"].format(schema["multipleOf"])
    if "pattern" in schema:
        yield words["pattern"].format(schema["pattern"])
    if schema.get("minLength"):
        yield words["not empty"]
    yield from _entry_bounds(schema, words)
    for member in schema.get("anyOf", ()):
        yield from _bounds(member, language)


def _entry_bounds(schema: JsonSchema, words: Mapping[str, str]) -> Iterator[str]:
    """Yield the bounds of the number of entries in a list or a mapping."""
    least = schema.get("minItems", schema.get("minProperties"))
    most = schema.get("maxItems", schema.get("maxProperties"))
    if least is not None and least == most:
        yield words["entries exactly"].format(least)
        return
    if least is not None:
        yield words["entries at least"].format(least)
    if most is not None:
        yield words["entries at most"].format(most)
