"""Params: strict pydantic models, read from YAML, with every mistake reported at once."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
        raise ParamsError(
            "there is no such params file",
            where=str(path),
            remedy="gristmill new NAME --task T --data FILE",
        ) from None
    # dates and numbers that are none raise ValueError, brackets without end exhaust the parser
    except (YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ParamsError(
            f"is not readable YAML: {error}", where=path.name, remedy="mend the line named above"
        ) from None
    if not isinstance(tree, dict):
        raise ParamsError(
            "must hold a mapping of sections",
            where=path.name,
            remedy="compare it with the shipped params.yaml",
        )
    return tree


def validate(
    model: type[M],
    tree: Mapping[str, Any],
    source: str,
    more: Callable[[M], list[str]] = lambda _: [],
) -> M:
    """Check a tree against a model and report all mistakes together.

    Args:
        more: what the model cannot say, such as one section's word on another; told of a tree with mistakes too, with defaults in their places.

    Raises:
        ParamsError: one line a mistake: file, path, value, what is allowed, the nearest valid name.
    """
    try:
        valid: M | None = model.model_validate(tree)
        found: list[str] = []
    except ValidationError as error:
        valid = _mended(model, tree, error)
        found = explain(model, error)
    found += more(valid) if valid else []
    if valid is None or found:
        count = f"{len(found)} mistakes" if len(found) > 1 else "1 mistake"
        raise ParamsError(
            "\n".join(f"{source}: {each}" for each in found),
            remedy=f"{count}; edit {source} and run the same command again",
        )
    return valid


def explain(model: type[BaseModel], error: ValidationError, place: str = "") -> list[str]:
    """A line a mistake; `place`: where the model stands in the tree."""
    return [_explain(model, mistake, place) for mistake in error.errors(include_url=False)]


def _mended(model: type[M], tree: Mapping[str, Any], error: ValidationError) -> M | None:
    """The tree without what is wrong in it, so that defaults stand there; None where there are none."""
    mended: Any = copy.deepcopy(dict(tree))
    while True:
        wrong = [
            place
            for mistake in error.errors(include_url=False)
            if (place := _deepest(mended, mistake["loc"]))
        ]
        for holder, key in wrong:
            holder.pop(key, None)
        try:
            return model.model_validate(mended)
        except ValidationError as left:
            if not wrong:
                return None
            error = left


def _deepest(tree: Any, loc: Sequence[int | str]) -> tuple[dict[Any, Any], Any] | None:
    """Where a mistake sits: the innermost mapping on its path, and the key there."""
    found, here = None, tree
    for part in loc:
        if isinstance(here, dict) and part in here:
            found, here = (here, part), here[part]
    return found


def _explain(model: type[BaseModel], mistake: ErrorDetails, place: str) -> str:
    way, here = _follow(model, mistake["loc"])
    path = ".".join(part for part in (place, *way) if part)
    value = mistake.get("input")
    if mistake["type"] == "extra_forbidden":
        names = sorted({name for each in here for name in each.model_fields})
        return f"{path}: is not a known key{nearest(str(mistake['loc'][-1]), names)}; known here: {', '.join(names)}"
    if mistake["type"] == "union_tag_not_found":
        return f"{path}.{mistake['ctx']['discriminator']}: is missing".replace("'", "")
    if mistake["type"] == "missing":
        return f"{path}: is missing"
    if mistake["type"] in ("literal_error", "union_tag_invalid"):
        context = mistake.get("ctx", {})
        allowed = (
            str(context.get("expected", context.get("expected_tags", "")))
            .replace("'", "")
            .replace(" or ", ", ")
        )
        shown = context.get("tag", value)
        return (
            f"{path}: {shown!r} is not one of {allowed}{nearest(str(shown), allowed.split(', '))}"
        )
    message = mistake["msg"].removeprefix("Value error, ")
    # A whole section says nothing: the message names what is wrong in it. Of what may be a password, nobody should read the value.
    shown = "" if isinstance(value, dict) or mistake["type"] == "secret" else f"{_short(value)}: "
    return f"{path}: {shown}{message[0].lower()}{message[1:]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(name: str, names: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing. Of two that share as many letters, the one of the same length: 'adamm' is a mistyped 'adamw', not an 'adam' too long."""

    def likeness(other: str) -> tuple[float, int]:
        blocks = difflib.SequenceMatcher(
            None, name.casefold(), other.casefold()
        ).get_matching_blocks()
        return sum(block.size for block in blocks) / max(len(name), len(other)), -abs(
            len(name) - len(other)
        )

    best = max((each for each in names if each), key=likeness, default="")
    return f" (did you mean {best!r}?)" if best and likeness(best)[0] >= 0.5 else ""


def _follow(
    model: type[BaseModel], loc: Sequence[int | str]
) -> tuple[list[str], list[type[BaseModel]]]:
    """The path as a person wrote it, without the tags that pydantic adds for the members of a union; and the models that the last key may belong to."""
    here: list[type[BaseModel]] = [model]
    path: list[str] = []
    for part in loc:
        if len(here) > 1 and (tagged := [each for each in here if part in _tags(each)]):
            here = tagged
            continue
        path.append(str(part))
        below = [
            kind
            for each in here
            if part in each.model_fields
            for kind in _models(each.model_fields[str(part)].annotation)
        ]
        here = below or here
    return path, here


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    """What may stand in the path for this member of a union: its kinds, or the only key that it has."""
    field = model.model_fields.get("kind")
    if field and get_origin(field.annotation) is Literal:
        return get_args(field.annotation)
    return tuple(model.model_fields) if len(model.model_fields) == 1 else ()
