"""Params: strict pydantic models, read from YAML, with every mistake reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from components.core.errors import ParamsError

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """A section of params: frozen, no unknown keys, no silent conversion of a string to a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML 1.2 mapping (in which `1e-3` is a number, which YAML 1.1 takes for a string).

    Raises:
        ParamsError: missing file, malformed YAML, or not a mapping.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError("there is no such params file", where=str(path), remedy="gristmill new NAME --task T --data FILE") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"is not readable YAML: {error}", where=path.name, remedy="mend the line named above") from None
    if not isinstance(tree, dict):
        raise ParamsError("must hold a mapping of sections", where=path.name, remedy="compare it with the shipped params.yaml")
    return tree


def validate(model: type[M], tree: Mapping[str, Any], source: str) -> M:
    """Check a tree against a model and report all mistakes together.

    Raises:
        ParamsError: one line a mistake: file, path, value, what is allowed, the nearest valid name.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        lines = [f"{source}: {_explain(model, mistake)}" for mistake in error.errors(include_url=False)]
        count = f"{len(lines)} mistakes" if len(lines) > 1 else "1 mistake"
        raise ParamsError("\n".join(lines), remedy=f"{count}; edit {source} and run the same command again") from None


def _explain(model: type[BaseModel], mistake: ErrorDetails) -> str:
    path = ".".join(str(part) for part in mistake["loc"])
    value = mistake.get("input")
    if mistake["type"] == "extra_forbidden":
        names = _names(model, mistake["loc"][:-1])
        return f"{path}: is not a known key{_nearest(str(mistake['loc'][-1]), names)}; known here: {', '.join(names)}"
    if mistake["type"] == "missing":
        return f"{path}: is missing"
    if mistake["type"] in ("literal_error", "union_tag_invalid"):
        context = mistake.get("ctx", {})
        allowed = str(context.get("expected", context.get("expected_tags", ""))).replace("'", "").replace(" or ", ", ")
        shown = value.get("kind") if isinstance(value, dict) else value
        return f"{path}: {shown!r} is not one of {allowed}{_nearest(str(shown), allowed.split(', '))}"
    message = mistake["msg"].removeprefix("Value error, ")
    return f"{path}: {_short(value)}: {message[0].lower()}{message[1:]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _names(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """The keys that are known at a place in the tree."""
    here: list[type[BaseModel]] = [model]
    for part in loc:
        below = [kind for each in here if part in each.model_fields for kind in _models(each.model_fields[str(part)].annotation)]
        here = below or [each for each in here if part in _tags(each)] or here  # a union's tag is part of the path without being a field: stay
    return sorted({name for each in here for name in each.model_fields})


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    field = model.model_fields.get("kind")
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()
