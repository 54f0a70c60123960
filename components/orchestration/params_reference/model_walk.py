"""Sections and params of the models, read from their JSON schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from components.orchestration.pipeline_params import tree_model

JsonSchema = Mapping[str, Any]
# Stands for the keys of a mapping, which a person chooses.
ANY_KEY = "<path>"
_REF = "#/$defs/"


@dataclass(frozen=True)
class Param:
    """One key of params.yaml.

    Attributes:
        path: dotted path in the tree.
        schema: JSON schema of its values.
        required: there is no default.
        default: value where the file has none.
        same_as: path of the section with the same keys, where the value is a mapping.
    """

    path: str
    schema: JsonSchema
    required: bool
    default: Any
    same_as: str | None = None

    @property
    def description(self) -> str:
        """Return the sentence in the model."""
        return str(self.schema.get("description", ""))

    @property
    def choices(self) -> list[Any]:
        """Return the allowed values, where they are listed."""
        return list(self.schema.get("enum", ()))


@dataclass(frozen=True)
class Section:
    """A mapping in params.yaml.

    Attributes:
        path: dotted path in the tree, empty for the tree itself.
        kind: value of the key `kind`, where the keys depend on it.
        description: sentence in the model.
        params: its keys.
    """

    path: str
    kind: str
    description: str
    params: list[Param] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return the path, with the kind in brackets."""
        return f"{self.path}[{self.kind}]" if self.kind else self.path


@cache
def walk(task: str) -> Sequence[Section]:
    """Return the sections of a task's tree, each before those below it."""
    schema = tree_model(task).model_json_schema()
    walker = _Walker(schema["$defs"])
    return tuple(walker.sections("", "", schema, ""))


@dataclass
class _Walker:
    """A walk over the models of a tree.

    Attributes:
        models: JSON schemas by name.
        sections_by_model: path of the section that a model was first seen in.
    """

    models: Mapping[str, JsonSchema]
    sections_by_model: dict[str, str] = field(default_factory=dict)

    def sections(
        self, path: str, kind: str, model: JsonSchema, description: str
    ) -> Iterator[Section]:
        """Yield the section of a model, then those below it."""
        section = Section(path, kind, description)
        required = model.get("required", ())
        nested: list[tuple[str, str, JsonSchema]] = []
        for name, schema in model.get("properties", {}).items():
            below = f"{path}.{name}" if path else name
            names = list(_model_names(schema))
            known = [name for name in names if name in self.sections_by_model]
            if not known:
                nested += [(below, name, schema) for name in names]
            if not _is_section(schema):
                section.params.append(
                    Param(
                        path=below,
                        schema=schema,
                        required=name in required,
                        default=schema.get("default", _empty(schema)),
                        same_as=self.sections_by_model[known[0]] if known else None,
                    )
                )
        yield section
        for below, model_name, schema in nested:
            yield from self._nested(below, model_name, schema)

    def _nested(self, path: str, model_name: str, schema: JsonSchema) -> Iterator[Section]:
        """Yield the sections of a model that is the value of a key."""
        if "additionalProperties" in schema:
            path = f"{path}.{ANY_KEY}"
        kind = ""
        for value, reference in schema.get("discriminator", {}).get("mapping", {}).items():
            if reference == _REF + model_name:
                kind = value
        self.sections_by_model[model_name] = path
        model = self.models[model_name]
        yield from self.sections(path, kind, model, schema.get("description", ""))


def _is_section(schema: JsonSchema) -> bool:
    """Return whether a value is always a mapping of one model, so that it needs no row."""
    return "$ref" in schema


def _model_names(schema: Any) -> Iterator[str]:
    """Yield the names of the models in a schema."""
    if isinstance(schema, Mapping):
        if "$ref" in schema:
            yield schema["$ref"].removeprefix(_REF)
        for key in ("anyOf", "oneOf", "items", "additionalProperties"):
            yield from _model_names(schema.get(key))
    elif isinstance(schema, list):
        for item in schema:
            yield from _model_names(item)


def _empty(schema: JsonSchema) -> Any:
    """Return the default of a key with a default_factory, which is empty everywhere."""
    return {"array": [], "object": {}}.get(schema.get("type", ""))
