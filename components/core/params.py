"""Params: strict pydantic models, read from YAML, with every mistake reported at once."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from components.core.errors import ParamsError

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """A section of params: frozen, without unknown keys.

    A string is never silently converted to a number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


def read_yaml(path: Path, shown: str | None = None) -> dict[str, Any]:
    """Read a YAML 1.2 mapping, in which `1e-3` is a number.

    Args:
        path: of the file.
        shown: how to call it in messages.

    Raises:
        ParamsError: missing file, malformed YAML, or not a mapping.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ParamsError(
            "there is no such params file",
            where=shown or str(path),
            remedy="gristmill new NAME --task T --data FILE",
        ) from None
    return parse_yaml(content, shown or path.name)


def parse_yaml(content: bytes, source: str) -> dict[str, Any]:
    """Parse a YAML 1.2 mapping.

    Args:
        content: in UTF-8.
        source: name of the file in messages.

    Raises:
        ParamsError: malformed YAML, or not a mapping.
    """
    from ruamel.yaml.error import YAMLError

    try:
        tree = copy.deepcopy(_yaml_tree(content))
    # An invalid date or number raises ValueError. Deep brackets exhaust the parser.
    except (YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ParamsError(
            f"is not readable YAML: {_yaml_mistake(error)}",
            where=source,
            remedy="mend the line named above",
        ) from None
    if not isinstance(tree, dict):
        raise ParamsError(
            "must hold a mapping of sections",
            where=source,
            remedy="compare it with the shipped params.yaml",
        )
    return tree


def _yaml_mistake(error: Exception) -> str:
    """Return what is wrong with a YAML file, with the line."""
    from ruamel.yaml.constructor import DuplicateKeyError

    if isinstance(error, DuplicateKeyError) and error.problem and error.problem_mark:
        key = error.problem.removeprefix("found duplicate key ").split(" with value ")[0]
        line = error.problem_mark.line + 1
        return f"line {line}: the key {key} is there already; put its lines below the first one"
    return str(error)


@lru_cache(maxsize=32)
def _yaml_tree(content: bytes) -> Any:
    """Return the value of a YAML file. It is shared, because a params.yaml takes 0.1 s to parse."""
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(content.decode("utf-8"))


def validate(
    model: type[M],
    tree: Mapping[str, Any],
    source: str,
    cross_check: Callable[[M], list[str]] = lambda _: [],
) -> M:
    """Check a tree against a model and report all mistakes together.

    Args:
        model: of the whole tree.
        tree: as it was read.
        source: name of the file in messages.
        cross_check: returns mistakes that the model cannot see, such as those between sections.
            It is called for a tree with mistakes too, with defaults in place of wrong values.

    Raises:
        ParamsError: one line a mistake: file, path, value, what is allowed, the nearest valid name.
    """
    try:
        valid: M | None = model.model_validate(tree)
        mistakes: list[str] = []
    except ValidationError as error:
        valid = _repaired(model, tree, error)
        mistakes = explain(model, error)
    if valid is not None:
        mistakes += cross_check(valid)
    if valid is None or mistakes:
        count = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "1 mistake"
        raise ParamsError(
            "\n".join(f"{source}: {mistake}" for mistake in mistakes),
            remedy=f"{count}; edit {source} and run the same command again",
        )
    return valid


def explain(model: type[BaseModel], error: ValidationError, prefix: str = "") -> list[str]:
    """Return one line for each mistake.

    Args:
        model: that was validated.
        error: of the validation.
        prefix: dotted path of the model in the tree.
    """
    return [_explain(model, mistake, prefix) for mistake in error.errors(include_url=False)]


def _repaired(model: type[M], tree: Mapping[str, Any], error: ValidationError) -> M | None:
    """Return the tree with defaults in place of wrong values, None where there is no default."""
    repaired: Any = copy.deepcopy(dict(tree))
    while True:
        entries = [
            _innermost(repaired, mistake["loc"]) for mistake in error.errors(include_url=False)
        ]
        wrong = [entry for entry in entries if entry is not None]
        for mapping, key in wrong:
            mapping.pop(key, None)
        try:
            return model.model_validate(repaired)
        except ValidationError as remaining:
            if not wrong:
                return None
            error = remaining


def _innermost(tree: Any, loc: Sequence[int | str]) -> tuple[dict[Any, Any], Any] | None:
    """Return the innermost mapping on the path of a mistake, and the key in it."""
    entry = None
    node = tree
    for part in loc:
        if isinstance(node, dict) and part in node:
            entry = (node, part)
            node = node[part]
    return entry


def _explain(model: type[BaseModel], mistake: ErrorDetails, prefix: str) -> str:
    """Return the line of one mistake."""
    keys, models = _follow(model, mistake["loc"])
    path = ".".join(part for part in (prefix, *keys) if part)
    if mistake["type"] == "extra_forbidden":
        return _explain_extra_key(path, str(mistake["loc"][-1]), models)
    if mistake["type"] == "union_tag_not_found":
        return f"{path}.{mistake['ctx']['discriminator']}: is missing".replace("'", "")
    if mistake["type"] == "missing":
        return f"{path}: is missing"
    if mistake["type"] in ("literal_error", "union_tag_invalid"):
        return _explain_choice(path, mistake)
    message = mistake["msg"].removeprefix("Value error, ")
    message = f"{message[0].lower()}{message[1:]}"
    value = mistake.get("input")
    # The message names what is wrong in a whole section. A secret must not be shown.
    if isinstance(value, dict) or mistake["type"] == "secret":
        return f"{path}: {message}"
    return f"{path}: {_short(value)}: {message}"


def _explain_extra_key(path: str, key: str, models: Sequence[type[BaseModel]]) -> str:
    """Return the line of a key that none of the models has."""
    names: set[str] = set()
    for model in models:
        names |= set(model.model_fields)
    listed = ", ".join(sorted(names))
    return f"{path}: is not a known key{nearest(key, sorted(names))}; known here: {listed}"


def _explain_choice(path: str, mistake: ErrorDetails) -> str:
    """Return the line of a value that is not one of those allowed."""
    context = mistake.get("ctx", {})
    expected = str(context.get("expected", context.get("expected_tags", "")))
    allowed = expected.replace("'", "").replace(" or ", ", ")
    value = context.get("tag", mistake.get("input"))
    hint = nearest(str(value), allowed.split(", "))
    return f"{path}: {value!r} is not one of {allowed}{hint}"


def _short(value: Any) -> str:
    text = repr(value)
    if len(text) <= 60:
        return text
    return f"{text[:57]}..."


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)`, or nothing where no name is similar.

    Of two names that share as many letters, the one of the same length wins: 'adamm' is a mistyped
    'adamw', not an 'adam' with one letter too many.
    """
    best = max((other for other in names if other), key=partial(_similarity, name), default="")
    if best and _similarity(name, best)[0] >= 0.5:
        return f" (did you mean {best!r}?)"
    return ""


