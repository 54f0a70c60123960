"""The space of a search: paths below `train`, and what each may be. Checked against train's own model before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from components.core.params import Strict, nearest

_Whole = int  # a field below is called `int`, as users write it
_Positive = Annotated[float, Field(gt=0)]
_KINDS = ("choice", "uniform", "loguniform", "int")


class Dimension(Strict):
    """What one path may be: exactly one of `choice`, `uniform`, `loguniform` and `int`; and `when` it is drawn at all."""

    choice: list[Any] | None = Field(None, min_length=1, description="Values to choose from.")
    uniform: Annotated[tuple[float, float], Field(strict=False)] | None = Field(
        None, description="Ends of a range of numbers, all equally likely."
    )
    loguniform: Annotated[tuple[_Positive, _Positive], Field(strict=False)] | None = Field(
        None, description="Ends of a range of numbers, each order of magnitude equally likely."
    )
    int: Annotated[tuple[_Whole, _Whole], Field(strict=False)] | None = Field(
        None, description="Ends of a range of whole numbers, both included."
    )
    when: dict[str, list[Any]] = Field(
        {}, description="Values of other paths, without which this path is not drawn."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Dimension:
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"needs exactly one of {', '.join(_KINDS)}; it has {' and '.join(given) or 'none'}"
            )
        if self.choice is None and self.ends()[0] >= self.ends()[1]:
            raise ValueError(f"the range [{self.ends()[0]}, {self.ends()[1]}] is empty")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, inner: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in inner(self).items() if value}

    def ends(self) -> list[Any]:
        """Values that must validate: all of a choice, the ends of a range."""
        return self.choice or list(self.uniform or self.loguniform or self.int or ())

    def values(self) -> list[Any] | None:
        """All that it can be; None if these cannot be counted."""
        return list(range(self.int[0], self.int[1] + 1)) if self.int else self.choice

    def may_be(self, value: Any) -> bool:
        """Whether it can be drawn as this value."""
        return (
            value in self.choice
            if self.choice
            else isinstance(value, float | _Whole) and self.ends()[0] <= value <= self.ends()[1]
        )

    def read(self, text: str) -> Any:
        """The value that `str` made this text of.

        Raises:
            ValueError: it cannot be drawn.
        """
        if self.choice:
            return self.choice[[str(value) for value in self.choice].index(text)]
        value = _Whole(text) if self.int else float(text)
        if not self.may_be(value):
            raise ValueError(f"{text!r} is outside the range")
        return value

    def sample(self, rng: np.random.Generator) -> Any:
        """One, each as likely; of `loguniform` each order of magnitude."""
        if self.choice:
            return self.choice[_Whole(rng.integers(len(self.choice)))]
        low, high = self.ends()
        if self.int:
            return rng.integers(low, high + 1).item()
        return (
            float(rng.uniform(low, high))
            if self.uniform
            else float(np.exp(rng.uniform(np.log(low), np.log(high))))
        )


Space = Mapping[str, Dimension]
Values = dict[str, Any]  # path -> value


def conditions(path: str, dimension: Dimension) -> dict[str, list[Any]]:
    """When a dimension is drawn: as its `when` says, and a net's knobs for that architecture only."""
    implicit = {"architecture": [path.split(".")[1]]} if path.startswith("nets.") else {}
    return {**dimension.when, **implicit}


# Of a fit: neither shapes nor batches depend on them.
_MUTABLE = {
    "learning_rate",
    "schedule_factor",
    "momentum",
    "weight_decay",
    "l1",
    "clip_norm",
    "label_smoothing",
    "focal_gamma",
    "ema",
}


def mutable(space: Space) -> list[str]:
    """The paths that may change while a net learns: rates, penalties and dropouts on which no other path's `when` depends."""
    asked = {other for dimension in space.values() for other in dimension.when}
    return sorted(
        path
        for path in space
        if (path in _MUTABLE or (path.startswith("nets.") and path.endswith("dropout")))
        and path not in asked
    )


def ordered(space: Space) -> list[str]:
    """The paths, each after those that its conditions name.

    Raises:
        ValueError: conditions go in a circle.
    """
    done: list[str] = []

    def visit(path: str, way: tuple[str, ...]) -> None:
        if path in way:
            raise ValueError(f"the conditions of {' -> '.join((*way, path))} go in a circle")
        if path not in done and path in space:
            for other in sorted(conditions(path, space[path])):
                visit(other, (*way, path))
            done.append(path)

    for path in sorted(space):
        visit(path, ())
    return done


def applies(path: str, space: Space, values: Mapping[str, Any], train: BaseModel) -> bool:
    """Whether a path is to be drawn, given what has been drawn of those that its conditions name."""
    tree = train.model_dump()
    return all(
        (values[other] if other in values else lookup(tree, other)) in allowed
        for other, allowed in conditions(path, space[path]).items()
    )


def assemble(space: Space, train: BaseModel, pick: Callable[[str, Dimension], Any]) -> Values:
    """Values for the paths that apply, picked one after the other."""
    values: Values = {}
    for path in ordered(space):
        if applies(path, space, values, train):
            values[path] = pick(path, space[path])
    return values


def lookup(tree: Any, path: str) -> Any:
    """What stands at a path; None if nothing does."""
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def settled(train: BaseModel, values: Mapping[str, Any]) -> BaseModel:
    """`train` with some values put at their paths, validated anew.

    Raises:
        ValidationError: a value is not allowed there.
    """
    tree = train.model_dump()
    for path, value in values.items():
        here = tree
        *way, last = path.split(".")
        for part in way:
            here = here[part]
        here[last] = value
    return type(train).model_validate(tree)


def allowed(train: BaseModel, values: Mapping[str, Any]) -> bool:
    """Whether `train` takes these values together."""
    try:
        settled(train, values)
    except ValidationError:
        return False
    return True


def check_space(space: Space, train: BaseModel) -> list[str]:
    """What is wrong with a space: unknown paths, values that `train` does not allow, conditions that cannot hold."""
    mistakes = [
        mistake
        for path, dimension in space.items()
        for mistake in [
            *_misplaced(path, dimension.ends(), f"tune.space.{path}", train),
            *_unmet(path, space, train),
        ]
    ]
    try:
        ordered(space)
    except ValueError as error:
        mistakes.append(f"tune.space: {error}")
    return mistakes


def _misplaced(path: str, values: list[Any], shown: str, train: BaseModel) -> Iterator[str]:
    here: Any = train.model_dump()
    for part in path.split("."):
        if not isinstance(here, dict) or part not in here:
            known = ", ".join(sorted(here)) if isinstance(here, dict) else "nothing"
            yield f"{shown}: train has no {part!r} there{nearest(part, here) if isinstance(here, dict) else ''}; known: {known}"
            return
        here = here[part]
    for value in values:
        try:
            settled(train, {path: value})
        except ValidationError as error:
            yield f"{shown}: {value!r}: {error.errors()[0]['msg']}"


def _unmet(path: str, space: Space, train: BaseModel) -> Iterator[str]:
    """Mistakes in a `when`: paths and values that do not exist, or that the search never has."""
    for other, values in space[path].when.items():
        shown = f"tune.space.{path}.when.{other}"
        if wrong := list(_misplaced(other, values, shown, train)):
            yield from wrong
        elif other in space:
            yield from (
                f"{shown}: {value!r} is not in tune.space.{other}"
                for value in values
                if not space[other].may_be(value)
            )
        elif (fixed := lookup(train.model_dump(), other)) not in values:
            yield f"{shown}: never holds: train.{other} is {fixed!r}, and tune.space does not vary it"