def _similarity(name: str, other: str) -> tuple[float, int]:
    """Return the share of letters in common, then the negative difference in length."""
    matcher = difflib.SequenceMatcher(None, name.casefold(), other.casefold())
    common = sum(block.size for block in matcher.get_matching_blocks())
    share = common / max(len(name), len(other))
    return share, -abs(len(name) - len(other))


def _follow(
    model: type[BaseModel], loc: Sequence[int | str]
) -> tuple[list[str], list[type[BaseModel]]]:
    """Return the keys of a mistake as a person wrote them, and the models of the last key.

    pydantic adds a tag for the member of a union, which is left out.
    """
    models: list[type[BaseModel]] = [model]
    keys: list[str] = []
    for part in loc:
        tagged = [member for member in models if part in _tags(member)]
        if len(models) > 1 and tagged:
            models = tagged
            continue
        keys.append(str(part))
        below: list[type[BaseModel]] = []
        for member in models:
            if part in member.model_fields:
                below += _models(member.model_fields[str(part)].annotation)
        models = below or models
    return keys, models


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    """Return what pydantic calls this member of a union: its kinds, or its only key."""
    field = model.model_fields.get("kind")
    if field and get_origin(field.annotation) is Literal:
        return get_args(field.annotation)
    if len(model.model_fields) == 1:
        return tuple(model.model_fields)
    return ()
